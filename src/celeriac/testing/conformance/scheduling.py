"""What is promised of the marks of schedules, and of what is said of entries at run time."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import warnings
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from celeriac.errors import EnqueueRejectedError, ScheduleChangedError
from celeriac.model import (
    Admission,
    BeatInfo,
    Bury,
    Cancellation,
    Done,
    Later,
    Mark,
    Release,
    ScheduleRow,
    Tick,
    Ticked,
    Unique,
)
from celeriac.testing.clocks import ManualClock
from celeriac.testing.conformance.stage import (
    DEADLINE_S,
    BrokerStage,
    Consume,
    background,
    elapse,
    ids_of,
    outgoing,
    result_of,
    skip_unless,
    take,
    take_one,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeriac.clock import Clock
    from celeriac.interfaces import Broker, Consumer, ResultStore, ScheduleStore
    from celeriac.model import Outgoing

LONG_S = 3600.0
LONG_US = 3_600_000_000
T0 = 1_800_000_000_000_000
"""An instant."""
LAST = 2**53 - 1
"""The largest instant there is, in the year 2255."""
NAMES = [
    "nightly",
    "köln-☃ 🥬 队列",
    "a:b",
    "a:b:c",
    "{a}:b",
    "}{",
    "two words\n\tand lines",
    "quo'te\"d",
    "%_*?[x]",
    "\\u0041",
    "A",
    "a",
    "é",
    "e\u0301",
    "n" * 300,
]
ENDINGS = ("done", "buried", "canceled", "purged")
LIVING = ("ready", "delayed", "held", "retried", "released", "revived")


def tick(name: str = "e", after: int = 0, at: int = T0, message: Outgoing | None = None, **fields: Any) -> Tick:
    """A tick; its queue is the message's, or `q`."""
    queue = fields.pop("queue", "q" if message is None else message.queue)
    return Tick(name=name, queue=queue, after=after, at=at, message=message, **fields)


def row(name: str = "e", **fields: Any) -> ScheduleRow:
    return ScheduleRow(**{"name": name, "change": "added", "changed_by": "ann@web1", **fields})


def beat(name: str = "beat@web1:7", **fields: Any) -> BeatInfo:
    there: dict[str, Any] = {"host": "web1", "pid": 7, "started_at": 1.25, "looked_at": 2.5, "entries": 3}
    return BeatInfo(name=name, **{**there, "version": "1.0", **fields})


def mark_of(store: ScheduleStore, name: str = "e", queue: str = "q") -> Mark:
    """The mark that must be there."""
    (mark,) = store.marks([(name, queue)])
    assert mark is not None
    return mark


class SchedulingTests(BrokerStage):
    @pytest.fixture
    def schedules(self, broker: Broker) -> ScheduleStore:
        skip_unless(broker.traits.schedules, "schedules")
        return broker.schedules("shop")

    # -- marks ----------------------------------------------------------------------------------------------------

    async def test_a_store_says_where_it_is(self, broker: Broker, schedules: ScheduleStore) -> None:
        assert schedules.url == broker.url

    async def test_no_entry_has_a_mark_at_first(self, schedules: ScheduleStore) -> None:
        assert list(schedules.marks([("e", "q"), ("f", "r")])) == [None, None]
        assert not schedules.marks([])
        assert not schedules.tick([])

    async def test_the_first_tick_makes_the_mark(self, broker: Broker, schedules: ScheduleStore) -> None:
        (made,) = schedules.tick([tick(at=T0, fingerprint="f1", note="met", skipped=2)])
        assert made == Ticked("passed", Mark(at=T0, fingerprint="f1", note="met", skipped=2))
        assert mark_of(schedules) == made.mark
        assert not broker.peek()

    async def test_a_mark_is_made_only_where_there_is_none(self, broker: Broker, schedules: ScheduleStore) -> None:
        (made,) = schedules.tick([tick(at=T0, fingerprint="f1")])
        (lost,) = schedules.tick([tick(at=T0 + 5, fingerprint="f2", message=outgoing())])
        assert lost == Ticked("lost", made.mark)
        assert mark_of(schedules) == made.mark
        assert not broker.peek()

    async def test_no_mark_is_nowhere_but_at_zero(self, broker: Broker, schedules: ScheduleStore) -> None:
        assert list(schedules.tick([tick(after=T0, at=T0 + 1, message=outgoing())])) == [Ticked("lost", None)]
        assert list(schedules.marks([("e", "q")])) == [None]
        assert not broker.peek()

    @pytest.mark.parametrize("stood", [T0 - 1, T0 + 1, 1], ids=["before", "after", "far"])
    async def test_a_mark_that_stands_elsewhere_stays(
        self, broker: Broker, schedules: ScheduleStore, stood: int
    ) -> None:
        (made,) = schedules.tick([tick(at=T0)])
        (lost,) = schedules.tick([tick(after=stood, at=T0 + 9, message=outgoing(), skipped=1)])
        assert lost == Ticked("lost", made.mark)
        assert mark_of(schedules) == made.mark
        assert not broker.peek()

    async def test_a_tick_publishes_and_says_so(self, schedules: ScheduleStore, consume: Consume, clock: Clock) -> None:
        schedules.tick([tick(at=T0)])
        message = outgoing(headers=b'{"task":"shop.tidy"}', body=b"[[],{},{}]", task="shop.tidy")
        before = schedules.look().now
        (fired,) = schedules.tick([tick(after=T0, at=T0 + 1, message=message, fingerprint="f", skipped=4, note="late")])
        after = schedules.look().now
        mark = fired.mark
        assert mark is not None
        assert fired.verdict == "fired"
        assert (mark.at, mark.fingerprint, mark.task_id, mark.runs, mark.skipped, mark.note) == (
            T0 + 1,
            "f",
            message.id,
            1,
            4,
            "",
        )
        assert before - 0.01 <= mark.fired_at <= after + 0.01, "by the store's clock"
        assert mark_of(schedules) == mark
        got = await take_one(await consume("q"))
        assert (got.id, got.queue, got.headers, got.body, got.deliveries) == (
            message.id,
            "q",
            message.headers,
            message.body,
            1,
        )
        (passed,) = schedules.tick([tick(after=T0 + 1, at=T0 + 2, note="none", skipped=1, fingerprint="g")])
        assert passed.mark is not None
        assert passed.verdict == "passed"
        assert (passed.mark.at, passed.mark.fingerprint, passed.mark.note) == (T0 + 2, "g", "none")
        assert (passed.mark.runs, passed.mark.skipped) == (1, 5)
        assert (passed.mark.task_id, passed.mark.fired_at) == (message.id, mark.fired_at), "of the last message"

    async def test_the_first_tick_of_all_may_have_a_message(self, schedules: ScheduleStore, consume: Consume) -> None:
        (fired,) = schedules.tick([tick(at=T0, message=(message := outgoing()))])
        assert fired.verdict == "fired"
        assert fired.mark is not None
        assert (fired.mark.at, fired.mark.task_id, fired.mark.runs) == (T0, message.id, 1)
        assert ids_of(await take(await consume("q"))) == [message.id]

    async def test_a_repeated_tick_is_lost_and_the_mark_tells_its_message(
        self, schedules: ScheduleStore, consume: Consume
    ) -> None:
        """So whoever lost an answer learns what has become of it."""
        again = tick(at=T0, message=(message := outgoing()))
        (fired,) = schedules.tick([again])
        (lost,) = schedules.tick([again])
        assert lost == Ticked("lost", fired.mark)
        assert lost.mark is not None
        assert lost.mark.task_id == message.id
        assert ids_of(await take(await consume("q"))) == [message.id]

    async def test_an_id_that_is_live_counts_as_published(
        self, broker: Broker, schedules: ScheduleStore, consume: Consume
    ) -> None:
        broker.publish([message := outgoing(body=b"first")])
        (fired,) = schedules.tick([tick(message=outgoing(id=message.id, body=b"second"))])
        assert fired.verdict == "fired"
        assert fired.mark is not None
        assert (fired.mark.task_id, fired.mark.runs) == (message.id, 1)
        (got,) = await take(await consume("q"))
        assert (got.id, got.body) == (message.id, b"first")

    async def test_a_task_that_has_its_result_is_not_published_again(
        self, broker: Broker, schedules: ScheduleStore, results: ResultStore
    ) -> None:
        message = outgoing()
        results.put([result_of(message.id)])
        (fired,) = schedules.tick([tick(message=message)])
        assert fired.verdict == "fired"
        assert not broker.peek()

    async def test_a_mark_can_step_back_or_stay(self, schedules: ScheduleStore, consume: Consume) -> None:
        schedules.tick([tick(at=T0)])
        (back,) = schedules.tick([tick(after=T0, at=T0 - LONG_US, fingerprint="x", note="clock")])
        assert back.verdict == "passed"
        assert mark_of(schedules).at == T0 - LONG_US
        (stays,) = schedules.tick([tick(after=T0 - LONG_US, at=T0 - LONG_US, fingerprint="y")])
        assert stays.verdict == "passed"
        assert mark_of(schedules).fingerprint == "y"
        (fired,) = schedules.tick([tick(after=T0 - LONG_US, at=T0 - LONG_US - 1, message=(message := outgoing()))])
        assert fired.verdict == "fired"
        assert ids_of(await take(await consume("q"))) == [message.id]

    async def test_instants_are_exact(self, schedules: ScheduleStore) -> None:
        stood = 0
        for at in (1, 2, 10**15, 10**15 + 1, T0, T0 + 1, LAST - 1, LAST, 10**12):
            assert schedules.tick([tick(after=stood, at=at)])[0].verdict == "passed"
            assert schedules.tick([tick(after=at - 1, at=7)])[0].verdict == "lost"
            assert schedules.tick([tick(after=at + 1, at=7)])[0].verdict == "lost"
            assert mark_of(schedules).at == at
            stood = at

    async def test_names_are_any_text(self, schedules: ScheduleStore, broker: Broker) -> None:
        queues = ["q", "a:b", "{q}"]
        entries = [(name, queue) for queue, name in zip(queues * len(NAMES), NAMES, strict=False)]
        ticks = [
            tick(name, at=T0 + index, message=outgoing(queue), fingerprint=name, note=name)
            for index, (name, queue) in enumerate(entries)
        ]
        assert [each.verdict for each in schedules.tick(ticks)] == ["fired"] * len(NAMES)
        marks = schedules.marks(entries)
        assert [(mark.at, mark.fingerprint, mark.task_id) for mark in marks if mark is not None] == [
            (each.at, each.name, each.message.id) for each in ticks if each.message is not None
        ]
        for name in NAMES:
            stored = schedules.put(row(name, spec=name.encode(), changed_by=name), expected=0)
            assert (stored.name, stored.spec, stored.changed_by) == (name, name.encode(), name)
        assert [each.name for each in schedules.look().rows] == NAMES
        for name in NAMES:
            schedules.hail(beat(name, host=name), ttl_s=LONG_S)
        assert [each.name for each in schedules.beats()] == sorted(NAMES)
        assert schedules.forget(entries[:3]) == 3
        assert [mark is None for mark in schedules.marks(entries)] == [True] * 3 + [False] * (len(NAMES) - 3)
        assert sum(depth.ready for depth in broker.depth().values()) == len(NAMES)

    async def test_scopes_are_worlds_of_their_own(self, broker: Broker, schedules: ScheduleStore) -> None:
        others = [broker.schedules(scope) for scope in ("other", "", "shop:e", "{shop}", "Shop", "köln ☃")]
        schedules.tick([tick("e", at=T0), tick("e:f", at=T0)])
        schedules.put(row("e"), expected=0)
        schedules.hail(beat(), ttl_s=LONG_S)
        for other in others:
            assert list(other.marks([("e", "q"), ("e:f", "q"), ("f", "q"), (":e", "q"), ("", "q")])) == [None] * 5
            assert not other.look().rows
            assert not other.beats()
            assert other.forget([("e", "q")]) == 0
            assert other.tick([tick("e", at=T0 + 3)])[0].verdict == "passed"
            other.put(row("e", change="paused", paused=True), expected=0)
            other.hail(beat(), ttl_s=0)
        assert mark_of(schedules).at == T0
        assert [each.paused for each in schedules.look().rows] == [False]
        assert beats_of(schedules) == ["beat@web1:7"]
        assert broker.schedules("shop").look().rows == schedules.look().rows, "opened twice, it is the same"

    async def test_two_thousand_at_once(self, schedules: ScheduleStore, broker: Broker) -> None:
        entries = [(f"entry {index}", f"q{index % 7}") for index in range(2000)]
        made = schedules.tick(
            [tick(name, at=T0 + i, queue=queue, fingerprint="f") for i, (name, queue) in enumerate(entries)]
        )
        assert [each.verdict for each in made] == ["passed"] * 2000
        asked = [("nobody", "q"), *reversed(entries)]
        marks = schedules.marks(asked)
        assert [None if mark is None else mark.at for mark in marks] == [None, *range(T0 + 1999, T0 - 1, -1)]
        fired = schedules.tick(
            [
                tick(name, after=T0 + i, at=T0 + LONG_US + i, message=outgoing(queue))
                for i, (name, queue) in enumerate(entries)
            ]
        )
        assert [each.verdict for each in fired] == ["fired"] * 2000
        assert sum(depth.ready for depth in broker.depth().values()) == 2000
        assert schedules.forget([*entries, ("nobody", "q")]) == 2000
        assert list(schedules.marks(entries)) == [None] * 2000

    async def test_a_forgotten_mark_is_made_anew(self, schedules: ScheduleStore) -> None:
        schedules.tick([tick("e", at=T0, message=outgoing()), tick("f", at=T0)])
        assert schedules.forget([("e", "q"), ("g", "q")]) == 1
        assert schedules.forget([("e", "q")]) == 0
        assert schedules.forget([]) == 0
        assert list(schedules.marks([("e", "q")])) == [None]
        assert mark_of(schedules, "f").at == T0
        (made,) = schedules.tick([tick("e", at=T0 + 1)])
        assert made == Ticked("passed", Mark(at=T0 + 1))

    async def test_marks_are_kept_with_the_messages(
        self, broker: Broker, broker_factory: Callable[[], Broker], schedules: ScheduleStore
    ) -> None:
        skip_unless(broker.traits.durable, "durability")
        (fired,) = schedules.tick([tick(message=(message := outgoing()))])
        stored = schedules.put(row(), expected=0)
        schedules.close()
        broker.close()
        later = broker_factory()
        reopened = later.schedules("shop")
        assert mark_of(reopened) == fired.mark
        assert reopened.look().rows == (stored,)
        assert ids_of(later.peek("q")) == [message.id]
        later.close()

    async def test_a_closed_store_opens_again(
        self, broker: Broker, broker_factory: Callable[[], Broker], schedules: ScheduleStore
    ) -> None:
        keeper = broker_factory()
        schedules.tick([tick()])
        schedules.close()
        schedules.close()
        assert mark_of(schedules).at == T0
        broker.publish([outgoing()])
        assert schedules.tick([tick(after=T0, at=T0 + 1)])[0].verdict == "passed"
        keeper.close()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
    async def test_a_forked_child_ticks(self, broker: Broker, schedules: ScheduleStore) -> None:
        schedules.tick([tick()])  # the connection is open when the process forks
        message = outgoing()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns that other threads are running
            pid = os.fork()
        if pid == 0:  # pragma: no cover - another process
            status = 1
            try:
                signal.alarm(20)
                (fired,) = schedules.tick([tick(after=T0, at=T0 + 1, message=message)])
                status = 0 if fired.verdict == "fired" and mark_of(schedules) == fired.mark else 2
            finally:
                os._exit(status)
        _, ended = await asyncio.to_thread(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(ended) == 0
        (answer,) = schedules.tick([tick(after=T0, at=T0 + 1, message=outgoing(id=message.id))])
        assert answer.verdict == ("lost" if broker.traits.cross_process else "fired")
        assert ids_of(broker.peek("q")) == [message.id]

    # -- messages -------------------------------------------------------------------------------------------------

    async def test_priorities_hold(self, broker: Broker, schedules: ScheduleStore, consume: Consume) -> None:
        skip_unless(broker.traits.priorities == 10, "ten priorities")
        broker.publish([usual := outgoing(priority=5)])
        low, high = outgoing(priority=1), outgoing(priority=9)
        schedules.tick([tick("low", message=low), tick("high", message=high)])
        got = await take(await consume("q"))
        assert [(each.id, each.priority) for each in got] == [(high.id, 9), (usual.id, 5), (low.id, 1)]

    async def test_a_due_time_holds(
        self, broker: Broker, schedules: ScheduleStore, consume: Consume, clock: Clock, span: float
    ) -> None:
        skip_unless(broker.traits.native_delay, "native_delay")
        due = schedules.look().now + span
        schedules.tick([tick(message=(message := outgoing(not_before=due)))])
        assert [each.state for each in broker.peek(ids=[message.id])] == ["delayed"]
        consumer = await consume("q")
        assert await take(consumer) == []
        await elapse(clock, span + 0.02 + broker.traits.time_precision_s)
        assert ids_of(await take(consumer)) == [message.id]

    async def test_a_limit_holds(self, broker: Broker, schedules: ScheduleStore, consume: Consume) -> None:
        skip_unless(broker.traits.limits, "limits")
        sent = [outgoing(limit=Admission(key="k", concurrency=1)) for _ in range(3)]
        schedules.tick([tick(f"e{index}", message=message) for index, message in enumerate(sent)])
        consumer, got = await consume("q"), []
        while taken := await take(consumer):
            got += ids_of(taken)
            assert len(taken) == 1
            await consumer.settle([Done(delivery=taken[0])])
        assert got == ids_of(sent)

    async def test_limited_and_others_of_one_call_keep_their_order(
        self, broker: Broker, schedules: ScheduleStore, consume: Consume
    ) -> None:
        skip_unless(broker.traits.limits and broker.traits.ordering == "fifo", "limits and fifo ordering")
        limits = (None, Admission(key="k", concurrency=9), None, Admission(key="l", concurrency=9), None)
        sent = [outgoing(limit=limit) for limit in limits]
        schedules.tick([tick(f"e{index}", message=message) for index, message in enumerate(sent)])
        assert ids_of(await take(await consume("q"))) == ids_of(sent)

    async def test_a_unique_key_that_is_held_keeps_it_out(
        self, broker: Broker, schedules: ScheduleStore, consume: Consume
    ) -> None:
        skip_unless(broker.traits.unique, "unique")
        unique = Unique(key="k", ttl_s=LONG_S)
        broker.publish([holder := outgoing(unique=unique)])
        first, second = outgoing(unique=unique), outgoing(unique=unique)
        (kept_out,) = schedules.tick([tick(message=first, at=T0, skipped=1)])
        assert kept_out == Ticked("overlap", Mark(at=T0, skipped=2, note="overlap"))
        consumer = await consume("q")
        delivery = await take_one(consumer)
        assert delivery.id == holder.id
        await consumer.settle([Done(delivery=delivery)])
        verdicts = schedules.tick(
            [tick(after=T0, at=T0 + 1, message=second), tick("other", message=outgoing(unique=unique))]
        )
        assert [each.verdict for each in verdicts] == ["fired", "overlap"], "the first of one call holds it"
        assert verdicts[0].mark is not None
        assert (verdicts[0].mark.task_id, verdicts[0].mark.note) == (second.id, "")
        assert ids_of(await take(consumer)) == [second.id]

    async def test_the_holder_of_a_unique_key_does_not_keep_itself_out(
        self, broker: Broker, schedules: ScheduleStore, consume: Consume
    ) -> None:
        skip_unless(broker.traits.unique, "unique")
        message = outgoing(unique=Unique(key="k", ttl_s=LONG_S))
        broker.publish([message])
        assert schedules.tick([tick(message=message)])[0].verdict == "fired"
        assert ids_of(await take(await consume("q"))) == [message.id]

    async def test_a_tick_wakes_a_waiting_claim(
        self, broker_factory: Callable[[], Broker], schedules: ScheduleStore, consume: Consume
    ) -> None:
        other = broker_factory()
        stores = (schedules, other.schedules("shop"))
        consumer = await consume("q")
        for round_ in range(6):
            async with background(consumer.claim(limit=1, wait_s=LONG_S)) as waiting:
                message = outgoing()
                step = tick(after=T0 + round_ - 1 if round_ else 0, at=T0 + round_, message=message)
                assert (await asyncio.to_thread(stores[round_ % 2].tick, [step]))[0].verdict == "fired"
                (got,) = await within(asyncio.wait_for(waiting, None))
                assert got.id == message.id
            await consumer.settle([Done(delivery=got)])
        other.close()

    async def test_a_message_that_is_too_large_leaves_the_mark(self, broker: Broker, schedules: ScheduleStore) -> None:
        if broker.traits.max_body > 256 * 1024 * 1024:
            pytest.skip(f"the engine's traits say max_body={broker.traits.max_body}: too much to try")
        (made,) = schedules.tick([tick(at=T0)])
        too_large = outgoing(body=bytes(broker.traits.max_body + 1))
        with pytest.raises(EnqueueRejectedError) as refused:
            schedules.tick([tick(after=T0, at=T0 + 1, message=too_large)])
        assert too_large.id in refused.value.task_ids
        assert mark_of(schedules) == made.mark
        assert not broker.peek()
        assert schedules.tick([tick(after=T0, at=T0 + 1, message=outgoing())])[0].verdict == "fired"

    # -- unless the last one lives --------------------------------------------------------------------------------

    async def test_nothing_lives_before_the_first(self, schedules: ScheduleStore) -> None:
        first = tick(message=outgoing(), unless_live=True)
        assert schedules.tick([first])[0].verdict == "fired"
        schedules.tick([tick("f", at=T0)])
        assert schedules.tick([tick("f", after=T0, at=T0 + 1, message=outgoing(), unless_live=True)])[0].verdict == (
            "fired"
        )

    @pytest.mark.parametrize("state", LIVING + ENDINGS)
    async def test_nothing_is_published_while_the_last_one_lives(
        self, broker: Broker, schedules: ScheduleStore, consume: Consume, state: str
    ) -> None:
        skip_unless(broker.traits.native_delay or state not in ("delayed", "retried"), "native_delay")
        skip_unless(broker.traits.cancel or state != "canceled", "cancel")
        due = schedules.look().now + LONG_S
        last = outgoing(not_before=due if state == "delayed" else None)
        (before,) = schedules.tick([tick(at=T0, message=last)])
        assert before.mark is not None
        if state in ("held", "retried", "released", "revived", "done", "buried"):
            consumer = await consume("q")
            await self._bring(broker, consumer, last, state, due)
        elif state == "canceled":
            broker.cancel([Cancellation(id=last.id)])
        elif state == "purged":
            assert broker.purge(["q"]) == 1
        following = outgoing()
        (answer,) = schedules.tick([tick(after=T0, at=T0 + 1, message=following, unless_live=True, fingerprint="g")])
        mark = answer.mark
        assert mark is not None
        waits = ids_of(broker.peek(ids=[following.id], state="ready"))
        if state in LIVING:
            assert answer.verdict == "overlap"
            assert (mark.task_id, mark.runs, mark.skipped, mark.note) == (last.id, 1, 1, "overlap")
            assert (mark.at, mark.fingerprint, mark.fired_at) == (T0 + 1, "g", before.mark.fired_at)
            assert not waits
        else:
            assert answer.verdict == "fired"
            assert (mark.task_id, mark.runs, mark.skipped, mark.note) == (following.id, 2, 0, "")
            assert waits == [following.id]
        assert mark_of(schedules) == mark

    async def _bring(self, broker: Broker, consumer: Consumer, last: Outgoing, state: str, due: float) -> None:
        delivery = await take_one(consumer)
        if state == "retried":
            await consumer.settle([Later(delivery=delivery, message=msgspec.structs.replace(last, not_before=due))])
        elif state == "released":
            await consumer.settle([Release(delivery=delivery)])
        elif state in ("buried", "revived"):
            await consumer.settle([Bury(delivery=delivery, reason="undecodable")])
            assert state == "buried" or broker.revive([last.id]) == 1
        elif state == "done":
            await consumer.settle([Done(delivery=delivery)])

    async def test_what_ticks_without_a_message_says_nothing_of_the_last_one(
        self, schedules: ScheduleStore, consume: Consume
    ) -> None:
        """It stays the entry's last one, and lives, when instants were passed over in between."""
        schedules.tick([tick(at=T0, message=(message := outgoing()))])
        assert schedules.tick([tick(after=T0, at=T0 + 1, unless_live=True, note="late")])[0].verdict == "passed"
        (kept_out,) = schedules.tick([tick(after=T0 + 1, at=T0 + 2, message=outgoing(), unless_live=True)])
        assert kept_out.verdict == "overlap"
        consumer = await consume("q")
        delivery = await take_one(consumer)
        assert delivery.id == message.id
        await consumer.settle([Done(delivery=delivery)])
        (fired,) = schedules.tick([tick(after=T0 + 2, at=T0 + 3, message=outgoing(), unless_live=True)])
        assert fired.verdict == "fired"

    async def test_the_last_one_lives_in_another_queue_too(self, broker: Broker, schedules: ScheduleStore) -> None:
        skip_unless(broker.traits.spans_queues, "steps over all queues")
        schedules.tick([tick(at=T0, message=outgoing("old"))])
        (kept_out,) = schedules.tick([tick(after=T0, at=T0 + 1, message=outgoing("new"), unless_live=True)])
        assert kept_out.verdict == "overlap"
        broker.purge(["old"])
        assert schedules.tick([tick(after=T0 + 1, at=T0 + 2, message=outgoing("new"), unless_live=True)])[
            0
        ].verdict == ("fired")

    # -- many -----------------------------------------------------------------------------------------------------

    async def test_ticks_of_one_call_happen_in_order(
        self, broker: Broker, schedules: ScheduleStore, consume: Consume
    ) -> None:
        sent = [outgoing() for _ in range(4)]
        answers = schedules.tick(
            [
                tick(at=T0),
                tick(after=T0, at=T0 + 1, message=sent[0]),
                tick("other", at=T0, message=sent[1]),
                tick(after=T0, at=T0 + 9, message=outgoing()),  # too late: it stands at T0 + 1
                tick(after=T0 + 1, at=T0 + 2, message=sent[2], note="caught up"),
                tick(after=T0 + 2, at=T0 + 3, message=outgoing(), unless_live=True),
                tick(after=T0 + 3, at=T0 + 4, skipped=2, note="late"),
                tick("other", after=T0, at=T0 + 1, message=sent[3]),
            ]
        )
        assert [each.verdict for each in answers] == [
            "passed",
            "fired",
            "fired",
            "lost",
            "fired",
            "overlap",
            "passed",
            "fired",
        ]
        marks = [each.mark for each in answers]
        assert [mark.at - T0 for mark in marks if mark is not None] == [0, 1, 0, 1, 2, 3, 4, 1]
        assert [mark.runs for mark in marks if mark is not None] == [0, 1, 1, 1, 2, 2, 2, 2]
        assert [mark.skipped for mark in marks if mark is not None] == [0, 0, 0, 0, 0, 1, 3, 0]
        assert [mark_of(schedules), mark_of(schedules, "other")] == marks[-2:]
        got = ids_of(await take(await consume("q")))
        assert sorted(got) == sorted(ids_of(sent))
        if broker.traits.ordering == "fifo":
            assert got == ids_of(sent)

    async def test_many_queues_in_one_call(self, broker: Broker, schedules: ScheduleStore, consume: Consume) -> None:
        queues = [f"q{index}" for index in range(12)]
        sent = {queue: [outgoing(queue) for _ in range(3)] for queue in queues}
        ticks = [
            tick(f"e-{queue}", after=T0 + turn - 1 if turn else 0, at=T0 + turn, message=sent[queue][turn])
            for turn in range(3)
            for queue in queues
        ]
        answers = schedules.tick(ticks)
        assert [each.verdict for each in answers] == ["fired"] * 36
        assert [each.mark.at for each in answers if each.mark is not None] == [each.at for each in ticks]
        for queue in queues:
            got = ids_of(await take(await consume(queue)))
            assert got == ids_of(sent[queue]) or (broker.traits.ordering != "fifo" and len(got) == 3)

    async def test_whoever_races_for_an_instant_one_wins(
        self, broker: Broker, broker_factory: Callable[[], Broker], schedules: ScheduleStore, consume: Consume
    ) -> None:
        """Each brings a message with an id of its own, so that no dropped double can hide a second winner."""
        instants, threads = 40, 8
        other = broker_factory()
        stores = [schedules, other.schedules("shop")]
        failures: list[BaseException] = []
        won: list[str] = []
        start = threading.Barrier(threads)

        def race(store: ScheduleStore) -> None:
            try:
                start.wait(DEADLINE_S)
                stood = 0
                while stood < T0 + instants:
                    at = stood + 1 if stood else T0 + 1
                    message = outgoing(body=str(at).encode())
                    (answer,) = store.tick([tick("raced", after=stood, at=at, message=message)])
                    assert answer.mark is not None
                    if answer.verdict == "fired":
                        won.append(message.id)
                        assert answer.mark.at == at
                    else:
                        assert answer.verdict == "lost"
                        assert answer.mark.at > stood
                    stood = answer.mark.at
            except BaseException as exc:  # shown by the assertion below
                failures.append(exc)

        running = [threading.Thread(target=race, args=(stores[index % 2],)) for index in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            await asyncio.to_thread(thread.join)
        assert not failures
        consumer, got = await consume("q"), []
        while taken := await take(consumer, min(100, broker.traits.max_batch)):
            got += taken
        assert sorted(int(each.body) for each in got) == list(range(T0 + 1, T0 + instants + 1))
        assert sorted(ids_of(got)) == sorted(won)
        assert mark_of(schedules, "raced").runs == instants
        other.close()

    # -- rows -----------------------------------------------------------------------------------------------------

    async def test_a_look_tells_the_time(self, schedules: ScheduleStore, clock: Clock) -> None:
        before = clock.time()
        now = schedules.look().now
        assert before - 1 <= now <= clock.time() + 1
        if isinstance(clock, ManualClock):
            clock.advance(LONG_S)
            assert schedules.look().now == now + LONG_S

    async def test_a_look_shows_what_was_changed_since(
        self, broker_factory: Callable[[], Broker], schedules: ScheduleStore
    ) -> None:
        other_broker = broker_factory()
        other = other_broker.schedules("shop")
        empty = schedules.look()
        assert empty.rows == ()
        before = schedules.look().now
        one = schedules.put(
            row("one", spec=b'{"task":"shop.tidy","note":"\xc3\xa9"}', since=T0, changed_by="ann"), expected=0
        )
        two = other.put(row("two", change="paused", paused=True), expected=0)
        assert before - 0.01 <= one.changed_at <= two.changed_at + 0.01
        assert one.changed_at <= schedules.look().now + 0.01
        assert empty.revision < one.revision < two.revision
        assert (one.name, one.spec, one.since, one.changed_by, one.change, one.paused, one.removed) == (
            "one",
            b'{"task":"shop.tidy","note":"\xc3\xa9"}',
            T0,
            "ann",
            "added",
            False,
            False,
        )
        assert (two.spec, two.paused, two.change) == (None, True, "paused")
        for store in (schedules, other):
            all_of_them = store.look()
            assert (all_of_them.rows, all_of_them.revision) == ((one, two), two.revision)
            assert store.look(empty.revision).rows == (one, two)
            assert store.look(one.revision).rows == (two,)
            nothing = store.look(two.revision)
            assert (nothing.rows, nothing.revision) == ((), two.revision)
        changed = other.put(row("one", change="changed", revision=77, changed_at=5.0), expected=one.revision)
        assert changed.revision > two.revision
        assert changed.changed_at >= one.changed_at
        assert schedules.look(two.revision).rows == (changed,)
        assert schedules.look().rows == (two, changed), "in the order of their changes"
        other_broker.close()

    async def test_a_row_that_was_changed_in_between_is_not_overwritten(self, schedules: ScheduleStore) -> None:
        with pytest.raises(ScheduleChangedError) as refused:
            schedules.put(row("e"), expected=5)
        assert (refused.value.name, refused.value.row) == ("e", None)
        assert schedules.look().rows == ()
        first = schedules.put(row("e"), expected=0)
        second = schedules.put(row("e", change="paused", paused=True), expected=first.revision)
        for expected in (0, first.revision, second.revision + 1):
            with pytest.raises(ScheduleChangedError) as refused:
                schedules.put(row("e", change="changed"), expected=expected)
            assert (refused.value.name, refused.value.row) == ("e", second)
        assert schedules.look().rows == (second,)
        assert schedules.look().revision == second.revision

    async def test_a_removed_row_is_shown_and_may_be_added_again(self, schedules: ScheduleStore) -> None:
        added = schedules.put(row("e", spec=b"{}"), expected=0)
        removed = schedules.put(row("e", change="removed", removed=True), expected=added.revision)
        assert schedules.look(added.revision).rows == (removed,)
        with pytest.raises(ScheduleChangedError) as refused:
            schedules.put(row("e"), expected=added.revision)
        assert refused.value.row == removed
        again = schedules.put(row("e", spec=b'{"x":1}'), expected=0)
        assert again.revision > removed.revision
        assert (again.removed, again.spec) == (False, b'{"x":1}')
        assert schedules.look().rows == (again,)

    async def test_of_all_who_change_a_row_one_succeeds(
        self, broker_factory: Callable[[], Broker], schedules: ScheduleStore
    ) -> None:
        threads, changes = 6, 8
        other_broker = broker_factory()
        stores = [schedules, other_broker.schedules("shop")]
        failures: list[BaseException] = []
        done: list[int] = []

        def change(store: ScheduleStore) -> None:
            try:
                expected = 0
                for _ in range(changes):
                    while True:
                        try:
                            expected = store.put(row("e", change="changed"), expected=expected).revision
                        except ScheduleChangedError as exc:
                            expected = exc.row.revision
                        else:
                            done.append(expected)
                            break
            except BaseException as exc:  # shown by the assertion below
                failures.append(exc)

        running = [threading.Thread(target=change, args=(stores[index % 2],)) for index in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            await asyncio.to_thread(thread.join)
        assert not failures
        assert len(set(done)) == threads * changes
        assert schedules.look().revision == max(done)
        other_broker.close()

    async def test_rows_that_were_removed_long_ago_go(self, schedules: ScheduleStore, clock: Clock) -> None:
        if not isinstance(clock, ManualClock):
            pytest.skip("the engine keeps time itself; nobody waits 30 days here")
        kept = schedules.put(row("kept"), expected=0)
        old = schedules.put(row("old"), expected=0)
        old = schedules.put(row("old", removed=True, change="removed"), expected=old.revision)
        clock.advance(10 * 86_400.0)
        young = schedules.put(row("young", removed=True, change="removed"), expected=0)
        clock.advance(19 * 86_400.0)
        schedules.hail(beat(), ttl_s=60.0)
        assert schedules.look().rows == (kept, old, young)
        clock.advance(2 * 86_400.0)
        schedules.hail(beat(), ttl_s=60.0)
        news = schedules.look()
        assert news.rows == (kept, young)
        assert news.revision == young.revision
        clock.advance(30 * 86_400.0)
        schedules.hail(beat(), ttl_s=60.0)
        assert schedules.look().rows == (kept,)
        assert schedules.put(row("old"), expected=0).revision > young.revision, "no revision comes twice"

    # -- beats ----------------------------------------------------------------------------------------------------

    async def test_beats_that_are_there(self, broker_factory: Callable[[], Broker], schedules: ScheduleStore) -> None:
        other_broker = broker_factory()
        other = other_broker.schedules("shop")
        assert not schedules.beats()
        b, a = beat("beat@web2:9", host="web2", pid=9), beat("beat@web1:7")
        schedules.hail(b, ttl_s=LONG_S)
        other.hail(a, ttl_s=LONG_S)
        assert list(schedules.beats()) == list(other.beats()) == [a, b]
        newer = beat("beat@web1:7", looked_at=9.75, entries=12)
        schedules.hail(newer, ttl_s=LONG_S)
        assert list(other.beats()) == [newer, b]
        other.hail(b, ttl_s=0)
        other.hail(beat("never there"), ttl_s=0)
        assert list(schedules.beats()) == [newer]
        other_broker.close()

    async def test_a_beat_that_says_nothing_any_more_is_gone(
        self, schedules: ScheduleStore, clock: Clock, span: float
    ) -> None:
        schedules.hail(beat("short"), ttl_s=span)
        schedules.hail(beat("renewed"), ttl_s=span)
        schedules.hail(beat("long"), ttl_s=LONG_S)
        assert beats_of(schedules) == ["long", "renewed", "short"]
        await elapse(clock, span * 0.7)
        schedules.hail(beat("renewed"), ttl_s=span)
        await elapse(clock, span * 0.5)
        assert beats_of(schedules) == ["long", "renewed"]


def beats_of(store: ScheduleStore) -> list[str]:
    """The names of the beats that are there, in order."""
    return [each.name for each in store.beats()]
