"""What `settle` promises of workflows, where the engine also stores results."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from celeriac.model import (
    Admission,
    Arrival,
    Bury,
    Cancellation,
    Done,
    Join,
    Later,
    Record,
    Release,
    Settled,
    Workflow,
    new_task_id,
)
from celeriac.testing.conformance.stage import (
    BrokerStage,
    Consume,
    arrival,
    background,
    batch,
    ids_of,
    outgoing,
    release_of,
    result_of,
    skip_unless,
    take,
    take_one,
    told,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celeriac.clock import Clock
    from celeriac.interfaces import Broker, Consumer, ResultStore
    from celeriac.model import Delivery, Outcome, Outgoing

OK, LOST = Settled.OK, Settled.LEASE_LOST
LONG_S = 3600.0


def done(delivery: Delivery, *arrivals: Arrival, **fields: Any) -> Done:
    """A member's end, as a worker settles it."""
    return Done(delivery=delivery, result=result_of(delivery.id), workflow=Workflow(arrivals=arrivals, **fields))


def payloads(arrivals: Sequence[Arrival]) -> list[bytes]:
    """What their join must keep, in this order."""
    return [each.payload for each in arrivals]


class JoiningTests(BrokerStage):
    @pytest.fixture
    def join(self) -> str:
        """The id of a join that nobody knows yet."""
        return new_task_id()

    async def hand_out(self, broker: Broker, consumer: Consumer, count: int) -> list[Delivery]:
        """So many fresh deliveries."""
        broker.publish(batch(count))
        got = await take(consumer, count)
        assert len(got) == count
        return got

    async def test_the_last_to_arrive_publishes_the_release(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        results.open_joins([Join(id=join, size=3)])
        assert list(results.members(join) or ()) == []
        consumer = await consume("q")
        a, b, c = await self.hand_out(broker, consumer, 3)
        arrivals = [arrival(join, position) for position in range(3)]
        assert list(await consumer.settle([done(c, arrivals[2])])) == [OK]
        assert list(await consumer.settle([done(a, arrivals[0])])) == [OK]
        assert not broker.peek("releases")
        assert list(results.members(join) or ()) == payloads([arrivals[0], arrivals[2]])
        assert list(await consumer.settle([done(b, arrivals[1])])) == [OK]
        (release,) = await take(await consume("releases"))
        expected = release_of(join)
        assert (release.id, release.body, release.deliveries) == (expected.id, expected.body, 1)
        assert list(results.members(join) or ()) == payloads(arrivals)
        assert set(results.get([a.id, b.id, c.id])) == {a.id, b.id, c.id}

    @pytest.mark.parametrize("count", [1, 7, 1000])
    async def test_all_in_one_batch(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str, count: int
    ) -> None:
        results.open_joins([Join(id=join, size=count)])
        consumer = await consume("q")
        broker.publish(batch(count))
        got: list[Delivery] = []
        while taken := await take(consumer, broker.traits.max_batch):
            got += taken
        arrivals = [arrival(join, position) for position in range(count)]
        outcomes = [done(each, arrives) for each, arrives in zip(got, reversed(arrivals), strict=True)]
        assert set(await within(consumer.settle(outcomes))) == {OK}
        assert ids_of(broker.peek()) == [release_of(join).id]
        assert list(results.members(join) or ()) == payloads(arrivals)

    async def test_members_of_many_joins_in_one_batch(
        self, broker: Broker, results: ResultStore, consume: Consume
    ) -> None:
        joins = [new_task_id() for _ in range(20)]
        results.open_joins([Join(id=join, size=3 if number % 2 else 2) for number, join in enumerate(joins)])
        consumer = await consume("q")
        deliveries = iter(await self.hand_out(broker, consumer, 40))
        outcomes = [done(next(deliveries), arrival(join, position)) for position in range(2) for join in joins]
        assert set(await consumer.settle(outcomes)) == {OK}
        assert sorted(ids_of(broker.peek())) == sorted(release_of(join).id for join in joins[::2])
        assert [len(results.members(join) or ()) for join in joins] == [2] * 20

    async def test_one_end_may_arrive_at_several_joins(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        other = new_task_id()
        results.open_joins([Join(id=join, size=2), Join(id=other, size=1)])
        consumer = await consume("q")
        (delivery,) = await self.hand_out(broker, consumer, 1)
        outcome = done(delivery, arrival(join, 1, "m"), arrival(other, 0, "m"), arrival(join, 0, "m"))
        assert list(await consumer.settle([outcome])) == [OK]
        assert sorted(ids_of(broker.peek())) == sorted([release_of(join).id, release_of(other).id])
        assert list(results.members(join) or ()) == [b"m@0", b"m@1"], "one member may stand at several positions"

    async def test_several_consumers_fill_one_join(
        self, broker: Broker, broker_factory: Callable[[], Broker], results: ResultStore, consume: Consume, join: str
    ) -> None:
        results.open_joins([Join(id=join, size=40)])
        other = broker_factory()
        broker.publish(batch(40))
        consumers = [await consume("q", broker=each) for each in (broker, other, broker, other)]
        positions = iter(range(40))

        async def work(consumer: Consumer) -> None:
            while taken := await take(consumer, 3):
                outcomes = [done(each, arrival(join, next(positions))) for each in taken]
                assert set(await consumer.settle(outcomes)) == {OK}

        await asyncio.gather(*(work(each) for each in consumers))
        assert ids_of(broker.peek()) == [release_of(join).id]
        assert list(results.members(join) or ()) == payloads([arrival(join, position) for position in range(40)])
        other.close()

    async def test_one_that_arrives_again_counts_once(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        results.open_joins([Join(id=join, size=2)])
        consumer = await consume("q")
        a, b, c, d = await self.hand_out(broker, consumer, 4)
        first, again = arrival(join, 0), arrival(join, 0, payload=b"again")
        assert list(await consumer.settle([done(a, first), done(b, again)])) == [OK, OK]
        assert list(await consumer.settle([done(c, again)])) == [OK]
        assert not broker.peek("releases")
        assert list(results.members(join) or ()) == [first.payload], "the first stays"
        assert list(await consumer.settle([done(d, again, arrival(join, 1))])) == [OK]
        assert ids_of(broker.peek()) == [release_of(join).id]

    async def test_two_members_may_stand_at_one_position(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        """As Celery counts them: an original and what it added to its chord, say."""
        results.open_joins([Join(id=join, size=3)])
        consumer = await consume("q")
        a, b = await self.hand_out(broker, consumer, 2)
        assert list(await consumer.settle([done(a, arrival(join, 0, "one"), arrival(join, 0, "two"))])) == [OK]
        assert len(results.members(join) or ()) == 2
        assert list(await consumer.settle([done(b, arrival(join, 0, "two"), arrival(join, 1))])) == [OK]
        assert ids_of(broker.peek("releases")) == [release_of(join).id]

    async def test_the_release_is_published_once(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        results.open_joins([Join(id=join, size=1)])
        consumer, other = await consume("q"), await consume("releases")
        a, b, c = await self.hand_out(broker, consumer, 3)
        assert set(await consumer.settle([done(a, arrival(join, 0)), done(b, arrival(join, 0))])) == {OK}
        assert ids_of(broker.peek("releases")) == [release_of(join).id]
        assert list(await other.settle([Done(delivery=await take_one(other))])) == [OK]
        assert list(await consumer.settle([done(c, arrival(join, 0))])) == [OK]
        assert not broker.peek(), "not even when the first is through already"

    async def test_a_lost_lease_arrives_nowhere(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        results.open_joins([Join(id=join, size=2)])
        stale, other = await consume("q"), await consume("q")
        a, b = await self.hand_out(broker, stale, 2)
        await broker.abandon(stale.incarnation, running=[a.id, b.id])
        change = Workflow(
            results=(result_of("elsewhere" + join),),
            records=(Record(kind="model", id=join, payload=b"stale"),),
            joins=(Join(id=join + "2", size=1),),
            arrivals=(arrival(join, 0), arrival(join, 1)),
            closed=(join + "3",),
        )
        outcomes: list[Outcome] = [
            Done(delivery=a, workflow=change),
            Bury(delivery=b, reason="stale", workflow=change),
        ]
        assert list(await stale.settle(outcomes)) == [LOST, LOST]
        assert list(results.members(join) or ()) == []
        assert results.members(join + "2") is None
        assert not results.get(["elsewhere" + join])
        assert not results.load("model", [join])
        assert {each.id for each in broker.peek()} == {a.id, b.id}
        a2, b2 = await take(other)
        assert list(await other.settle([done(a2, arrival(join, 0))])) == [OK]
        # of those in one batch, each is asked for itself
        assert list(await other.settle([done(a2, arrival(join, 1)), Release(delivery=b2)])) == [LOST, OK]
        assert ids_of(broker.peek()) == [b2.id]
        assert list(await other.settle([done(await take_one(other), arrival(join, 1))])) == [OK]
        assert ids_of(broker.peek()) == [release_of(join).id]

    async def test_a_closed_join_stays_closed(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        results.open_joins([Join(id=join, size=1)])
        consumer = await consume("q", "releases")
        a, b, c = await self.hand_out(broker, consumer, 3)
        assert list(await consumer.settle([done(a, arrival(join, 0))])) == [OK]
        release = await take_one(consumer)
        assert release.id == release_of(join).id
        body = outgoing("bodies")
        outcome = Done(delivery=release, successors=(body,), workflow=Workflow(closed=(join,)))
        assert list(await consumer.settle([outcome])) == [OK]
        assert results.members(join) is None
        assert ids_of(broker.peek("bodies")) == [body.id]
        again = Workflow(joins=(Join(id=join, size=1),), arrivals=(arrival(join, 0),))
        assert list(await consumer.settle([done(b, arrival(join, 1)), Done(delivery=c, workflow=again)])) == [OK, OK]
        results.open_joins([Join(id=join, size=1)])
        assert results.members(join) is None
        assert ids_of(broker.peek()) == [body.id]

    async def test_a_join_that_nobody_opened_yet_keeps_what_arrives(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        consumer = await consume("q")
        a, b = await self.hand_out(broker, consumer, 2)
        assert list(await consumer.settle([done(a, arrival(join, 1))])) == [OK]
        assert not broker.peek("releases")
        results.open_joins([Join(id=join, size=2)])
        assert list(await consumer.settle([done(b, arrival(join, 0))])) == [OK]
        assert ids_of(broker.peek()) == [release_of(join).id]
        assert list(results.members(join) or ()) == payloads([arrival(join, 0), arrival(join, 1)])

    async def test_a_settlement_opens_joins_before_it_arrives(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        results.open_joins([Join(id=join, size=2)])
        other = new_task_id()
        consumer = await consume("q")
        a, b = await self.hand_out(broker, consumer, 2)
        joins = (Join(id=join, size=1), Join(id=other, size=1))
        assert list(await consumer.settle([done(a, arrival(join, 0), arrival(other, 0), joins=joins)])) == [OK]
        assert ids_of(broker.peek("releases")) == [release_of(other).id], "opening what is open changes nothing"
        assert list(await consumer.settle([done(b, arrival(join, 1))])) == [OK]
        assert len(broker.peek("releases")) == 2

    async def test_without_a_position_behind_all_that_have_one(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        results.open_joins([Join(id=join, size=5)])
        consumer = await consume("q")
        deliveries = await self.hand_out(broker, consumer, 6)
        arrivals = [
            arrival(join, None, "z"),
            arrival(join, 1),
            arrival(join, None, "y"),
            arrival(join, 0),
            arrival(join, None, "z", payload=b"again"),
            arrival(join, None, "a"),
        ]
        for delivery, arrives in zip(deliveries, arrivals, strict=True):
            assert not broker.peek("releases")
            assert list(await consumer.settle([done(delivery, arrives)])) == [OK]
        assert ids_of(broker.peek()) == [release_of(join).id]
        expected = [arrivals[index] for index in (3, 1, 0, 2, 5)]
        assert list(results.members(join) or ()) == payloads(expected)

    async def test_an_extended_join_waits_for_one_more(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        results.open_joins([Join(id=join, size=1)])
        for _ in range(2):
            results.extend_join(join, "more")
        consumer = await consume("q")
        a, b = await self.hand_out(broker, consumer, 2)
        assert list(await consumer.settle([done(a, arrival(join, 0))])) == [OK]
        assert not broker.peek("releases")
        assert list(await consumer.settle([done(b, arrival(join, None, "more"))])) == [OK]
        assert ids_of(broker.peek()) == [release_of(join).id]

    async def test_results_of_other_tasks(self, broker: Broker, results: ResultStore, consume: Consume) -> None:
        final, fresh = new_task_id(), new_task_id()
        results.put([kept := result_of(final)])
        consumer = await consume("q")
        (delivery,) = await self.hand_out(broker, consumer, 1)
        failures = (result_of(final, "FAILURE"), result_of(fresh, "FAILURE", b"why"))
        async with background(results.await_final([fresh], timeout_s=LONG_S)) as waiting:
            outcome = Done(
                delivery=delivery, result=result_of(delivery.id, "STARTED"), workflow=Workflow(results=failures)
            )
            assert list(await consumer.settle([outcome])) == [OK]
            assert told(await within(asyncio.wait_for(waiting, None))) == told({fresh: failures[1]})
        assert told(results.get([final])) == told({final: kept}), "a final one stays"
        assert results.get([delivery.id])[delivery.id].state == "STARTED"

    async def test_records_are_written_with_the_settlement(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        results.save([Record(kind="model", id=join, payload=b"old")])
        consumer = await consume("q")
        (delivery,) = await self.hand_out(broker, consumer, 1)
        records = tuple(Record(kind="model", id=join + tail, payload=b"\x00new") for tail in ("", ".2"))
        assert list(await consumer.settle([Done(delivery=delivery, workflow=Workflow(records=records))])) == [OK]
        assert results.load("model", [join, join + ".2"]) == {each.id: each.payload for each in records}

    async def test_what_is_buried_arrives_too(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        results.open_joins([Join(id=join, size=1)])
        consumer = await consume("q")
        (delivery,) = await self.hand_out(broker, consumer, 1)
        outcome = Bury(
            delivery=delivery,
            reason="no such task",
            result=result_of(delivery.id, "FAILURE"),
            workflow=Workflow(arrivals=(arrival(join, 0),)),
        )
        assert list(await consumer.settle([outcome])) == [OK]
        assert ids_of(broker.dead_letters()) == [delivery.id]
        assert ids_of(broker.peek("releases")) == [release_of(join).id]

    async def test_a_batch_of_every_kind_with_workflows(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        other = new_task_id()
        results.open_joins([Join(id=join, size=3), Join(id=other, size=9)])
        sent = batch(6)
        broker.publish(sent)
        consumer = await consume("q")
        a, b, c, d, e, f = await take(consumer)
        answers = await consumer.settle(
            [
                done(a, arrival(join, 0)),
                Later(delivery=b, message=sent[1]),
                Bury(delivery=c, reason="no", workflow=Workflow(arrivals=(arrival(join, 1),))),
                Release(delivery=d, spent=True),
                Done(delivery=e, successors=(follower := outgoing("s"),), workflow=Workflow(closed=(other,))),
                done(a, arrival(join, 7)),
                done(f, arrival(join, 2)),
            ]
        )
        assert list(answers) == [OK, OK, OK, OK, OK, LOST, OK]
        assert ids_of(broker.peek("releases")) == [release_of(join).id]
        assert ids_of(broker.peek("s")) == [follower.id]
        assert list(results.members(join) or ()) == payloads([arrival(join, position) for position in range(3)])
        assert results.members(other) is None
        assert {each.id for each in await take(consumer)} == {b.id, d.id}

    async def test_settled_or_told_to_the_store_is_the_same(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        results.open_joins([Join(id=join, size=2)])
        assert list(results.arrive([arrival(join, 0)])) == [False]
        consumer = await consume("q")
        a, b = await self.hand_out(broker, consumer, 2)
        assert list(await consumer.settle([done(a, arrival(join, 0))])) == [OK]
        assert not broker.peek("releases")
        assert list(await consumer.settle([done(b, arrival(join, 1))])) == [OK]
        assert ids_of(broker.peek()) == [release_of(join).id]

    async def test_a_release_wakes_a_waiting_claim(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        results.open_joins([Join(id=join, size=2)])
        consumer, other = await consume("q"), await consume("releases")
        a, b = await self.hand_out(broker, consumer, 2)
        async with background(other.claim(limit=1, wait_s=LONG_S)) as waiting:
            assert list(await consumer.settle([done(a, arrival(join, 0))])) == [OK]
            assert list(await consumer.settle([done(b, arrival(join, 1))])) == [OK]
            assert ids_of(await within(asyncio.wait_for(waiting, None))) == [release_of(join).id]

    async def test_a_release_is_published_as_successors_are(
        self, broker: Broker, results: ResultStore, consume: Consume, clock: Clock, join: str
    ) -> None:
        top = broker.traits.priorities - 1
        other = new_task_id()
        results.open_joins([Join(id=join, size=1), Join(id=other, size=1)])
        consumer = await consume("q")
        a, b = await self.hand_out(broker, consumer, 2)
        first = release_of(join, priority=top, headers=b"\xff", body=b"\x00")
        later: Outgoing = release_of(other, not_before=clock.time() + LONG_S)
        if not broker.traits.native_delay:
            later = release_of(other)
        assert list(await consumer.settle([done(a, arrival(join, 0, release=first))])) == [OK]
        assert list(await consumer.settle([done(b, arrival(other, 0, release=later))])) == [OK]
        shown = {each.id: each for each in broker.peek()}
        its = shown[first.id]
        assert (its.priority, its.headers, its.body, its.task) == (top, b"\xff", b"\x00", first.task)
        assert shown[later.id].state == ("delayed" if broker.traits.native_delay else "ready")

    async def test_a_release_that_is_limited_waits_in_line(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        skip_unless(broker.traits.limits, "limits")
        limit = Admission(key="releases", concurrency=1)
        results.open_joins([Join(id=join, size=1)])
        consumer, other = await consume("q"), await consume("releases")
        (delivery,) = await self.hand_out(broker, consumer, 1)
        broker.publish([outgoing("releases", limit=limit)])
        before = await take_one(other)
        arrives = arrival(join, 0, release=release_of(join, limit=limit))
        assert list(await consumer.settle([done(delivery, arrives)])) == [OK]
        assert not await take(other)
        assert list(await other.settle([Done(delivery=before)])) == [OK]
        assert ids_of(await take(other)) == [release_of(join).id]

    async def test_a_release_that_was_cancelled_does_not_start(
        self, broker: Broker, results: ResultStore, consume: Consume, join: str
    ) -> None:
        skip_unless(broker.traits.cancel, "cancel")
        results.open_joins([Join(id=join, size=1)])
        consumer = await consume("q", "releases")
        (delivery,) = await self.hand_out(broker, consumer, 1)
        release = release_of(join)
        revoked = result_of(release.id, "REVOKED")
        broker.cancel([Cancellation(id=release.id, result=revoked)])
        assert list(await consumer.settle([done(delivery, arrival(join, 0))])) == [OK]
        if ids_of(await take(consumer)) != [release.id]:
            assert told(results.get([release.id])) == told({release.id: revoked})
        else:
            assert ids_of(await consumer.cancelled([release.id])) == [release.id]
