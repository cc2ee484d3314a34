"""Marks in one store, messages to another: whoever dies at any step, no message is lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from celeriac.brokers.memory import MemoryBroker
from celeriac.clock import ENTROPY
from celeriac.errors import BrokerUnavailableError, EnqueueRejectedError, EnqueueUnknownError
from celeriac.model import BeatInfo, Mark, Outgoing, Tick, Ticked
from celeriac.scheduler import Relay
from celeriac.scheduler.beat import _must_wait
from celeriac.testing import ManualClock

T0 = 1_800_000_000
SECOND = 1_000_000
TIMEOUT_S = 5.0
LONG_S = 60.0


class Killed(BaseException):
    """The process ends here."""


class Faulty:
    """Calls through, and may raise before or after one of them has happened."""

    def __init__(self, real: Any, plan: list[tuple[str, BaseException]]) -> None:
        self._real = real
        self._plan = plan
        """What happens at each of the next calls: `fine`, `before` or `after`, and what is raised then."""

    def call(self, what: Any, *args: Any, **more: Any) -> Any:
        when, exc = self._plan.pop(0) if self._plan else ("fine", Killed())
        if when == "before":
            raise exc
        answer = what(*args, **more)
        if when == "after":
            raise exc
        return answer

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **more: self.call(getattr(self._real, name), *args, **more)


class Post:
    """The broker: what it took, by id."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.messages: list[Outgoing] = []
        self.failure: Exception | None = None
        self.refused: set[str] = set()
        self.meanwhile: Callable[[], None] | None = None
        """What happens once, while something is published."""

    def publish(self, messages: Any) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        if self.failure is not None:
            raise self.failure
        self.messages += [each for each in messages if each.id not in self.refused]
        self.taken += [each.id for each in messages if each.id not in self.refused]
        if bad := [each.id for each in messages if each.id in self.refused]:
            raise EnqueueRejectedError(f"refused: {bad}", task_ids=tuple(bad))


class Desk:
    """A store of marks, a broker, and relays between them."""

    def __init__(self) -> None:
        self.clock = ManualClock(float(T0))
        self.store = MemoryBroker(f"memory://relay{ENTROPY.getrandbits(64)}", clock=self.clock).schedules("shop")
        self.post = Post()

    def relay(self, *plan: tuple[str, BaseException], beats: bool = True) -> Relay:
        """One whose next calls to the store, and to the broker, go as planned."""
        faulty = Faulty(self.store, [])
        relay = Relay(
            faulty,
            lambda messages: faulty.call(self.post.publish, messages),
            timeout_s=TIMEOUT_S,
            clock=self.clock,
        )
        if beats:
            relay.hail(BeatInfo(name=f"b{id(relay)}", host="h", pid=1, started_at=0.0, looked_at=0.0), ttl_s=15.0)
            relay.look()
        faulty._plan += plan
        return relay


@pytest.fixture
def desk() -> Desk:
    return Desk()


def message(name: str, at: int, **fields: Any) -> Outgoing:
    return Outgoing(
        **{"id": f"{name}@{at}", "task": "t", "queue": "q", "headers": b"{}", "body": b"\x00\xff", **fields}
    )


def tick(after: int, at: int, name: str = "e", **fields: Any) -> Tick:
    return Tick(**{"name": name, "queue": "q", "after": after, "at": at, "message": message(name, at), **fields})


def mark_of(store: Any, name: str = "e") -> Mark:
    (mark,) = store.marks([(name, "q")])
    assert mark is not None
    return mark


def kill_at(number: int, when: str = "after") -> tuple[tuple[str, BaseException], ...]:
    return (*[("fine", Killed())] * number, (when, Killed()))


def test_a_mark_looks_as_in_any_store(desk: Desk) -> None:
    relay = desk.relay()
    assert relay.marks([("e", "q")]) == [None]
    (made,) = relay.tick([tick(0, 1, message=None, note="new", fingerprint="f", skipped=2)])
    assert made == Ticked("passed", Mark(at=1, fingerprint="f", note="new", skipped=2))
    (sent,) = relay.tick([tick(1, 7, fingerprint="f", skipped=3)])
    assert sent == Ticked("fired", Mark(at=7, fingerprint="f", task_id="e@7", fired_at=float(T0), runs=1, skipped=5))
    assert mark_of(relay) == sent.mark
    (lost,) = relay.tick([tick(1, 9)])
    assert lost == Ticked("lost", sent.mark)
    (passed,) = relay.tick([tick(7, 8, message=None, note="paused", fingerprint="f")])
    assert passed.mark == Mark(
        at=8, fingerprint="f", task_id="e@7", fired_at=float(T0), runs=1, skipped=5, note="paused"
    )
    assert desk.post.taken == ["e@7"]


def test_all_of_a_message_is_kept(desk: Desk) -> None:
    whole = message(
        "e", 1, priority=3, not_before=5.5, expires_at=9.25, native=True, exchange="x", routing_key="a.b",
        headers='{"ö":1}'.encode(), body=bytes(range(256)),
    )  # fmt: skip
    with pytest.raises(Killed):
        desk.relay(*kill_at(1)).tick([tick(0, 1, message=whole)])
    desk.clock.advance(LONG_S)
    other = desk.relay()
    assert mark_of(other).task_id == whole.id
    other.look()
    assert desk.post.messages == [whole]


def test_several_instants_of_one_entry_go_one_by_one(desk: Desk) -> None:
    ticks = [tick(at - 1, at) for at in range(1, 6)]
    assert [each.verdict for each in desk.relay().tick(ticks)] == ["fired"] * 5
    assert desk.post.taken == [f"e@{at}" for at in range(1, 6)]
    assert mark_of(desk.relay()).runs == 5


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_step(desk: Desk, number: int, when: str) -> None:
    """Of two entries and two instants each; another goes on at once, and looks again when there was time enough."""
    ticks = [tick(0, 1, "a"), tick(0, 1, "b"), tick(1, 2, "a"), tick(1, 2, "b")]
    with pytest.raises(Killed):
        desk.relay(*kill_at(number, when)).tick(ticks)
    other = desk.relay()
    other.marks([("a", "q"), ("b", "q")])
    for _ in range(2):
        for name in "ab":
            for at in (1, 2):
                other.tick([tick(at - 1, at, name)])
        desk.clock.advance(LONG_S)
        other.look()
    counts = Counter(desk.post.taken)
    assert set(counts) == {"a@1", "a@2", "b@1", "b@2"}
    assert sum(counts.values()) <= 6, "twice at most are those that were on their way"
    assert [(mark_of(other, name).at, mark_of(other, name).runs) for name in "ab"] == [(2, 2)] * 2
    stored = mark_of(desk.store, "a")
    assert stored.at == 2
    assert '"q"' not in stored.note, "nothing is carried any more"


def test_nothing_is_moved_on_while_its_message_may_be_on_its_way(desk: Desk) -> None:
    with pytest.raises(Killed):
        desk.relay(*kill_at(1)).tick([tick(0, 1)])
    other = desk.relay()
    assert other.tick([tick(1, 2)])[0].verdict == "lost"
    assert not desk.post.taken
    desk.clock.advance(LONG_S)
    assert other.tick([tick(1, 2)])[0].verdict == "fired"
    assert desk.post.taken == ["e@1", "e@2"]


def test_of_many_that_find_it_one_sends(desk: Desk) -> None:
    with pytest.raises(Killed):
        desk.relay(*kill_at(1)).tick([tick(0, 1)])
    others = [desk.relay() for _ in range(3)]
    for other in others:
        other.marks([("e", "q")])
    desk.clock.advance(LONG_S)
    for other in others:
        other.look()
    assert desk.post.taken == ["e@1"]


def test_who_is_on_it_is_left_alone(desk: Desk) -> None:
    """While one publishes, for as long as that may take, nobody else does, nor moves the mark on."""
    first, second = desk.relay(), desk.relay()

    verdicts: list[str] = []

    def meanwhile() -> None:
        desk.clock.advance(TIMEOUT_S)
        verdicts.append(second.tick([tick(1, 2)])[0].verdict)
        second.look()

    desk.post.meanwhile = meanwhile
    first.tick([tick(0, 1)])
    assert verdicts == ["lost"]
    assert desk.post.taken == ["e@1"]


def test_two_that_ask_at_once(desk: Desk) -> None:
    with pytest.raises(Killed):
        desk.relay(*kill_at(1)).tick([tick(0, 1)])
    desk.clock.advance(LONG_S)
    first, second = desk.relay(), desk.relay()
    (seen,) = second._read([("e", "q")])
    assert seen is not None

    got: list[Any] = []
    desk.post.meanwhile = lambda: got.append(second._take_over({"e": seen}))  # what it has read is out of date by now
    first.tick([tick(1, 2)])
    assert got == [{}]
    assert desk.post.taken == ["e@1", "e@2"]


def test_who_only_looks_sends_nothing(desk: Desk) -> None:
    with pytest.raises(Killed):
        desk.relay(*kill_at(1)).tick([tick(0, 1)])
    desk.clock.advance(LONG_S)
    looker = desk.relay(beats=False)
    assert mark_of(looker).at == 1
    looker.look()
    assert not desk.post.taken


@pytest.mark.parametrize("failure", [BrokerUnavailableError("away"), EnqueueUnknownError("lost")])
def test_while_the_broker_is_away_one_instant_waits(desk: Desk, failure: Exception) -> None:
    relay = desk.relay()
    desk.post.failure = failure
    with pytest.raises(type(failure)):
        relay.tick([tick(0, 1)])
    assert mark_of(relay) == Mark(at=1, task_id="e@1", fired_at=float(T0), runs=1)
    for _ in range(3):
        desk.clock.advance(LONG_S)
        with pytest.raises(type(failure)):
            relay.look()
        with pytest.raises(type(failure)):
            relay.tick([tick(0, 1, "other")])
    assert relay.marks([("other", "q")]) == [None]
    desk.post.failure = None
    relay.look()
    assert desk.post.taken == ["e@1"]
    assert mark_of(relay).at == mark_of(desk.store).at == 1
    assert relay.tick([tick(0, 1, "other")])[0].verdict == "fired"


def test_an_outage_leaves_it_to_who_has_begun(desk: Desk) -> None:
    first, second = desk.relay(), desk.relay()
    desk.post.failure = BrokerUnavailableError("away")
    with pytest.raises(BrokerUnavailableError):
        first.tick([tick(0, 1)])
    for _ in range(10):
        desk.clock.advance(1.0)
        with pytest.raises(BrokerUnavailableError):
            first.look()
        assert second.tick([tick(1, 2)])[0].verdict == "lost"
        second.look()
    desk.post.failure = None
    second.look()
    assert not desk.post.taken
    first.look()
    second.look()
    assert desk.post.taken == ["e@1"]


@pytest.mark.parametrize("has_past", [False, True])
def test_a_message_that_is_refused_leaves_the_mark_where_it_was(desk: Desk, has_past: bool) -> None:
    relay, before = desk.relay(), None
    if has_past:
        before = relay.tick([tick(0, 1), tick(0, 1, "f")])[0].mark
    desk.post.refused = {"e@2"}
    after = 1 if has_past else 0
    with pytest.raises(EnqueueRejectedError, match="e@2"):
        relay.tick([tick(after, 2, skipped=3), tick(after, 2, "f")])
    assert relay.marks([("e", "q")]) == [before]
    assert mark_of(relay, "f").task_id == "f@2"
    desk.post.refused = set()
    assert relay.tick([tick(after, 2, skipped=3)])[0].mark == Mark(
        at=2, task_id="e@2", fired_at=float(T0), runs=1 + has_past, skipped=3
    )


def test_what_has_no_form_is_refused(desk: Desk) -> None:
    relay = desk.relay()
    desk.post.failure = ValueError("no form")
    with pytest.raises(EnqueueRejectedError, match="no form"):
        relay.tick([tick(0, 1)])
    assert relay.marks([("e", "q")]) == [None]


def test_what_is_found_and_refused_is_dropped_with_a_word(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Killed):
        desk.relay(*kill_at(1)).tick([tick(0, 1)])
    desk.clock.advance(LONG_S)
    desk.post.refused = {"e@1"}
    assert desk.relay().tick([tick(1, 2)])[0].verdict == "fired"
    assert "'e' is dropped: refused" in caplog.text
    assert desk.post.taken == ["e@2"]


def test_whether_the_last_has_ended_cannot_be_known(desk: Desk) -> None:
    with pytest.raises(EnqueueRejectedError, match="overlap='skip'"):
        desk.relay().tick([tick(0, 1, unless_live=True)])


def test_what_an_exchange_hands_on_goes_out_when_it_is_due() -> None:
    """Nothing holds it back, so it has no part in a rush."""
    assert _must_wait(tick(0, 5, message=message("e", 5, exchange="x")), 4)
    assert not _must_wait(tick(0, 5, message=message("e", 5)), 4)
    assert not _must_wait(tick(0, 5, message=message("e", 5, exchange="x")), 5)


def test_marks_from_when_the_store_was_the_broker(desk: Desk) -> None:
    desk.store.tick([tick(0, 1, message=None, note="new"), tick(1, 2)])
    assert mark_of(desk.relay()) == mark_of(desk.store)
    assert desk.relay().tick([tick(2, 3)])[0].mark == Mark(at=3, task_id="e@3", fired_at=float(T0), runs=2)


def test_random_histories(desk: Desk) -> None:
    """Three beats that die, lose answers, and fall behind: each instant is there, doubled only where one went away."""
    seed = ENTROPY.getrandbits(32)
    print(f"seed={seed}")
    luck = random.Random(seed)
    ends: list[BaseException] = [Killed(), BrokerUnavailableError("lost"), EnqueueUnknownError("lost")]
    relays = [desk.relay() for _ in range(3)]
    faults = 0
    for _ in range(600):
        place = luck.randrange(3)
        names = luck.sample("abcd", luck.randint(1, 3))
        if luck.random() < 0.3:
            relays[place]._store._plan[:] = [  # type: ignore[attr-defined]
                *[("fine", Killed())] * luck.randrange(8), (luck.choice(("before", "after")), luck.choice(ends))
            ]  # fmt: skip
        faults += 1
        try:
            found = relays[place].marks([(name, "q") for name in names])
            ticks = []
            for name, mark in zip(names, found, strict=True):
                at = 0 if mark is None else mark.at
                ticks += [tick(at + n * SECOND, at + (n + 1) * SECOND, name) for n in range(luck.randint(1, 3))]
            relays[place].tick(ticks)
            relays[place].look()
            faults -= 1
        except Killed:
            relays[place] = desk.relay()
        except (BrokerUnavailableError, EnqueueUnknownError):
            pass
        if luck.random() < 0.2:
            desk.clock.advance(luck.choice((0.5, 3.0, LONG_S)))
    last = desk.relay()
    desk.clock.advance(LONG_S)
    marks = last.marks([(name, "q") for name in "abcd"])
    last.look()
    counts = Counter(desk.post.taken)
    expected = {
        f"{name}@{at}"
        for name, mark in zip("abcd", marks, strict=True)
        if mark is not None
        for at in range(SECOND, mark.at + 1, SECOND)
    }
    assert set(counts) == expected
    assert sum(mark.runs for mark in marks if mark is not None) == len(expected) > 100
    assert sum(counts.values()) - len(counts) <= 4 * faults
