"""What `claim` promises."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from celeriac.errors import LeaseLostError
from celeriac.model import Bury, Done, Later, Release, Settled
from celeriac.testing.conformance.stage import (
    DEADLINE_S,
    BrokerStage,
    Consume,
    background,
    batch,
    elapse,
    elapse_until_done,
    ids_of,
    open_for,
    outgoing,
    skip_unless,
    skip_without_leases,
    take,
    take_one,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeriac.clock import Clock
    from celeriac.interfaces import Broker

LONG_S = 3600.0
"""A wait that no test sits out."""


class ClaimingTests(BrokerStage):
    async def test_first_in_first_out_within_one_priority(self, broker: Broker, consume: Consume) -> None:
        skip_unless(broker.traits.ordering == "fifo", "fifo ordering")
        sent = batch(20)
        for message in sent:
            broker.publish([message])
        consumer = await consume("q")
        got = [await take_one(consumer) for _ in range(5)] + await take(consumer)
        assert ids_of(got) == ids_of(sent)

    async def test_higher_priority_first_over_all_queues(self, broker: Broker, consume: Consume) -> None:
        levels = broker.traits.priorities
        skip_unless(levels > 1, "priorities")
        skip_unless(broker.traits.spans_queues, "spans_queues")
        sent = [outgoing(queue, priority=level) for level in range(levels) for queue in ("a", "b", "c")]
        broker.publish(sent)
        consumer = await consume("b", "c", "a")
        got = await take(consumer, 4) + await take(consumer)
        assert sorted(ids_of(got)) == sorted(ids_of(sent))
        assert [each.priority for each in got] == sorted((each.priority for each in sent), reverse=True)

    async def test_queues_are_served_in_the_order_of_the_list(self, broker: Broker, consume: Consume) -> None:
        skip_unless(broker.traits.ordering == "fifo", "fifo ordering")
        broker.publish([message for _ in range(3) for message in (outgoing("a"), outgoing("b"), outgoing("c"))])
        got = await take(await consume("c", "a", "b"), min(9, broker.traits.max_batch))
        assert [each.queue for each in got] == ["c"] * 3 + ["a"] * 3 + ["b"] * 3

    async def test_no_queue_starves(self, broker: Broker, consume: Consume) -> None:
        broker.publish(batch(30, "busy") + batch(2, "quiet") + batch(2, "third"))
        consumer = await consume("busy", "quiet", "third")
        served = [(await take_one(consumer)).queue for _ in range(6)]
        # what a server brings is here when it is here: then each has its turn, though not in each round
        rounds = [served] if broker.traits.lease_kind == "connection" else [served[:3], served[3:]]
        assert [set(each) for each in rounds] == [{"busy", "quiet", "third"}] * len(rounds)

    async def test_other_queues_are_left_alone(self, broker: Broker, consume: Consume) -> None:
        broker.publish([outgoing("theirs"), mine := outgoing("mine")])
        assert ids_of(await take(await consume("mine"))) == [mine.id]
        assert broker.depth(["theirs"])["theirs"].ready == 1

    async def test_at_most_limit_come(self, broker: Broker, consume: Consume) -> None:
        broker.publish(batch(10))
        consumer = await consume("q")
        assert len(await take(consumer, 1)) == 1
        assert len(await take(consumer, 4)) == 4
        assert len(await take(consumer, min(100, broker.traits.max_batch))) == 5
        assert await take(consumer) == []

    async def test_a_batch_as_large_as_allowed(self, broker: Broker, consume: Consume) -> None:
        most = broker.traits.max_batch
        broker.publish(batch(min(most, 1000) + 1))
        assert len(await take(await consume("q"), most)) == min(most, 1001)

    async def test_a_consumer_without_queues_gets_nothing(self, broker: Broker, consume: Consume, clock: Clock) -> None:
        broker.publish(batch(2))
        consumer = await consume()
        assert await take(consumer) == []
        async with background(consumer.claim(limit=1, wait_s=0.2)) as waiting:
            assert not await elapse_until_done(waiting, clock, 0.1)

    async def test_it_comes_back_empty_after_the_wait(self, broker: Broker, consume: Consume, clock: Clock) -> None:
        consumer = await consume("q")
        assert await take(consumer) == []
        async with background(consumer.claim(limit=1, wait_s=0.2)) as waiting:
            assert not await elapse_until_done(waiting, clock, 0.1)

    async def test_a_delayed_message_is_never_early(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        skip_unless(broker.traits.native_delay, "native_delay")
        due = clock.time() + span
        broker.publish([message := outgoing(not_before=due)])
        consumer = await consume("q")
        while (left_s := due - clock.time()) > 0.02:
            taken = await take(consumer)
            assert not taken or clock.time() >= due
            if taken:
                return  # a real clock that went past it between the two lines above
            await elapse(clock, left_s / 2)
        await elapse(clock, 0.02 + broker.traits.time_precision_s)
        assert ids_of(await take(consumer)) == [message.id]

    async def test_a_waiting_claim_gets_what_becomes_due(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        skip_unless(broker.traits.native_delay, "native_delay")
        consumer = await consume("q")
        async with background(consumer.claim(limit=5, wait_s=LONG_S)) as waiting:
            due = clock.time() + span
            broker.publish([outgoing(not_before=due + LONG_S), message := outgoing(not_before=due)])
            assert ids_of(await elapse_until_done(waiting, clock, span / 10)) == [message.id]
            assert clock.time() >= due

    async def test_what_becomes_due_goes_by_priority(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        skip_unless(broker.traits.native_delay, "native_delay")
        skip_unless(broker.traits.priorities > 1, "priorities")
        top = broker.traits.priorities - 1
        due = clock.time() + span
        broker.publish([later := outgoing(not_before=due, priority=top), now := outgoing()])
        await elapse(clock, span + broker.traits.time_precision_s)
        assert ids_of(await take(await consume("q"))) == [later.id, now.id]

    async def test_no_two_consumers_hold_one_message(
        self, broker: Broker, broker_factory: Callable[[], Broker], consume: Consume
    ) -> None:
        sent = batch(200)
        broker.publish(sent)
        other = broker_factory()
        consumers = [await consume("q", broker=each) for each in (broker, other, broker, other)]
        got: list[str] = []

        async def drain(number: int) -> None:
            while taken := await take(consumers[number], 7):
                got.extend(ids_of(taken))

        await asyncio.gather(*(drain(number) for number in range(4)))
        assert sorted(got) == sorted(ids_of(sent))
        other.close()

    async def test_several_loops_in_several_threads_share_a_broker(self, broker: Broker) -> None:
        sent = batch(300)
        broker.publish(sent)
        got: list[str] = []
        failures: list[BaseException] = []

        async def drain() -> None:
            consumer = await open_for(broker, ["q"], lease_s=LONG_S)
            while taken := await take(consumer, 10):
                assert set(await consumer.settle([Done(delivery=each) for each in taken])) == {Settled.OK}
                got.extend(ids_of(taken))
            await consumer.close()

        def run() -> None:
            try:
                asyncio.run(drain())
            except BaseException as exc:  # shown by the assertion below
                failures.append(exc)

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join, DEADLINE_S)
        assert not failures
        assert sorted(got) == sorted(ids_of(sent))
        assert not broker.peek()

    async def test_a_publish_from_another_thread_wakes_a_waiting_claim(
        self, broker: Broker, broker_factory: Callable[[], Broker], consume: Consume
    ) -> None:
        other = broker_factory()
        consumer = await consume("q")
        for round_ in range(10):  # some come before the wait begins, some in it
            async with background(consumer.claim(limit=1, wait_s=LONG_S)) as waiting:
                message = outgoing()
                await asyncio.to_thread((broker, other)[round_ % 2].publish, [message])
                (got,) = await within(asyncio.wait_for(waiting, None))
                assert got.id == message.id
            await consumer.settle([Done(delivery=got)])
        other.close()

    @pytest.mark.parametrize("event", ["successor", "release", "later", "abandon", "close", "revive"])
    async def test_whatever_makes_a_message_ready_wakes_a_waiting_claim(
        self, broker: Broker, consume: Consume, event: str
    ) -> None:
        if event == "abandon":
            skip_without_leases(broker)
        first, second = await consume("q"), await consume("q", "r")
        broker.publish([message := outgoing()])
        delivery = await take_one(first)
        if event == "revive":
            await first.settle([Bury(delivery=delivery, reason="for now")])
        expected = message.id
        async with background(second.claim(limit=1, wait_s=LONG_S)) as waiting:
            if event == "successor":
                successor = outgoing("r")
                expected = successor.id
                await first.settle([Done(delivery=delivery, successors=(successor,))])
            elif event == "release":
                await first.settle([Release(delivery=delivery)])
            elif event == "later":
                await first.settle([Later(delivery=delivery, message=message)])
            elif event == "abandon":
                await broker.abandon(first.incarnation, running=())
            elif event == "close":
                await first.close()
            else:
                broker.revive([message.id])
            assert ids_of(await within(asyncio.wait_for(waiting, None))) == [expected]

    async def test_an_interrupt_right_after_the_start_of_a_claim_is_heard(
        self, broker: Broker, consume: Consume
    ) -> None:
        consumer = await consume("q")
        async with background(consumer.claim(limit=1, wait_s=LONG_S)) as claim:
            consumer.interrupt()
            done, _ = await asyncio.wait((claim,), timeout=DEADLINE_S)
            assert done, "one interrupt ends a claim, however early in it"
            assert not claim.result()

    async def test_an_interrupt_ends_a_waiting_claim(self, broker: Broker, consume: Consume) -> None:
        consumer = await consume("q")
        async with background(consumer.claim(limit=1, wait_s=LONG_S)) as waiting, asyncio.timeout(DEADLINE_S):
            while not waiting.done():
                consumer.interrupt()
                await asyncio.sleep(0)
            assert not waiting.result()
        broker.publish([message := outgoing()])
        assert ids_of(await take(consumer)) == [message.id], "an interrupted consumer goes on"

    async def test_settling_while_a_claim_waits(self, broker: Broker, consume: Consume) -> None:
        broker.publish([outgoing()])
        consumer = await consume("q")
        delivery = await take_one(consumer)
        async with background(consumer.claim(limit=1, wait_s=LONG_S)) as waiting:
            assert await within(consumer.settle([Done(delivery=delivery)])) == [Settled.OK]
            await within(consumer.beat())
            assert not waiting.done()
            broker.publish([message := outgoing()])
            assert ids_of(await within(asyncio.wait_for(waiting, None))) == [message.id]

    async def test_a_cancelled_claim_swallows_nothing(self, broker: Broker, consume: Consume) -> None:
        consumer = await consume("q")
        async with background(consumer.claim(limit=1, wait_s=LONG_S)):
            pass
        broker.publish([message := outgoing()])
        assert ids_of(await take(await consume("q"))) == [message.id]

    async def test_a_lost_incarnation_claims_nothing(self, broker: Broker, consume: Consume) -> None:
        skip_without_leases(broker)
        consumer = await consume("q")
        await broker.abandon(consumer.incarnation, running=())
        broker.publish([message := outgoing()])
        with pytest.raises(LeaseLostError):
            await take(consumer)
        assert ids_of(await take(await consume("q"))) == [message.id]

    async def test_an_incarnation_lost_while_its_claim_waits(self, broker: Broker, consume: Consume) -> None:
        skip_without_leases(broker)
        consumer = await consume("q")
        async with background(consumer.claim(limit=1, wait_s=LONG_S)) as waiting:
            await broker.abandon(consumer.incarnation, running=())
            broker.publish([message := outgoing()])
            with pytest.raises(LeaseLostError):
                await within(asyncio.wait_for(waiting, None))
        assert ids_of(await take(await consume("q"))) == [message.id]
