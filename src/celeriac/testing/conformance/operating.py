"""What an operator is promised: `depth`, `peek`, `purge`, `cancel`, dead letters."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from celeriac.model import Admission, Bury, Cancellation, Cancelled, Done, Later, QueueDepth, Release, Settled
from celeriac.testing.clocks import ManualClock
from celeriac.testing.conformance.stage import (
    BrokerStage,
    Consume,
    background,
    batch,
    elapse,
    eventually,
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
    from collections.abc import Callable

    from celeriac.clock import Clock
    from celeriac.interfaces import Broker, ResultStore
    from celeriac.model import Outgoing


def _counts(depth: QueueDepth) -> tuple[int, int, int, int]:
    return depth.ready, depth.delayed, depth.held, depth.dead


class OperatingTests(BrokerStage):
    async def test_depth_counts_every_state(self, broker: Broker, consume: Consume, clock: Clock, span: float) -> None:
        delayed = batch(3, not_before=clock.time() + span) if broker.traits.native_delay else []
        broker.publish([*batch(7), *delayed, *batch(2, "other")])
        consumer = await consume("q")
        first, *_ = await take(consumer, 3)
        await consumer.settle([Bury(delivery=first, reason="no")])
        depth = broker.depth()
        assert set(depth) == {"q", "other"}
        if not broker.traits.shows_all:
            assert [(each.dead, each.delayed, each.held) for each in depth.values()].count((0, 0, 0)) == 1
            assert (depth["q"].dead, depth["other"].ready) == (1, 2)
            assert depth["q"].ready <= 4 + len(delayed), "of what waits, consumers may have some in hand already"
            return
        assert _counts(depth["q"]) == (4, len(delayed), 2, 1)
        assert _counts(depth["other"]) == (2, 0, 0, 0)
        assert set(broker.depth(["other"])) == {"other"}
        assert _counts(broker.depth(["none"]).get("none", QueueDepth())) == (0, 0, 0, 0)
        await elapse(clock, span + broker.traits.time_precision_s)
        depth = broker.depth(["q"])
        assert _counts(depth["q"]) == (4 + len(delayed), 0, 2, 1), "delayed means not due yet"
        age_s = depth["q"].oldest_ready_s
        assert age_s is None or span * 0.9 <= age_s <= span * 10

    async def test_peek_shows_without_taking(self, broker: Broker, consume: Consume, clock: Clock, span: float) -> None:
        skip_unless(broker.traits.shows_all, "view of what is held or delayed")
        broker.publish([a := outgoing(headers=b"\xff"), b := outgoing("other", task="else", body=b"\x00")])
        consumer = await consume("q")
        dead, held = a, outgoing()
        await consumer.settle([Bury(delivery=await take_one(consumer), reason="no")])
        broker.publish([held])
        await take_one(consumer)
        broker.publish([ready := outgoing()])
        expected = {dead.id: "dead", held.id: "held", ready.id: "ready", b.id: "ready"}
        if broker.traits.native_delay:
            broker.publish([delayed := outgoing(not_before=clock.time() + span)])
            expected[delayed.id] = "delayed"
            (shown,) = broker.peek(state="delayed")
            assert shown.not_before == pytest.approx(clock.time() + span, abs=max(span, 0.01))
        for _ in range(2):
            assert {each.id: each.state for each in broker.peek()} == expected
        for state in ("ready", "delayed", "held", "dead"):
            assert {each.id for each in broker.peek(state=state)} == {
                key for key, its in expected.items() if its == state
            }
        shown = {each.id: each for each in broker.peek()}[b.id]
        assert (shown.queue, shown.task, shown.body, shown.headers) == ("other", "else", b"\x00", b"{}")
        assert (shown.deliveries, shown.holder) == (0, None)
        (shown,) = broker.peek("q", state="held")
        assert (shown.id, shown.holder, shown.deliveries) == (held.id, consumer.incarnation, 1)
        assert ids_of(broker.peek("other")) == [b.id]
        assert {each.id for each in broker.peek(ids=[held.id, b.id, "unknown"])} == {held.id, b.id}
        assert ids_of(broker.peek("q", ids=[held.id, b.id])) == [held.id]
        assert len(broker.peek(limit=2)) == 2

    async def test_peek_shows_the_next_first(self, broker: Broker, consume: Consume) -> None:
        levels = broker.traits.priorities
        skip_unless(keeps_places(broker), "fifo ordering of what has been looked at")
        broker.publish([outgoing(priority=index % levels) for index in range(12)])
        assert ids_of(broker.peek("q", state="ready", limit=5)) == ids_of(await take(await consume("q"), 5))

    async def test_purge_deletes_what_waits(self, broker: Broker, consume: Consume, clock: Clock, span: float) -> None:
        skip_unless(broker.traits.shows_all, "view of what is held or delayed")
        delayed = batch(2, not_before=clock.time() + span) if broker.traits.native_delay else []
        broker.publish([*batch(5), *delayed, *batch(1, "second"), *batch(1, "kept")])
        consumer = await consume("q")
        held, dead = await take(consumer, 2)
        await consumer.settle([Bury(delivery=dead, reason="no")])
        assert broker.purge(["q", "second", "none"]) == 3 + len(delayed) + 1
        assert broker.purge(["q", "second"]) == 0
        await elapse(clock, span + broker.traits.time_precision_s)
        assert {each.id for each in broker.peek("q")} == {held.id, dead.id}
        assert broker.depth(["kept"])["kept"].ready == 1
        assert await consumer.settle([Release(delivery=held)]) == [Settled.OK]
        broker.publish([after := outgoing()])
        assert ids_of(await take(consumer)) == [held.id, after.id]

    async def test_purge_deletes_what_nobody_has_in_hand(self, broker: Broker, consume: Consume) -> None:
        broker.publish([*batch(5), *batch(1, "second"), *batch(1, "kept")])
        assert broker.purge(["q", "second", "none"]) == 6
        assert broker.purge(["q", "second"]) == 0
        assert broker.depth(["kept"])["kept"].ready == 1
        broker.publish([message := outgoing()])
        assert ids_of(await take(await consume("q", "second"))) == [message.id]

    async def test_dead_letters_newest_first(self, broker: Broker, consume: Consume, clock: Clock) -> None:
        broker.publish([*(first := batch(3)), *(second := batch(2, "r"))])
        consumer = await consume("q", "r")
        for delivery in await take(consumer):
            await consumer.settle([Bury(delivery=delivery, reason=f"reason of {delivery.id}")])
            await elapse(clock, 0.01)
        newest = ids_of([*second[::-1], *first[::-1]])
        assert ids_of(broker.dead_letters()) == newest
        assert ids_of(broker.dead_letters("q")) == newest[2:]
        assert ids_of(broker.dead_letters(limit=2)) == newest[:2]
        assert ids_of(broker.dead_letters(ids=[newest[3], newest[0], "unknown"])) == [newest[0], newest[3]]
        assert ids_of(broker.dead_letters("q", ids=[newest[3], newest[0]])) == [newest[3]]
        assert broker.dead_letters(ids=[newest[3]])[0].reason == f"reason of {newest[3]}"

    async def test_a_revived_letter_runs_again(self, broker: Broker, consume: Consume) -> None:
        top = broker.traits.priorities - 1
        broker.publish([message := outgoing(body=b"\xff", priority=top), other := outgoing()])
        consumer = await consume("q")
        await consumer.settle([Release(delivery=each, spent=True) for each in await take(consumer)])
        await consumer.settle([Bury(delivery=each, reason="no") for each in await take(consumer)])
        assert broker.revive([message.id, "unknown"]) == 1
        assert broker.revive([message.id]) == 0
        got = await take_one(consumer)
        assert (got.id, got.queue, got.body, got.headers, got.priority) == (message.id, "q", b"\xff", b"{}", top)
        assert got.deliveries == 1
        assert ids_of(broker.dead_letters()) == [other.id]
        assert await consumer.settle([Done(delivery=got)]) == [Settled.OK]

    async def test_a_dropped_letter_is_gone(self, broker: Broker, consume: Consume) -> None:
        broker.publish([message := outgoing(), waiting := outgoing("r")])
        consumer = await consume("q")
        await consumer.settle([Bury(delivery=await take_one(consumer), reason="no")])
        assert broker.drop_dead([message.id, waiting.id, "unknown"]) == 1
        assert broker.drop_dead([message.id]) == 0
        assert ids_of(broker.peek()) == [waiting.id]
        assert broker.revive([message.id]) == 0

    async def test_cancel_removes_what_waits(self, broker: Broker, consume: Consume, clock: Clock, span: float) -> None:
        skip_unless(broker.traits.cancel, "cancel")
        waiting = [outgoing(), outgoing()]
        if broker.traits.native_delay:
            waiting.append(outgoing(not_before=clock.time() + span))
        broker.publish([*waiting, kept := outgoing()])
        assert list(broker.cancel([Cancellation(id=each.id) for each in waiting])) == [Cancelled.REMOVED] * len(waiting)
        await elapse(clock, span + broker.traits.time_precision_s)
        assert ids_of(broker.peek()) == [kept.id]
        assert ids_of(await take(await consume("q"))) == [kept.id]

    async def test_cancel_marks_what_is_held(self, broker: Broker, consume: Consume) -> None:
        broker.publish([message := outgoing(), other := outgoing()])
        consumer = await consume("q")
        delivery, _ = await take(consumer)
        assert list(await consumer.cancelled([message.id, other.id])) == []
        before = consumer.cancel_stamp
        order = Cancellation(id=message.id, terminate=True, signal="SIGUSR1")
        assert list(broker.cancel([order])) == [Cancelled.MARKED]
        await eventually(lambda: consumer.cancel_stamp != before, "the stamp changed after a cancellation")
        assert list(await consumer.cancelled([message.id, other.id, "unknown"])) == [order]
        assert await consumer.settle([Done(delivery=delivery)]) == [Settled.OK], "it is the worker who stops it"

    async def test_the_stamp_changes_for_every_adapter(
        self, broker: Broker, broker_factory: Callable[[], Broker], consume: Consume
    ) -> None:
        other = broker_factory()
        consumers = [await consume("q"), await consume("q", broker=other)]
        for canceller in (broker, other):
            before = [each.cancel_stamp for each in consumers]
            canceller.cancel([Cancellation(id=outgoing().id)])
            for consumer, old in zip(consumers, before, strict=True):

                def changed(consumer=consumer, old=old) -> bool:  # type: ignore[no-untyped-def]
                    return bool(consumer.cancel_stamp != old)

                await eventually(changed, "the stamp changed in every adapter")
        other.close()

    @pytest.mark.parametrize("when", ["published later", "given back", "abandoned"])
    async def test_nobody_starts_what_was_marked(
        self, broker: Broker, consume: Consume, clock: Clock, when: str
    ) -> None:
        if when == "abandoned":
            skip_without_leases(broker)
        message: Outgoing = outgoing()
        holder, consumer = await consume("q"), await consume("q")
        held = None
        if when != "published later":
            broker.publish([message])
            held = await take_one(holder)
        assert list(broker.cancel([Cancellation(id=message.id)])) == [Cancelled.MARKED]
        if isinstance(clock, ManualClock):
            clock.advance(23 * 3600)  # marks are kept for a day
            await broker.beat([holder.incarnation, consumer.incarnation])
        # a worker that asks only when the stamp has changed has asked now, before it ever heard of the message
        assert list(await consumer.cancelled(["another"])) == []
        asked_at = consumer.cancel_stamp
        if held is None:
            broker.publish([message])
        elif when == "given back":
            await holder.settle([Release(delivery=held)])
        else:
            await broker.abandon(holder.incarnation, running=())
        for delivery in await take(consumer):  # an adapter may also drop it
            assert ids_of(await consumer.cancelled([delivery.id])) == [message.id]
            await eventually(lambda: consumer.cancel_stamp != asked_at, "the stamp changed with a marked delivery")

    @pytest.mark.parametrize(
        "when", ["waiting", "published later", "a successor", "given back", "put back", "abandoned", "closed"]
    )
    async def test_who_drops_what_is_cancelled_stores_its_result(
        self, broker: Broker, results: ResultStore, consume: Consume, when: str
    ) -> None:
        skip_unless(broker.traits.cancel, "cancel")
        message, carrier = outgoing(), outgoing("carriers")
        holder, consumer = await consume("q"), await consume("q", "carriers")
        held = None
        if when not in ("published later", "a successor"):
            broker.publish([message])
            if when != "waiting":
                held = await take_one(holder)
        revoked = result_of(message.id, "REVOKED", b'{"status":"REVOKED"}')
        (answer,) = broker.cancel([Cancellation(id=message.id, result=revoked)])
        assert answer is (Cancelled.REMOVED if when == "waiting" else Cancelled.MARKED)
        if when == "published later":
            broker.publish([message])
        elif when == "a successor":
            broker.publish([carrier])
            await consumer.settle([Done(delivery=await take_one(consumer), successors=(message,))])
        elif when == "given back":
            assert held is not None
            await holder.settle([Release(delivery=held)])
        elif when == "put back":
            assert held is not None
            await holder.settle([Later(delivery=held, message=message)])
        elif when == "abandoned":
            await broker.abandon(holder.incarnation, running=())
        elif when == "closed":
            await holder.close()
        if ids_of(await take(consumer)) != [message.id]:
            assert results.get([message.id]) == {message.id: revoked}, "nobody else can know that it was dropped"

    async def test_an_order_does_not_touch_what_is_held_or_final(
        self, broker: Broker, results: ResultStore, consume: Consume
    ) -> None:
        skip_unless(broker.traits.cancel, "cancel")
        broker.publish([message := outgoing()])
        consumer = await consume("q")
        delivery = await take_one(consumer)
        broker.cancel([Cancellation(id=message.id, result=result_of(message.id, "REVOKED"))])
        broker.publish([message])
        assert not results.get([message.id]), "it may be running to a success"
        success = result_of(message.id)
        assert await consumer.settle([Done(delivery=delivery, result=success)]) == [Settled.OK]
        broker.publish([message])
        assert not await take(consumer)
        assert results.get([message.id]) == {message.id: success}

    async def test_to_cancel_twice_is_fine(self, broker: Broker, consume: Consume) -> None:
        broker.publish([message := outgoing()])
        consumer = await consume("q")
        await take_one(consumer)
        broker.cancel([Cancellation(id=message.id), Cancellation(id=message.id)])
        before = consumer.cancel_stamp
        broker.cancel([Cancellation(id=message.id, terminate=True)])
        await eventually(lambda: consumer.cancel_stamp != before, "the stamp changed after a cancellation")
        (order,) = await consumer.cancelled([message.id])
        assert order.terminate, "the later, stronger order counts"

    @pytest.mark.parametrize(
        "when",
        ["waiting", "delayed", "published later", "a successor", "given back", "put back", "abandoned", "closed"],
    )
    async def test_what_is_to_be_handed_out_is_not_dropped(
        self, broker: Broker, consume: Consume, clock: Clock, when: str
    ) -> None:
        skip_unless(broker.traits.cancel, "cancel")
        later = clock.time() + 3600 if broker.traits.native_delay else None
        message = outgoing(not_before=later if when == "delayed" else None)
        delayed = outgoing(id=message.id, not_before=later)
        holder, consumer = await consume("q"), await consume("q", "carriers")
        held = None
        if when not in ("published later", "a successor"):
            broker.publish([message])
            if when not in ("waiting", "delayed"):
                held = await take_one(holder)
        order = Cancellation(id=message.id, hand_out=True, result=result_of(message.id, "REVOKED"))
        assert list(broker.cancel([order])) == [Cancelled.MARKED]
        assert list(await consumer.cancelled(["another"])) == []
        asked_at = consumer.cancel_stamp
        if when == "published later":
            broker.publish([delayed])
        elif when == "a successor":
            broker.publish([outgoing("carriers")])
            await consumer.settle([Done(delivery=await take_one(consumer), successors=(delayed,))])
        elif when == "given back":
            assert held is not None
            await holder.settle([Release(delivery=held)])
        elif when == "put back":
            assert held is not None
            await holder.settle([Later(delivery=held, message=delayed)])
        elif when == "abandoned":
            await broker.abandon(holder.incarnation, running=())
        elif when == "closed":
            await holder.close()
        assert ids_of(broker.peek(state="ready")) == [message.id], "now, though it was to come later"
        delivery = await take_one(consumer)
        assert delivery.id == message.id
        await eventually(lambda: consumer.cancel_stamp != asked_at, "the stamp changed with a marked delivery")
        assert ids_of(await consumer.cancelled([message.id])) == [message.id]
        assert await consumer.settle([Done(delivery=delivery)]) == [Settled.OK]

    async def test_the_result_of_what_is_handed_out_is_the_workers(
        self, broker: Broker, results: ResultStore, consume: Consume
    ) -> None:
        skip_unless(broker.traits.cancel, "cancel")
        broker.publish([message := outgoing()])
        broker.cancel([Cancellation(id=message.id, hand_out=True, result=result_of(message.id, "REVOKED"))])
        assert not results.get([message.id])
        consumer = await consume("q")
        revoked = result_of(message.id, "REVOKED", b"by the worker")
        assert await consumer.settle([Done(delivery=await take_one(consumer), result=revoked)]) == [Settled.OK]
        assert results.get([message.id]) == {message.id: revoked}

    async def test_what_is_revoked_before_it_is_published_is_handed_out(
        self, broker: Broker, results: ResultStore, consume: Consume
    ) -> None:
        skip_unless(broker.traits.cancel, "cancel")
        message = outgoing()
        broker.cancel([Cancellation(id=message.id, hand_out=True)])
        results.put([result_of(message.id, "REVOKED")])
        broker.publish([message])
        consumer = await consume("q")
        assert (await take_one(consumer)).id == message.id, "others wait to be told of its end"

    async def test_what_others_wait_for_is_not_dropped_by_a_later_order(self, broker: Broker, consume: Consume) -> None:
        skip_unless(broker.traits.cancel, "cancel")
        broker.publish([message := outgoing()])
        broker.cancel([Cancellation(id=message.id, hand_out=True)])
        assert list(broker.cancel([Cancellation(id=message.id, terminate=True)])) == [Cancelled.MARKED]
        consumer = await consume("q")
        delivery = await take_one(consumer)
        (order,) = await consumer.cancelled([message.id])
        assert order.terminate
        assert await consumer.settle([Release(delivery=delivery)]) == [Settled.OK]
        assert ids_of(await take(consumer)) == [message.id]

    async def test_a_waiting_claim_gets_what_is_handed_out(
        self, broker: Broker, consume: Consume, clock: Clock
    ) -> None:
        skip_unless(broker.traits.cancel and broker.traits.native_delay, "cancel and native_delay")
        broker.publish([message := outgoing(not_before=clock.time() + 3600)])
        consumer = await consume("q")
        async with background(consumer.claim(limit=1, wait_s=3600)) as waiting:
            broker.cancel([Cancellation(id=message.id, hand_out=True)])
            assert ids_of(await within(asyncio.wait_for(waiting, None))) == [message.id]

    async def test_a_limited_message_is_handed_out_when_its_limit_allows(
        self, broker: Broker, consume: Consume, clock: Clock
    ) -> None:
        skip_unless(broker.traits.cancel and broker.traits.limits, "cancel and limits")
        limit = Admission(key="one", concurrency=1)
        later = clock.time() + 3600 if broker.traits.native_delay else None
        broker.publish([outgoing(limit=limit), message := outgoing(limit=limit, not_before=later)])
        consumer = await consume("q")
        first = await take_one(consumer)
        broker.cancel([Cancellation(id=message.id, hand_out=True)])
        assert not await take(consumer)
        assert await consumer.settle([Done(delivery=first)]) == [Settled.OK]
        assert ids_of(await take(consumer)) == [message.id]
