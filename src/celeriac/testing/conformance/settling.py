"""What `settle` promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celeriac.model import Bury, Done, Later, Release, Settled
from celeriac.testing.conformance.stage import (
    BrokerStage,
    Consume,
    batch,
    elapse,
    ids_of,
    keeps_places,
    outgoing,
    result_of,
    skip_unless,
    skip_without_leases,
    take,
    take_one,
    within,
)

if TYPE_CHECKING:
    from celeriac.clock import Clock
    from celeriac.interfaces import Broker, Consumer, ResultStore
    from celeriac.model import Delivery, Outcome

OK, LOST = Settled.OK, Settled.LEASE_LOST


async def settle(consumer: Consumer, *outcomes: Outcome) -> list[Settled]:
    """Their answers."""
    return list(await within(consumer.settle(outcomes)))


class SettlingTests(BrokerStage):
    async def test_done_is_gone(self, broker: Broker, consume: Consume) -> None:
        broker.publish(batch(3))
        consumer = await consume("q")
        assert await settle(consumer, *(Done(delivery=each) for each in await take(consumer))) == [OK] * 3
        assert not broker.peek()
        assert await broker.abandon(consumer.incarnation, running=()) == 0

    async def test_nothing_to_settle(self, consume: Consume) -> None:
        assert await settle(await consume("q")) == []

    async def test_successors_come_with_the_acknowledgement(self, broker: Broker, consume: Consume) -> None:
        broker.publish([outgoing(), live := outgoing("s", body=b"first")])
        consumer = await consume("q")
        following = outgoing("s")
        doubles = (outgoing("s", id=live.id, body=b"double"), following) if broker.traits.drops_doubles else ()
        successors = (following, *doubles)
        assert await settle(consumer, Done(delivery=await take_one(consumer), successors=successors)) == [OK]
        got = {each.id: each.body for each in await take(await consume("s"))}
        assert got == {live.id: b"first", following.id: following.body}, (
            "published as by `publish`: doubles are dropped"
        )

    async def test_delayed_successors_wait(self, broker: Broker, consume: Consume, clock: Clock, span: float) -> None:
        skip_unless(broker.traits.native_delay, "native_delay")
        broker.publish([outgoing()])
        consumer = await consume("q")
        following = outgoing(not_before=clock.time() + 2 * span)
        await settle(consumer, Done(delivery=await take_one(consumer), successors=(following,)))
        assert await take(consumer) == []
        await elapse(clock, 2 * span + broker.traits.time_precision_s)
        assert ids_of(await take(consumer)) == [following.id]

    async def test_results_are_stored_with_the_acknowledgement(
        self, broker: Broker, consume: Consume, results: ResultStore
    ) -> None:
        done, retried, buried = batch(3)
        broker.publish([done, retried, buried])
        consumer = await consume("q")
        first, second, third = await take(consumer)
        stored = {
            done.id: result_of(done.id, "SUCCESS", b"\xff\x00"),
            retried.id: result_of(retried.id, "RETRY"),
            buried.id: result_of(buried.id, "FAILURE"),
        }
        answers = await settle(
            consumer,
            Done(delivery=first, result=stored[done.id]),
            Later(delivery=second, message=retried, result=stored[retried.id]),
            Bury(delivery=third, reason="broken", result=stored[buried.id]),
        )
        assert answers == [OK] * 3
        assert results.get(list(stored)) == stored

    async def test_a_final_result_stays(self, broker: Broker, consume: Consume, results: ResultStore) -> None:
        broker.publish([message := outgoing()])
        consumer = await consume("q")
        delivery = await take_one(consumer)
        results.put([final := result_of(message.id, "REVOKED")])
        following = outgoing()
        outcome = Done(delivery=delivery, result=result_of(message.id, "SUCCESS"), successors=(following,))
        assert await settle(consumer, outcome) == [OK]
        assert results.get([message.id]) == {message.id: final}
        assert ids_of(await take(consumer)) == [following.id]

    async def test_later_keeps_the_id_and_counts_anew(
        self, broker: Broker, consume: Consume, clock: Clock, span: float
    ) -> None:
        skip_unless(broker.traits.native_delay, "native_delay")
        broker.publish([message := outgoing(body=b"first try")])
        consumer = await consume("q")
        again = outgoing(
            "r", id=message.id, body=b"second try", headers=b'{"retries":1}', not_before=clock.time() + 2 * span
        )
        assert await settle(consumer, Later(delivery=await take_one(consumer), message=again)) == [OK]
        second = await consume("r")
        assert await take(second) == []
        if broker.traits.shows_all:
            assert (broker.depth(["r"])["r"].delayed, ids_of(broker.peek())) == (1, [message.id])
        await elapse(clock, 2 * span + broker.traits.time_precision_s)
        got = await take_one(second)
        assert (got.id, got.queue, got.body, got.headers) == (message.id, "r", b"second try", b'{"retries":1}')
        assert got.deliveries == 1

    async def test_later_at_once(self, broker: Broker, consume: Consume) -> None:
        broker.publish([message := outgoing()])
        consumer = await consume("q")
        await settle(consumer, Release(delivery=await take_one(consumer), spent=True))
        assert await settle(consumer, Later(delivery=await take_one(consumer), message=message)) == [OK]
        assert (await take_one(consumer)).deliveries == 1

    async def test_a_release_goes_back_to_its_place(self, broker: Broker, consume: Consume) -> None:
        sent = batch(6)
        broker.publish(sent)
        consumer = await consume("q")
        first, second, third = await take(consumer, 3)
        assert (
            await settle(consumer, Release(delivery=third), Release(delivery=first), Release(delivery=second))
            == [OK] * 3
        )
        got = await take(consumer)
        if keeps_places(broker):
            assert ids_of(got) == ids_of(sent)
        assert sorted(ids_of(got)) == sorted(ids_of(sent))

    async def test_only_a_spent_release_counts(self, broker: Broker, consume: Consume) -> None:
        broker.publish([outgoing()])
        consumer = await consume("q")
        counts = []
        for spent in (False, False, True, False, True):
            delivery = await take_one(consumer)
            counts.append(delivery.deliveries)
            assert await settle(consumer, Release(delivery=delivery, spent=spent)) == [OK]
        counts.append((await take_one(consumer)).deliveries)
        assert counts == [1, 1, 1, 2, 2, 3]

    async def test_bury_moves_to_the_dead_letters(self, broker: Broker, consume: Consume, clock: Clock) -> None:
        broker.publish([message := outgoing(headers=b"\xff", body=b"\x00", task="shop.doom")])
        consumer = await consume("q")
        await settle(consumer, Release(delivery=await take_one(consumer), spent=True))
        callback = outgoing("errors")
        before = clock.time()
        outcome = Bury(
            delivery=await take_one(consumer), reason="no such tåsk", detail="line 1\nline 2", successors=(callback,)
        )
        assert await settle(consumer, outcome) == [OK]
        assert await take(consumer) == []
        (letter,) = broker.dead_letters()
        assert (letter.id, letter.task, letter.queue) == (message.id, "shop.doom", "q")
        assert (letter.reason, letter.detail, letter.deliveries) == ("no such tåsk", "line 1\nline 2", 2)
        assert (letter.headers, letter.body) == (b"\xff", b"\x00")
        assert before - 1 <= letter.buried_at <= clock.time() + 1
        assert ids_of(await take(await consume("errors"))) == [callback.id]

    async def test_a_batch_of_every_kind(self, broker: Broker, consume: Consume) -> None:
        sent = batch(6)
        broker.publish(sent)
        consumer = await consume("q")
        a, b, c, d, e, f = await take(consumer)
        assert await settle(consumer, Done(delivery=f)) == [OK]
        answers = await settle(
            consumer,
            Done(delivery=a, successors=(following := outgoing("s"),)),
            Done(delivery=f, successors=(never := outgoing("s"),)),
            Later(delivery=b, message=sent[1]),
            Release(delivery=c),
            Bury(delivery=d, reason="no"),
            Release(delivery=e, spent=True),
            Release(delivery=a),
        )
        assert answers == [OK, LOST, OK, OK, OK, OK, LOST]
        assert {each.id: each.deliveries for each in await take(consumer)} == {b.id: 1, c.id: 1, e.id: 2}
        assert ids_of(broker.dead_letters()) == [d.id]
        assert ids_of(await take(await consume("s"))) == [following.id]
        assert never.id not in ids_of(broker.peek())

    async def test_a_thousand_at_once(self, broker: Broker, consume: Consume) -> None:
        broker.publish(batch(1000))
        consumer, got = await consume("q"), []
        while taken := await take(consumer, broker.traits.max_batch):
            got += taken
        outcomes = [Done(delivery=each, successors=(outgoing("s"),)) for each in got]
        assert await settle(consumer, *outcomes) == [OK] * 1000
        assert broker.depth(["s"])["s"].ready == 1000

    @pytest.mark.parametrize("kind", ["done", "later", "release", "bury"])
    async def test_settled_once_only(self, broker: Broker, consume: Consume, kind: str) -> None:
        broker.publish([message := outgoing()])
        consumer = await consume("q")
        delivery = await take_one(consumer)
        assert await settle(consumer, Done(delivery=delivery)) == [OK]
        assert await settle(consumer, _outcome(kind, delivery, outgoing("s").id)) == [LOST]
        assert message.id not in ids_of(broker.peek())
        assert not broker.peek()

    async def test_the_same_delivery_twice_in_a_batch(self, broker: Broker, consume: Consume) -> None:
        broker.publish([outgoing()])
        consumer = await consume("q")
        delivery = await take_one(consumer)
        assert await settle(consumer, Done(delivery=delivery), Bury(delivery=delivery, reason="too late")) == [OK, LOST]
        assert not broker.peek()

    @pytest.mark.parametrize("kind", ["done", "later", "release", "bury"])
    @pytest.mark.parametrize("loss", ["abandoned", "reaped", "closed", "adopted"])
    async def test_a_stale_incarnation_is_refused(
        self, broker: Broker, consume: Consume, clock: Clock, span: float, loss: str, kind: str
    ) -> None:
        if loss != "closed":
            skip_without_leases(broker)
        broker.publish([message := outgoing()])
        stale = await consume("q", lease_s=span)
        other = await consume("q", lease_s=10 * span)
        old = await take_one(stale)
        new: Delivery | None = None
        if loss == "abandoned":
            await broker.abandon(stale.incarnation, running=[message.id])
        elif loss == "reaped":
            await elapse(clock, span * 1.1)
            assert await broker.reap(limit=10) == 1
        elif loss == "closed":
            await stale.close()
        else:
            (new,) = await other.adopt(stale.incarnation, [message.id])
        follower = outgoing("s").id
        assert await settle(stale, _outcome(kind, old, follower)) == [LOST]
        new = new or await take_one(other)
        # the same once another holds it: this is what a broker gets wrong that looks only at the message
        assert await settle(stale, _outcome(kind, old, follower)) == [LOST]
        assert not broker.dead_letters()
        if broker.traits.shows_all:
            assert [(each.id, each.holder, each.body) for each in broker.peek()] == [
                (message.id, other.incarnation, message.body)
            ]
        assert await settle(other, Done(delivery=new)) == [OK]
        assert not broker.peek()

    async def test_a_stale_result_is_never_seen(self, broker: Broker, consume: Consume, results: ResultStore) -> None:
        broker.publish([message := outgoing()])
        stale, other = await consume("q"), await consume("q")
        old = await take_one(stale)
        await broker.abandon(stale.incarnation, running=[message.id])
        late = result_of(message.id, "FAILURE", b"late")
        assert (
            await settle(
                stale,
                Done(delivery=old, result=late),
                Later(delivery=old, message=message, result=late),
                Bury(delivery=old, reason="late", result=late),
            )
            == [LOST] * 3
        )
        assert not results.get([message.id])
        true = result_of(message.id, "SUCCESS", b"true")
        assert await settle(other, Done(delivery=await take_one(other), result=true)) == [OK]
        assert await settle(stale, Done(delivery=old, result=late)) == [LOST]
        assert results.get([message.id]) == {message.id: true}


def _outcome(kind: str, delivery: Delivery, follower: str) -> Outcome:
    if kind == "done":
        return Done(delivery=delivery, successors=(outgoing("s", id=follower),))
    if kind == "later":
        return Later(delivery=delivery, message=outgoing(id=delivery.id, body=b"stale"))
    if kind == "release":
        return Release(delivery=delivery)
    return Bury(delivery=delivery, reason="stale", successors=(outgoing("s", id=follower),))
