"""A model test of schedules: long random histories of ticks, messages that end, changed rows, and beats.

Invariants: a mark moves from where it stands only, and its message comes with it or not at all; nothing is published
twice, and nothing that is kept out; a look shows each change since the one before, in order; no row is overwritten
unseen; a scope sees nothing of another.

A machine of its own: as one more rule of `BrokerMachine` it would take the turns in which that one finds its bugs.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import msgspec
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from celeriac.errors import ScheduleChangedError
from celeriac.model import (
    BeatInfo,
    Bury,
    Done,
    Later,
    Mark,
    Outgoing,
    Release,
    ScheduleRow,
    Settled,
    Tick,
    Ticked,
    Unique,
    new_incarnation,
)
from celeriac.testing.clocks import ManualClock
from celeriac.testing.conformance.stage import result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractContextManager

    from celeriac.interfaces import Broker, ResultStore
    from celeriac.model import Delivery, Outcome

SCOPES = ("one", "two")
NAMES = ("x", "y")
KINDS = ("fires", "unless live", "unless live", "unique", "delayed", "passes", "stale")
ENDS = ("done", "done with result", "bury", "release", "later")
TTL_S = 30.0


class ScheduleMachine(RuleBasedStateMachine):
    """The machine; `check_schedule_model` runs it."""

    open_store: Callable[[ManualClock], AbstractContextManager[tuple[Broker, ResultStore | None]]]

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.loop = asyncio.new_event_loop()
        self.exits = ExitStack()
        self.broker, self.results = self.exits.enter_context(type(self).open_store(self.clock))
        self.stores = {scope: self.broker.schedules(scope) for scope in SCOPES}
        self.consumer: Any = None
        self.marks: dict[tuple[str, str], Mark] = {}
        self.live: dict[str, Outgoing] = {}
        self.held: dict[str, Delivery] = {}
        self.dead: set[str] = set()
        self.finished: set[str] = set()
        """Those whose final result is stored."""
        self.lock = ""
        """The message that holds the unique key, if it lives."""
        self.rows: dict[str, dict[str, ScheduleRow]] = {scope: {} for scope in SCOPES}
        self.revisions = dict.fromkeys(SCOPES, 0)
        self.beats: dict[tuple[str, str], float] = {}

    def teardown(self) -> None:
        try:
            self.run(self.consumer.close())
            self.exits.close()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    @initialize()
    def begin(self) -> None:
        """The last message of one entry runs, that of another is a dead letter."""
        self.consumer = self.run(self.broker.open_consumer(["q"], incarnation=new_incarnation(), lease_s=1e9))
        self.tick("one", [(name, "fires", 1) for name in NAMES])
        self.claim(2)
        self.end(min(self.held), "bury")

    # -- marks and messages

    @rule(
        scope=st.sampled_from(SCOPES),
        drawn=st.lists(
            st.tuples(st.sampled_from(NAMES), st.sampled_from(KINDS), st.integers(1, 6)), min_size=1, max_size=4
        ),
    )
    def tick(self, scope: str, drawn: list[tuple[str, str, int]]) -> None:
        """Instants are few, so that after a step back the same ids come again."""
        ticks, expected = [], []
        for name, kind, at in drawn:
            tick = self.draft(scope, name, kind, at)
            ticks.append(tick)
            expected.append(self.apply(scope, tick))
        answers = list(self.stores[scope].tick(ticks))
        assert answers == expected, f"ticks were answered {answers}, not {expected}"

    def draft(self, scope: str, name: str, kind: str, at: int) -> Tick:
        mark = self.marks.get((scope, name))
        stood = 0 if mark is None else mark.at
        message = Outgoing(
            id=f"{scope}.{name}.{at}{'.unique' if kind == 'unique' else ''}",
            task="model",
            queue="q",
            headers=b"{}",
            body=b"",
            not_before=self.clock.time() + 10 if kind == "delayed" and self.broker.traits.native_delay else None,
            unique=Unique(key="k", ttl_s=1e9) if kind == "unique" and self.broker.traits.unique else None,
        )
        return Tick(
            name=name,
            queue="q",
            after=stood + 1 if kind == "stale" else stood,
            at=at,
            fingerprint=kind,
            message=None if kind == "passes" else message,
            skipped=at if kind == "passes" else 0,
            note=kind,
            unless_live=kind == "unless live",
        )

    def apply(self, scope: str, tick: Tick) -> Ticked:
        """What must become of it, one tick after the other."""
        old, message = self.marks.get((scope, tick.name)), tick.message
        if (0 if old is None else old.at) != tick.after:
            return Ticked("lost", old)
        mark = old or Mark(at=0)
        verdict, changes = "passed", {"skipped": mark.skipped + tick.skipped, "note": tick.note}
        if message is not None:
            if (tick.unless_live and mark.task_id in self.live) or not self.take_in(message):
                verdict, changes = "overlap", {"skipped": mark.skipped + tick.skipped + 1, "note": "overlap"}
            else:
                verdict, changes["note"] = "fired", ""
                changes |= {"task_id": message.id, "fired_at": self.clock.time(), "runs": mark.runs + 1}
        mark = msgspec.structs.replace(mark, at=tick.at, fingerprint=tick.fingerprint, **changes)
        self.marks[scope, tick.name] = mark
        return Ticked(verdict, mark)  # type: ignore[arg-type]

    def take_in(self, message: Outgoing) -> bool:
        """Publish in the model; False: its unique key is held."""
        if message.id in {*self.live, *self.dead, *self.finished}:
            return True
        if message.unique is not None:
            if self.lock:
                return False
            self.lock = message.id
        self.live[message.id] = message
        return True

    @rule(limit=st.integers(1, 4))
    def claim(self, limit: int) -> None:
        due = [
            message
            for message in self.live.values()
            if message.id not in self.held and (message.not_before or 0.0) <= self.clock.time()
        ]
        for delivery in self.run(self.consumer.claim(limit=limit, wait_s=0)):
            assert delivery.id in {message.id for message in due}, f"{delivery.id} was handed out, which is not due"
            self.held[delivery.id] = delivery
        assert len(self.held.keys() & {message.id for message in due}) == min(limit, len(due)), "too few were there"

    @precondition(lambda self: bool(self.held))
    @rule(data=st.data(), end=st.sampled_from(ENDS))
    def settle(self, data: st.DataObject, end: str) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.held))), end)

    def end(self, task_id: str, end: str) -> None:
        delivery = self.held.pop(task_id)
        message = self.live[task_id]
        outcome: Outcome = Done(delivery=delivery)
        if end == "done with result" and self.results is not None:
            outcome = Done(delivery=delivery, result=result_of(task_id))
            self.finished.add(task_id)
        elif end == "bury":
            outcome = Bury(delivery=delivery, reason="model")
            self.dead.add(task_id)
        elif end == "release":
            outcome = Release(delivery=delivery)
        elif end == "later":
            outcome = Later(delivery=delivery, message=message)
        assert list(self.run(self.consumer.settle([outcome]))) == [Settled.OK]
        if end not in ("release", "later"):
            self.drop(task_id)

    def drop(self, task_id: str) -> None:
        del self.live[task_id]
        if self.lock == task_id:
            self.lock = ""

    @rule()
    def purge(self) -> None:
        waiting = [task_id for task_id in self.live if task_id not in self.held]
        assert self.broker.purge(["q"]) == len(waiting)
        for task_id in waiting:
            self.drop(task_id)

    @precondition(lambda self: bool(self.dead))
    @rule(data=st.data(), revive=st.booleans())
    def handle_dead(self, data: st.DataObject, revive: bool) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.dead)))
        self.dead.remove(task_id)
        if revive:
            assert self.broker.revive([task_id]) == 1
            self.live[task_id] = Outgoing(id=task_id, task="model", queue="q", headers=b"{}", body=b"")
        else:
            assert self.broker.drop_dead([task_id]) == 1

    @rule(scope=st.sampled_from(SCOPES), name=st.sampled_from(NAMES))
    def forget(self, scope: str, name: str) -> None:
        there = self.marks.pop((scope, name), None)
        assert self.stores[scope].forget([(name, "q"), ("nobody", "q")]) == (there is not None)

    @rule(seconds=st.sampled_from((1.0, 12.0, 31.0)))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # -- rows and beats

    @rule(
        scope=st.sampled_from(SCOPES),
        name=st.sampled_from(NAMES),
        change=st.sampled_from(["added", "changed", "removed"]),
        expected=st.sampled_from(["right", "right", "none", "older"]),
    )
    def put(self, scope: str, name: str, change: str, expected: str) -> None:
        old = self.rows[scope].get(name)
        stands = 0 if old is None or old.removed else old.revision
        said = {"right": stands, "none": 0, "older": max(0, self.revisions[scope] - 1)}[expected]
        row = ScheduleRow(name=name, change=change, removed=change == "removed", spec=change.encode())
        if said != stands:
            try:
                self.stores[scope].put(row, expected=said)
            except ScheduleChangedError as exc:
                shown = exc.row
            else:
                raise AssertionError(f"{name!r} stands at {stands} and was overwritten from {said}")
            assert shown == old, f"the conflict shows {shown}, not {old}"
            return
        stored = self.stores[scope].put(row, expected=said)
        assert stored.revision > self.revisions[scope], "a revision came twice"
        assert stored == msgspec.structs.replace(row, revision=stored.revision, changed_at=self.clock.time())
        self.revisions[scope] = stored.revision
        self.rows[scope][name] = stored

    @rule(scope=st.sampled_from(SCOPES), since=st.integers(0, 3))
    def look(self, scope: str, since: int) -> None:
        """From the beginning, or from some changes ago."""
        revision = self.revisions[scope] - since if since < 3 else 0
        revision = max(0, revision)
        news = self.stores[scope].look(revision)
        rows = sorted(self.rows[scope].values(), key=lambda row: row.revision)
        expected = tuple(row for row in rows if row.revision > revision)
        assert news.rows == expected, f"since {revision}, {news.rows} are shown, not {expected}"
        assert news.now == self.clock.time()
        assert not rows or news.revision == self.revisions[scope]

    @rule(scope=st.sampled_from(SCOPES), name=st.sampled_from(NAMES), leaves=st.booleans())
    def hail(self, scope: str, name: str, leaves: bool) -> None:
        info = BeatInfo(name=name, host=scope, pid=1, started_at=0.0, looked_at=self.clock.time())
        self.stores[scope].hail(info, ttl_s=0 if leaves else TTL_S)
        self.beats[scope, name] = 0.0 if leaves else self.clock.monotonic() + TTL_S

    # -- invariants

    @invariant()
    def marks_stand_where_they_were_left(self) -> None:
        for scope, store in self.stores.items():
            marks, expected = (
                list(store.marks([(name, "q") for name in NAMES])),
                [self.marks.get((scope, name)) for name in NAMES],
            )
            assert marks == expected, f"marks stand at {marks}, not {expected}"

    @invariant()
    def nothing_is_lost_or_invented(self) -> None:
        shown = sorted((each.id, each.state == "dead") for each in self.broker.peek(limit=1000))
        assert shown == sorted([*((key, False) for key in self.live), *((key, True) for key in self.dead)])

    @invariant()
    def beats_are_there_until_their_time_is_over(self) -> None:
        now = self.clock.monotonic()
        for scope, store in self.stores.items():
            there = [name for name in NAMES if self.beats.get((scope, name), 0.0) > now]
            assert [(each.name, each.host) for each in store.beats()] == [(name, scope) for name in there]


def check_schedule_model(
    open_store: Callable[[ManualClock], AbstractContextManager[tuple[Broker, ResultStore | None]]],
    *,
    settings: settings | None = None,
    examples: int = 60,
    steps: int = 40,
) -> None:
    """Run random histories of schedules against an adapter whose `traits.schedules` says that it keeps them.

    Args:
        open_store: As for `check_broker_model`.
        settings: Hypothesis settings in place of the default ones.
        examples: How many histories.
        steps: How long each is at most.

    Raises:
        AssertionError: The adapter does not do what the model says; Hypothesis prints the shortest history.
    """
    machine = type("ScheduleMachine", (ScheduleMachine,), {"open_store": staticmethod(open_store)})
    run_state_machine_as_test(
        machine, settings=settings or _default_settings(max_examples=examples, stateful_step_count=steps)
    )


def _default_settings(**chosen: Any) -> settings:
    return settings(deadline=None, suppress_health_check=list(HealthCheck), **chosen)
