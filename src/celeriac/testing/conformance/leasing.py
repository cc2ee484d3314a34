"""What `beat`, `abandon`, `reap`, `adopt` and `Consumer.close` promise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celeriac.errors import LeaseLostError
from celeriac.model import Done, Settled, new_incarnation
from celeriac.testing.conformance.stage import (
    BrokerStage,
    Consume,
    batch,
    elapse,
    ids_of,
    keeps_places,
    outgoing,
    skip_unless,
    skip_without_leases,
    take,
    take_one,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeriac.clock import Clock
    from celeriac.interfaces import Broker


class LeasingTests(BrokerStage):
    @pytest.mark.parametrize("who", ["consumer", "broker", "other adapter"])
    async def test_a_beat_keeps_everything(
        self,
        broker: Broker,
        broker_factory: Callable[[], Broker],
        consume: Consume,
        clock: Clock,
        span: float,
        who: str,
    ) -> None:
        skip_without_leases(broker)
        broker.publish(batch(3))
        consumer = await consume("q", lease_s=span)
        deliveries = await take(consumer)
        other = broker_factory()
        for _ in range(4):
            await elapse(clock, span * 0.6)
            if who == "consumer":
                await consumer.beat()
            else:
                assert await (broker if who == "broker" else other).beat([consumer.incarnation]) == frozenset()
            assert await broker.reap(limit=10) == 0
        assert set(await consumer.settle([Done(delivery=each) for each in deliveries])) == {Settled.OK}
        other.close()

    async def test_a_lease_that_runs_out_is_reaped(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        skip_without_leases(broker)
        broker.publish(sent := batch(3))
        consumer = await consume("q", lease_s=span)
        await take(consumer)
        await elapse(clock, span * 0.4)
        assert await broker.reap(limit=10) == 0
        await elapse(clock, span * 0.7)
        assert await broker.reap(limit=10) == 3
        assert await broker.reap(limit=10) == 0
        got = await take(await consume("q"))
        assert sorted(ids_of(got)) == sorted(ids_of(sent))
        assert {each.deliveries for each in got} == {2}, "nobody knows which had started: all stay counted"

    async def test_the_first_lease_begins_with_the_consumer(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        skip_without_leases(broker)
        broker.publish([outgoing()])
        await elapse(clock, span)
        consumer = await consume("q", lease_s=span)
        await take_one(consumer)
        assert await broker.reap(limit=10) == 0
        await elapse(clock, span * 0.4)
        assert await broker.reap(limit=10) == 0

    async def test_a_reaped_incarnation_cannot_beat(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        skip_without_leases(broker)
        lost, kept = await consume("q", lease_s=span), await consume("q", lease_s=10 * span)
        broker.publish([outgoing()])
        await take(lost)
        await elapse(clock, span * 1.1)
        await broker.reap(limit=10)
        with pytest.raises(LeaseLostError):
            await lost.beat()
        unknown = new_incarnation()
        assert await broker.beat([lost.incarnation, unknown, kept.incarnation]) == {lost.incarnation, unknown}
        await kept.beat()

    async def test_an_overdue_beat_that_comes_before_the_reaper_renews(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        skip_without_leases(broker)
        broker.publish([outgoing()])
        consumer = await consume("q", lease_s=span)
        delivery = await take_one(consumer)
        await elapse(clock, span * 1.1)
        await consumer.beat()
        assert await broker.reap(limit=10) == 0
        assert await consumer.settle([Done(delivery=delivery)]) == [Settled.OK]

    async def test_reap_takes_at_most_so_many(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        skip_without_leases(broker)
        broker.publish(batch(6))
        for _ in range(3):
            assert len(await take(await consume("q", lease_s=span), 2)) == 2
        await elapse(clock, span * 1.1)
        assert [await broker.reap(limit=2) for _ in range(3)] == [4, 2, 0]

    async def test_abandon_counts_only_what_was_running(self, broker: Broker, consume: Consume) -> None:
        skip_without_leases(broker)
        broker.publish(sent := batch(4))
        consumer, bystander = await consume("q"), await consume("q")
        running = [each.id for each in await take(consumer, 3)][1:2]
        kept = await take_one(bystander)
        broker.publish([behind := outgoing()])
        assert await broker.abandon(consumer.incarnation, running=[*running, kept.id, "unknown"]) == 3
        assert await broker.abandon(consumer.incarnation, running=running) == 0
        got = await take(bystander)
        expected = [*sent[:3], behind]
        assert {each.id: each.deliveries for each in got} == {
            each.id: 2 if each.id in running else 1 for each in expected
        }
        if broker.traits.ordering == "fifo":
            assert ids_of(got) == ids_of(expected), "everything goes back to its place"
        assert await bystander.settle([Done(delivery=kept)]) == [Settled.OK]
        with pytest.raises(LeaseLostError):
            await consumer.beat()

    async def test_to_abandon_the_unknown_is_nothing(self, broker: Broker) -> None:
        assert await broker.abandon(new_incarnation(), running=["a"]) == 0

    async def test_adopt_moves_what_was_held(
        self, broker: Broker, broker_factory: Callable[[], Broker], consume: Consume
    ) -> None:
        skip_unless(broker.traits.adopts, "adoption")
        broker.publish(sent := batch(3))
        dead, other = await consume("q"), broker_factory()
        supervisor = await consume(broker=other)
        await take(dead)
        broker.publish([waiting := outgoing()])
        wanted = [sent[1].id, waiting.id, "unknown"]
        (adopted,) = await supervisor.adopt(dead.incarnation, wanted)
        assert (adopted.id, adopted.deliveries, adopted.body) == (sent[1].id, 1, sent[1].body)
        assert list(await supervisor.adopt(dead.incarnation, wanted)) == []
        assert await broker.abandon(dead.incarnation, running=[sent[1].id]) == 2
        (held,) = broker.peek(state="held")
        assert (held.id, held.holder) == (sent[1].id, supervisor.incarnation)
        assert await supervisor.settle([Done(delivery=adopted)]) == [Settled.OK]
        rest = await take(await consume("q"))
        assert sorted(ids_of(rest)) == sorted([sent[0].id, sent[2].id, waiting.id])
        other.close()

    async def test_adopt_from_the_unknown_is_nothing(self, broker: Broker, consume: Consume) -> None:
        broker.publish([message := outgoing()])
        supervisor = await consume()
        assert list(await supervisor.adopt(new_incarnation(), [message.id])) == []
        assert broker.depth(["q"])["q"].ready == 1

    async def test_what_was_adopted_lives_on_the_adopters_lease(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        skip_without_leases(broker)
        broker.publish([message := outgoing()])
        dead, heir = await consume("q", lease_s=span), await consume(lease_s=3 * span)
        await take(dead)
        (adopted,) = await heir.adopt(dead.incarnation, [message.id])
        await elapse(clock, span * 1.5)
        assert await broker.reap(limit=10) == 0
        assert await heir.settle([Done(delivery=adopted)]) == [Settled.OK]

    async def test_close_gives_back_without_spending(self, broker: Broker, consume: Consume) -> None:
        broker.publish(sent := batch(3))
        consumer = await consume("q")
        first, *_ = await take(consumer)
        await consumer.close()
        await consumer.close()
        assert await consumer.settle([Done(delivery=first)]) == [Settled.LEASE_LOST]
        if broker.traits.lease_kind == "incarnation":
            assert await broker.beat([consumer.incarnation]) == {consumer.incarnation}
        got = await take(await consume("q"))
        assert sorted((each.id, each.deliveries) for each in got) == sorted((each.id, 1) for each in sent)
        if keeps_places(broker):
            assert ids_of(got) == ids_of(sent)

    async def test_closing_a_lost_consumer_is_fine(self, broker: Broker, consume: Consume) -> None:
        skip_without_leases(broker)
        broker.publish([outgoing()])
        consumer, other = await consume("q"), await consume("q")
        await take_one(consumer)
        await broker.abandon(consumer.incarnation, running=())
        delivery = await take_one(other)
        await consumer.close()
        assert await other.settle([Done(delivery=delivery)]) == [Settled.OK]
