"""What is promised of messages with a limit, and of unique ones."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Literal

import pytest

from celeriac.model import (
    Admission,
    Bury,
    Cancellation,
    Done,
    Later,
    Release,
    Settled,
    Unique,
    new_incarnation,
)
from celeriac.testing.clocks import ManualClock
from celeriac.testing.conformance.stage import (
    DEADLINE_S,
    BrokerStage,
    Consume,
    background,
    batch,
    elapse,
    elapse_until_done,
    ids_of,
    outgoing,
    skip_unless,
    take,
    take_one,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeriac.clock import Clock
    from celeriac.interfaces import Broker

LONG_S = 3600.0
FREEING = ("done", "later", "release", "bury", "abandon", "reap", "close")


def by(key: str = "k", most: int | None = 1, **fields: Any) -> Admission:
    """A limit."""
    return Admission(key=key, concurrency=most, **fields)


def once(key: str = "k", ttl_s: float = LONG_S, until: Literal["start", "end"] = "end") -> Unique:
    """What makes a message unique."""
    return Unique(key=key, ttl_s=ttl_s, until=until)


class LimitingTests(BrokerStage):
    @pytest.fixture
    def limits(self, broker: Broker) -> None:
        skip_unless(broker.traits.limits, "limits")

    @pytest.mark.usefixtures("limits")
    async def test_no_more_of_a_key_than_its_concurrency_are_held(
        self, broker: Broker, broker_factory: Callable[[], Broker], consume: Consume
    ) -> None:
        """In all queues, by all consumers, over all adapters."""
        other = broker_factory()
        sent = batch(3, limit=by(most=2)) + batch(3, "r", limit=by(most=2))
        broker.publish(sent[:2])
        other.publish(sent[2:])
        one, two, three = await consume("q"), await consume("q", "r", broker=other), await consume("r")
        taken = [(one, await take_one(one)), (two, await take_one(two))]
        ran = []
        while taken:
            assert [await take(each) for each in (one, two, three)] == [[], [], []]
            holder, delivery = taken.pop(0)
            assert delivery.limit_key == "k"
            ran.append(delivery.id)
            assert await holder.settle([Done(delivery=delivery)]) == [Settled.OK]
            for each in (three, one):  # those who serve one queue only
                got = await take(each)
                taken += [(each, one_more) for one_more in got]
                if got:
                    break
        assert sorted(ran) == sorted(ids_of(sent))
        assert not broker.peek()
        other.close()

    @pytest.mark.usefixtures("limits")
    async def test_what_waits_counts_as_ready(self, broker: Broker, consume: Consume) -> None:
        broker.publish(sent := batch(3, limit=by()))
        consumer = await consume("q")
        held = await take_one(consumer)
        depth = broker.depth(["q"])["q"]
        assert (depth.ready, depth.delayed, depth.held, depth.dead) == (2, 0, 1, 0)
        assert ids_of(broker.peek("q", state="ready")) == ids_of(sent[1:])
        assert {each.id: each.state for each in broker.peek(ids=ids_of(sent))} == {
            each.id: "held" if each.id == held.id else "ready" for each in sent
        }
        assert broker.purge(["q"]) == 2
        await consumer.settle([Done(delivery=held)])
        broker.publish([message := outgoing(limit=by())])
        assert ids_of(await take(consumer)) == [message.id]

    @pytest.mark.usefixtures("limits")
    async def test_what_waits_holds_up_no_other(self, broker: Broker, consume: Consume) -> None:
        blocked = batch(20, limit=by("busy"))
        others = [outgoing(limit=by("free"), priority=0), outgoing(), outgoing(limit=by("third", 5))]
        broker.publish([*blocked, *others])
        got = await take(await consume("q"))
        assert sorted(ids_of(got)) == sorted([blocked[0].id, *ids_of(others)])
        if broker.traits.ordering == "fifo":
            assert ids_of(got) == [blocked[0].id, *ids_of(others)]

    @pytest.mark.usefixtures("limits")
    async def test_limited_and_others_go_by_priority_and_age(self, broker: Broker, consume: Consume) -> None:
        skip_unless(broker.traits.ordering == "fifo" and broker.traits.priorities == 10, "fifo ordering and priorities")
        sent = [
            outgoing(priority=level, limit=limit)
            for level in (0, 5, 9)
            for limit in (None, by("a", 99), None, by("b", 99), by("a", 99), None)
        ]
        broker.publish(sent)
        consumer = await consume("q")
        got = [await take_one(consumer) for _ in range(4)] + await take(consumer, 7) + await take(consumer)
        assert ids_of(got) == ids_of(sent[12:] + sent[6:12] + sent[:6])

    @pytest.mark.usefixtures("limits")
    async def test_within_a_key_priority_then_age(self, broker: Broker, consume: Consume) -> None:
        skip_unless(broker.traits.ordering == "fifo" and broker.traits.priorities == 10, "fifo ordering and priorities")
        low, high = batch(3, limit=by()), batch(3, limit=by(), priority=5)
        broker.publish(low)
        consumer = await consume("q")
        (first,) = await take(consumer)
        broker.publish(high)
        ran = [first.id]
        await consumer.settle([Release(delivery=first)])
        while got := await take(consumer):
            ran += ids_of(got)
            await consumer.settle([Done(delivery=each) for each in got])
        assert ran == [low[0].id, *ids_of(high), *ids_of(low)], "given back, it took its old place"

    @pytest.mark.usefixtures("limits")
    @pytest.mark.parametrize("event", FREEING)
    async def test_whatever_frees_a_slot_lets_the_next_go(
        self, broker: Broker, consume: Consume, clock: Clock, span: float, event: str
    ) -> None:
        """And wakes a claim that waits for it, once for each slot."""
        skip_unless(event != "reap" or broker.traits.lease_kind == "incarnation", "lease of the incarnation's")
        broker.publish([first := outgoing(limit=by()), *(rest := batch(2, limit=by()))])
        holder, waiter = await consume("q", lease_s=span), await consume("q")
        delivery = await take_one(holder)
        async with background(waiter.claim(limit=9, wait_s=LONG_S)) as waiting:
            if event == "done":
                await holder.settle([Done(delivery=delivery)])
            elif event == "later":
                await holder.settle([Later(delivery=delivery, message=outgoing(id=first.id))])
            elif event == "release":
                await holder.settle([Release(delivery=delivery)])
            elif event == "bury":
                await holder.settle([Bury(delivery=delivery, reason="for now")])
            elif event == "abandon":
                await broker.abandon(holder.incarnation, running=())
            elif event == "close":
                await holder.close()
            else:
                await elapse(clock, span * 1.1)
                assert await broker.reap(limit=9) == 1 or broker.traits.claims_reap
            (got,) = await within(asyncio.wait_for(waiting, None))
        if broker.traits.ordering == "fifo":
            assert got.id == (rest[0] if event in ("done", "later", "bury") else first).id, "the next in line"
        assert await take(waiter) == [], "one slot was freed, not two"
        if event not in ("abandon", "close", "reap"):
            assert await holder.settle([Done(delivery=delivery)]) == [Settled.LEASE_LOST]
            assert await take(waiter) == [], "a settlement that is refused frees nothing"

    @pytest.mark.usefixtures("limits")
    async def test_adopting_moves_the_slot(self, broker: Broker, consume: Consume) -> None:
        broker.publish([outgoing(limit=by()), second := outgoing(limit=by())])
        dead, heir, worker = await consume("q"), await consume(), await consume("q")
        lost = await take_one(dead)
        (adopted,) = await heir.adopt(dead.incarnation, [lost.id])
        assert adopted.limit_key == "k"
        await broker.abandon(dead.incarnation, running=())
        assert await take(worker) == []
        await heir.settle([Done(delivery=adopted)])
        assert ids_of(await take(worker)) == [second.id]

    @pytest.mark.usefixtures("limits")
    async def test_a_retry_keeps_its_limit_unless_it_brings_another(self, broker: Broker, consume: Consume) -> None:
        broker.publish([first := outgoing(limit=by()), second := outgoing(limit=by())])
        consumer = await consume("q")
        delivery = await take_one(consumer)
        await consumer.settle([Later(delivery=delivery, message=outgoing(id=first.id))])
        (delivery,) = await take(consumer)
        assert (delivery.id, delivery.limit_key) == (second.id, "k")
        await consumer.settle([Later(delivery=delivery, message=outgoing(id=second.id, limit=by("other")))])
        got = await take(consumer)
        assert {each.id: each.limit_key for each in got} == {first.id: "k", second.id: "other"}

    @pytest.mark.usefixtures("limits")
    async def test_a_message_that_had_none_gets_one(self, broker: Broker, consume: Consume) -> None:
        """As a worker gives one to what was sent by someone who does not know the limit."""
        broker.publish(sent := batch(3))
        consumer = await consume("q")
        outcomes = [
            Later(delivery=each, message=outgoing(id=each.id, limit=by(most=2))) for each in await take(consumer)
        ]
        assert {each.delivery.limit_key for each in outcomes} == {None}
        assert set(await consumer.settle(outcomes)) == {Settled.OK}
        got = await take(consumer)
        assert len(got) == 2
        assert set(ids_of(got)) < set(ids_of(sent))
        assert {each.deliveries for each in got} == {1}

    @pytest.mark.usefixtures("limits")
    async def test_a_delayed_one_waits_in_line_when_it_is_due(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        skip_unless(broker.traits.native_delay, "native_delay")
        broker.publish([outgoing(limit=by()), later := outgoing(limit=by(), not_before=clock.time() + span)])
        consumer = await consume("q")
        delivery = await take_one(consumer)
        await elapse(clock, span + broker.traits.time_precision_s)
        assert await take(consumer) == []
        assert broker.depth(["q"])["q"].ready == 1
        await consumer.settle([Done(delivery=delivery)])
        assert ids_of(await take(consumer)) == [later.id]

    @pytest.mark.usefixtures("limits")
    async def test_a_waiting_claim_gets_a_limited_one_that_becomes_due(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        skip_unless(broker.traits.native_delay, "native_delay")
        broker.publish([later := outgoing(limit=by(), not_before=clock.time() + span)])
        consumer = await consume("q")
        async with background(consumer.claim(limit=5, wait_s=LONG_S)) as waiting:
            assert ids_of(await elapse_until_done(waiting, clock, span / 10)) == [later.id]

    @pytest.mark.usefixtures("limits")
    async def test_successors_are_limited(self, broker: Broker, consume: Consume) -> None:
        broker.publish([outgoing()])
        consumer = await consume("q")
        successors = (outgoing(), *batch(2, limit=by()), outgoing())
        await consumer.settle([Done(delivery=await take_one(consumer), successors=successors)])
        got = await take(consumer)
        assert sorted(ids_of(got)) == sorted([successors[0].id, successors[1].id, successors[3].id])
        await consumer.settle([Done(delivery=each) for each in got])
        assert ids_of(await take(consumer)) == [successors[2].id]

    @pytest.mark.usefixtures("limits")
    async def test_cancelling_the_next_lets_the_one_behind_go(self, broker: Broker, consume: Consume) -> None:
        skip_unless(broker.traits.cancel, "cancel")
        broker.publish(sent := batch(4, limit=by()))
        broker.cancel([Cancellation(id=sent[0].id)])
        consumer = await consume("q")
        (delivery,) = await take(consumer)
        broker.cancel([Cancellation(id=sent[2].id)])
        await consumer.settle([Done(delivery=delivery)])
        assert delivery.id == sent[1].id
        assert ids_of(await take(consumer)) == [sent[3].id]

    @pytest.mark.usefixtures("limits")
    async def test_a_dead_letter_keeps_its_limit(self, broker: Broker, consume: Consume) -> None:
        broker.publish([first := outgoing(limit=by())])
        consumer = await consume("q")
        await consumer.settle([Bury(delivery=await take_one(consumer), reason="for now")])
        broker.publish([outgoing(limit=by())])
        delivery = await take_one(consumer)
        assert broker.revive([first.id]) == 1
        assert await take(consumer) == []
        await consumer.settle([Done(delivery=delivery)])
        assert ids_of(await take(consumer)) == [first.id]

    @pytest.mark.usefixtures("limits")
    async def test_what_was_said_last_holds(self, broker: Broker, consume: Consume) -> None:
        broker.publish(batch(5, limit=by(most=1)))
        consumer = await consume("q")
        await take_one(consumer)
        assert await take(consumer) == []
        broker.publish([outgoing(limit=by(most=3))])
        assert len(await take(consumer)) == 2
        broker.publish([outgoing(limit=by(most=1))])
        assert await take(consumer) == []

    @pytest.mark.usefixtures("limits")
    async def test_a_batch_holds_as_many_as_may_be(self, broker: Broker, consume: Consume) -> None:
        broker.publish(batch(30, limit=by(most=12)))
        consumer = await consume("q")
        assert len(await take(consumer, 10)) == 10
        assert len(await take(consumer)) == 2

    @pytest.mark.usefixtures("limits")
    async def test_publishing_again_is_safe(self, broker: Broker, consume: Consume) -> None:
        broker.publish(sent := batch(2, limit=by()))
        broker.publish(sent)
        consumer = await consume("q")
        delivery = await take_one(consumer)
        broker.publish(sent)
        await consumer.settle([Done(delivery=delivery)])
        assert ids_of(await take(consumer)) == [sent[1].id]
        assert broker.depth(["q"])["q"].held == 1

    @pytest.mark.usefixtures("limits")
    async def test_a_rate_lets_a_burst_go_and_then_one_by_one(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        broker.publish(sent := batch(6, limit=by(most=None, interval_s=span, burst=3)))
        consumer = await consume("q")
        before = clock.time()
        assert len(await take(consumer)) == 3, "the burst"
        after, slack = clock.time(), broker.traits.time_precision_s
        for number in (1, 2, 3):
            while (left_s := before + number * span - clock.time()) > 2 * slack:
                got = await take(consumer)
                assert not got or clock.time() >= before + number * span - slack, "a start before its time"
                assert not got
                await elapse(clock, max(left_s / 2, slack))
            await elapse(clock, after + number * span + 2 * slack - clock.time())
            assert ids_of(await take(consumer)) == [sent[2 + number].id]

    @pytest.mark.usefixtures("limits")
    async def test_a_waiting_claim_gets_what_the_rate_lets_go(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        sent = batch(2, limit=by(most=None, interval_s=span))
        consumer = await consume("q")
        before = clock.time()
        async with background(consumer.claim(limit=9, wait_s=LONG_S)) as waiting:
            broker.publish(sent)
            assert ids_of(await elapse_until_done(waiting, clock, span / 1000)) == [sent[0].id]
        async with background(consumer.claim(limit=9, wait_s=LONG_S)) as waiting:
            assert ids_of(await elapse_until_done(waiting, clock, span / 10)) == [sent[1].id]
            assert clock.time() >= before + span - broker.traits.time_precision_s

    @pytest.mark.usefixtures("limits")
    async def test_no_window_sees_more_starts_than_the_rate_allows(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        interval_s, burst = span / 10, 2
        limit = by("paced", most=None, interval_s=interval_s, burst=burst)
        for number in range(3):
            broker.publish(batch(10, f"q{number}", limit=limit))
        one, two = await consume("q0", "q1"), await consume("q1", "q2")
        starts: list[float] = []
        for step in range(40):
            before = clock.time()
            got = await take((one, two)[step % 2], 3)
            starts += [before] * len(got)
            await elapse(clock, interval_s * (0.3, 1.1, 0.05)[step % 3])
        assert len(starts) > 10
        slack = 2 * broker.traits.time_precision_s + (0.0 if isinstance(clock, ManualClock) else 0.05)
        for first, begin in enumerate(starts):
            for last in range(first, len(starts)):
                window_s = starts[last] - begin
                allowed = burst + (window_s + slack) / interval_s
                assert last - first + 1 <= allowed

    @pytest.mark.usefixtures("limits")
    async def test_a_rate_and_a_concurrency_both_hold(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        broker.publish(sent := batch(3, limit=by(most=1, interval_s=span)))
        consumer = await consume("q")
        delivery = await take_one(consumer)
        await elapse(clock, span * 1.1)
        assert await take(consumer) == [], "a token, but no slot"
        await consumer.settle([Done(delivery=delivery)])
        delivery = await take_one(consumer)
        await consumer.settle([Done(delivery=delivery)])
        assert await take(consumer) == [], "a slot, but no token"
        async with background(consumer.claim(limit=9, wait_s=LONG_S)) as waiting:
            assert ids_of(await elapse_until_done(waiting, clock, span / 10)) == [sent[2].id]

    @pytest.mark.usefixtures("limits")
    async def test_under_load_no_limit_is_passed_and_nothing_is_lost(self, broker: Broker) -> None:
        keys = {"a": 1, "b": 2, "c": 5}
        sent = [
            outgoing(queue, limit=None if key is None else by(key, keys[key]), priority=number % 2)
            for number in range(60)
            for queue, key in (("x", "a"), ("y", "b"), ("x", "c"), ("y", None), ("x", "b"))
        ]
        lock = threading.Lock()
        running = dict.fromkeys(keys, 0)
        ran: list[str] = []
        faults: list[str] = []

        async def work() -> None:
            consumer = await broker.open_consumer(["x", "y"], incarnation=new_incarnation(), lease_s=LONG_S)
            async with asyncio.timeout(4 * DEADLINE_S):
                while len(ran) < len(sent):
                    got = await consumer.claim(limit=7, wait_s=0)
                    for each in got:
                        if each.limit_key is not None:
                            with lock:
                                running[each.limit_key] += 1
                                if running[each.limit_key] > keys[each.limit_key]:
                                    faults.append(f"{running[each.limit_key]} of {each.limit_key!r} are held")
                    await asyncio.sleep(0)
                    for number, each in enumerate(got):
                        again = number % 5 == 4 and each.deliveries < 3
                        with lock:  # before the settlement: the slot is free from then on
                            if each.limit_key is not None:
                                running[each.limit_key] -= 1
                            if not again:
                                ran.append(each.id)
                        await consumer.settle([Release(delivery=each, spent=True) if again else Done(delivery=each)])
            await consumer.close()

        def run() -> None:
            try:
                asyncio.run(work())
            except BaseException as exc:  # shown by the assertion below
                faults.append(repr(exc))

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for start in range(0, len(sent), 25):
            broker.publish(sent[start : start + 25])
        for thread in threads:
            await asyncio.to_thread(thread.join, 5 * DEADLINE_S)
        assert not faults
        assert sorted(ran) == sorted(ids_of(sent))
        assert not broker.peek()


class UniqueTests(BrokerStage):
    @pytest.fixture
    def unique(self, broker: Broker) -> None:
        skip_unless(broker.traits.unique, "unique")

    @pytest.mark.usefixtures("unique")
    async def test_a_second_of_its_key_is_dropped_and_the_first_is_named(
        self, broker: Broker, broker_factory: Callable[[], Broker], consume: Consume
    ) -> None:
        first, second, third, fourth = batch(4, unique=once())
        other_key, plain, elsewhere = outgoing(unique=once("other")), outgoing(), outgoing("r", unique=once())
        assert not broker.publish([plain])
        assert dict(broker.publish([first, other_key, second])) == {second.id: first.id}
        other = broker_factory()
        assert dict(await within(other.apublish([third, elsewhere]))) == {third.id: first.id, elsewhere.id: first.id}
        assert dict(broker.publish([outgoing(), fourth, outgoing()])) == {fourth.id: first.id}
        assert broker.depth()["q"].ready == 5
        got = await take(await consume("q", "r"))
        assert set(ids_of(got)) > {first.id, other_key.id, plain.id}
        other.close()

    @pytest.mark.usefixtures("unique")
    async def test_publishing_the_holder_again_is_safe(self, broker: Broker, consume: Consume) -> None:
        first, second = batch(2, unique=once())
        for _ in range(2):
            assert not broker.publish([first])
            assert dict(broker.publish([second])) == {second.id: first.id}
        delivery = await take_one(await consume("q"))
        assert not broker.publish([first])
        assert (delivery.id, broker.depth(["q"])["q"].ready) == (first.id, 0)

    @pytest.mark.usefixtures("unique")
    @pytest.mark.parametrize("end", ["done", "bury", "cancel", "purge"])
    async def test_it_is_held_until_the_end(self, broker: Broker, consume: Consume, end: str) -> None:
        first, second, third = batch(3, unique=once())
        broker.publish([first])
        consumer = await consume("q")

        def is_held() -> bool:
            return dict(broker.publish([second])) == {second.id: first.id}

        assert is_held()
        if end == "cancel":
            skip_unless(broker.traits.cancel, "cancel")
            broker.cancel([Cancellation(id=first.id)])
        elif end == "purge":
            broker.purge(["q"])
        else:
            delivery = await take_one(consumer)
            assert is_held()
            await consumer.settle([Release(delivery=delivery)])
            assert is_held()
            delivery = await take_one(consumer)
            await consumer.settle([Later(delivery=delivery, message=outgoing(id=first.id))])
            assert is_held(), "its retry holds it"
            delivery = await take_one(consumer)
            assert is_held()
            await consumer.settle([Done(delivery=delivery) if end == "done" else Bury(delivery=delivery, reason="x")])
        assert not broker.publish([third])
        assert dict(broker.publish([second])) == {second.id: third.id}
        assert ids_of(await take(consumer)) == [third.id]

    @pytest.mark.usefixtures("unique")
    async def test_until_its_start_it_is_held_while_it_waits(self, broker: Broker, consume: Consume) -> None:
        first, second, third = batch(3, unique=once(until="start"))
        broker.publish([first])
        assert dict(broker.publish([second])) == {second.id: first.id}
        consumer = await consume("q")
        delivery = await take_one(consumer)
        assert not broker.publish([second])
        assert dict(broker.publish([third])) == {third.id: second.id}
        await consumer.settle([Done(delivery=delivery)])
        assert dict(broker.publish([third])) == {third.id: second.id}, "what ended was not the holder"
        (delivery,) = await take(consumer)
        await consumer.settle([Later(delivery=delivery, message=outgoing(id=second.id))])
        assert dict(broker.publish([third])) == {third.id: second.id}, "it waits again"

    @pytest.mark.usefixtures("unique")
    async def test_it_is_held_no_longer_than_its_time(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        first, second, third = batch(3, unique=once(ttl_s=span))
        broker.publish([first])
        await elapse(clock, span * 1.1)
        assert not broker.publish([second])
        consumer = await consume("q")
        got = await take(consumer)
        assert sorted(ids_of(got)) == sorted(ids_of([first, second]))
        broker.publish([outgoing(unique=once("x"))])
        await consumer.settle([Done(delivery=each) for each in got if each.id == first.id])
        assert dict(broker.publish([third])) == {third.id: second.id}, "the end of the first frees nothing"

    @pytest.mark.usefixtures("unique")
    async def test_a_dead_letter_holds_nothing(self, broker: Broker, consume: Consume) -> None:
        first, second = batch(2, unique=once())
        broker.publish([first])
        consumer = await consume("q")
        await consumer.settle([Bury(delivery=await take_one(consumer), reason="x")])
        broker.revive([first.id])
        assert not broker.publish([second])
        assert sorted(ids_of(await take(consumer))) == sorted([first.id, second.id])

    @pytest.mark.usefixtures("unique")
    async def test_a_unique_message_can_be_limited(self, broker: Broker, consume: Consume) -> None:
        skip_unless(broker.traits.limits, "limits")
        first, second = batch(2, unique=once(), limit=by())
        broker.publish([held := outgoing(limit=by()), first])
        assert dict(broker.publish([second])) == {second.id: first.id}
        consumer = await consume("q")
        (delivery,) = await take(consumer)
        assert delivery.id == held.id
        await consumer.settle([Done(delivery=delivery)])
        assert ids_of(await take(consumer)) == [first.id]

    @pytest.mark.usefixtures("unique")
    async def test_of_many_at_once_one_is_published_and_all_learn_which(self, broker: Broker) -> None:
        answers: dict[str, str] = {}

        def publish() -> None:
            for number in range(20):
                message = outgoing(unique=once(f"key-{number}"))
                answers[message.id] = broker.publish([message]).get(message.id, message.id)

        threads = [threading.Thread(target=publish) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join, DEADLINE_S)
        assert len(answers) == 80
        assert sorted(set(answers.values())) == sorted(ids_of(broker.peek(limit=1000)))
        assert len(set(answers.values())) == 20
