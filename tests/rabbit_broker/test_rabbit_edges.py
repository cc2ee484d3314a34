"""The consumer of RabbitMQ where two things happen at once, or one goes wrong in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from pamqp import commands
from rabbit_desk import DEADLINE_S, Desk, ids_of, message, take, wait_for

from celeriac.brokers.amqp.consumer import AmqpConsumer
from celeriac.brokers.amqp.layout import RUNGS, UNCLAIMED, broadcast_name, rung_name
from celeriac.brokers.amqp.methods import QueueDeclare
from celeriac.brokers.amqp.prefetch import fitting
from celeriac.brokers.amqp.publisher import Parcel
from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import BrokerUnavailableError
from celeriac.model import Binding, Bury, Done, ExchangePlan, Outgoing, QueuePlan, Settled
from celeriac.storage.amqp import Channel

OK = Settled.OK
NODE = "celery@test"


@pytest.fixture
async def desk(rabbit_url: str) -> AsyncIterator[Desk]:
    async with Desk(rabbit_url) as desk:
        yield desk


def _broadcast(name: str) -> QueuePlan:
    exchange = ExchangePlan(name=name, type="fanout")
    return QueuePlan(name=name, form="broadcast", bindings=(Binding(exchange=exchange),))


async def _consumers(desk: Desk, queue: str) -> int:
    return int((await desk.sender.call(QueueDeclare(queue=queue, passive=True))).consumer_count or 0)


async def _ladder(desk: Desk) -> int:
    return sum([await desk.count(rung_name(rung)) for rung in range(RUNGS)])


def _bare(one: Outgoing, desk: Desk, *, queue: str = "q") -> Parcel:
    """To its queue at once, whenever it is due: as Celery's producers do it."""
    properties, body = desk.form.encode(one)
    return Parcel.bare(queue, queue, properties, body)


def _due_later() -> Outgoing:
    due = SYSTEM_CLOCK.time() + 1000.0
    one = message()
    head = {**msgspec.json.decode(one.headers), "eta": datetime.fromtimestamp(due, UTC).isoformat()}
    return msgspec.structs.replace(one, headers=msgspec.json.encode(head), not_before=due)


def test_a_process_that_holds_thousands_is_sent_more() -> None:
    assert fitting(2048, held=5000, limit=100) >= 5100


# -- lanes that sleep ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["broadcast", "celery"])
async def test_a_queue_that_goes_when_it_is_not_consumed_is_consumed_by_a_busy_process_too(
    desk: Desk, form: str
) -> None:
    def plan_of(name: str) -> QueuePlan:
        return (
            _broadcast(name)
            if form == "broadcast"
            else QueuePlan(name=name, form="celery", arguments={"x-expires": 60_000})
        )

    desk.plan_of = desk.publisher._plan_of = plan_of
    consumer = await desk.open("news")
    waiting = asyncio.ensure_future(wait_for(consumer, 4))
    await desk.until(lambda: any(lane.prefetch for lane in consumer._lanes.all), "the lanes wake")
    await desk.publish(message("news"))
    assert len(await waiting) == 1
    await desk.until(lambda: consumer._is_slow, "it is known to be slow")
    await consumer._apply()
    assert await _consumers(desk, broadcast_name("news", NODE) if form == "broadcast" else "news") == 1


async def test_a_sleeping_queue_that_was_deleted_costs_nothing_that_is_held(desk: Desk) -> None:
    consumer = await desk.open("a", "b")
    waiting = asyncio.ensure_future(wait_for(consumer, 1))
    await desk.publish(message("a"))
    [held] = await waiting
    await desk.until(
        lambda: consumer._is_slow and not any(lane.prefetch for lane in consumer._lanes.all), "it is known to be slow"
    )
    await desk.sender.call(commands.Queue.Delete(queue="b"))
    await desk.publish(message("a"))
    assert len(await wait_for(consumer, 1)) == 1
    assert await consumer.settle([Done(delivery=held)]) == [OK]
    desk.places.forget("b")
    await desk.publish(late := message("b"))
    assert ids_of(await wait_for(consumer, 1)) == [late.id]


async def test_a_claim_gets_what_a_slow_server_brings_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = [message() for _ in range(4)]
    await desk.publish(*sent)
    consumer = await desk.open()
    get = Channel.get

    async def slowly(channel: Channel, queue: str) -> Any:
        await asyncio.sleep(0.4)
        return await get(channel, queue)

    monkeypatch.setattr(Channel, "get", slowly)
    assert ids_of(await take(consumer, 10)) == ids_of(sent)


@pytest.mark.parametrize("when", ["at first", "anew"])
async def test_a_consumer_that_cannot_be_begun_is_tried_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Not every error of a call ends the channel: a server may be slow."""
    consumer = await desk.open()
    begin, fails = Channel.consume, [True]

    async def consume(channel: Channel, queue: str, *args: Any, **options: Any) -> str:
        if queue == "q" and fails:
            fails.pop()
            raise BrokerUnavailableError("no answer in time")
        return await begin(channel, queue, *args, **options)

    if when == "at first":
        monkeypatch.setattr(Channel, "consume", consume)
        waiting = asyncio.ensure_future(wait_for(consumer, 1))
    else:
        waiting = asyncio.ensure_future(wait_for(consumer, 1))
        await desk.until(lambda: all(lane.prefetch for lane in consumer._lanes.all), "the lanes wake")
        lane = next(lane for lane in consumer._lanes.all if lane.name == "q")
        await lane.channel.cancel(str(lane.tag))
        monkeypatch.setattr(Channel, "consume", consume)
        await consumer._examine(lane)
        assert not fails
    await desk.publish(one := message())
    assert ids_of(await waiting) == [one.id]


# -- what is on its way when a consumer is closed --------------------------------------------------------------------


async def test_what_is_being_put_off_when_it_closes_is_there_once(desk: Desk) -> None:
    sent = [_due_later() for _ in range(300)]
    await desk.publish(*(each for each in sent[:1]))  # makes the ladder
    await desk.sender.send([_bare(each, desk) for each in sent[1:]])
    consumer = await desk.open()
    assert await take(consumer, 500) == []
    async with asyncio.timeout(DEADLINE_S):
        while not _unconfirmed(consumer):
            await asyncio.sleep(0)
    await consumer.close()

    async def are_there() -> bool:
        return await desk.count("q") + await _ladder(desk) >= len(sent)

    await desk.until(are_there, "all of them are somewhere")
    assert await desk.count("q") + await _ladder(desk) == len(sent)


def _unconfirmed(consumer: AmqpConsumer) -> bool:
    channel = consumer._sender._for_publishing
    return channel is not None and bool(channel._intake.confirms and channel._intake.confirms.pending)


async def test_what_was_settled_before_it_closes_does_not_come_again(desk: Desk) -> None:
    await desk.publish(*(message() for _ in range(300)))
    consumer = await desk.open()
    held = [*await take(consumer, 300)]
    for each in reversed(held):
        assert await consumer.settle([Done(delivery=each)]) == [OK]
    await consumer.close()
    other = await desk.open()
    assert await other.claim(limit=500, wait_s=1.0) == []


async def test_what_is_being_parked_when_it_closes_is_there_once(desk: Desk) -> None:
    sent = [message() for _ in range(300)]
    await desk.publish(*sent)
    consumer = await desk.open()
    held = [*await take(consumer, 300)]
    assert len(held) == 300
    entries = {tag: (lane.name, arrived) for tag, (lane, arrived) in consumer._held.items()}
    parking = asyncio.ensure_future(consumer._parking.park(entries))
    async with asyncio.timeout(DEADLINE_S):
        while not _unconfirmed(consumer):
            await asyncio.sleep(0)
    await consumer.close()
    await asyncio.gather(parking, return_exceptions=True)
    other, found = await desk.open(), []
    until = SYSTEM_CLOCK.monotonic() + 4.0  # a copy whose holder is gone is in its queue after two
    while (left_s := until - SYSTEM_CLOCK.monotonic()) > 0:
        found += await other.claim(limit=500, wait_s=left_s)
    assert sorted(ids_of(found)) == sorted(ids_of(sent))


# -- delays ----------------------------------------------------------------------------------------------------------


async def test_what_is_delayed_finds_a_queue_that_was_deleted_and_made_again(desk: Desk, rabbit_url: str) -> None:
    consumer = await desk.open()
    async with Desk(rabbit_url) as producer:
        await producer.publish(first := message(not_before=SYSTEM_CLOCK.time() + 0.2))
        held = await wait_for(consumer)
        assert ids_of(held) == [first.id]
        await consumer.settle([Done(delivery=each) for each in held])
        waiting = asyncio.ensure_future(wait_for(consumer))
        await desk.sender.call(commands.Queue.Delete(queue="q"))
        await desk.until(lambda: any(lane.broken for lane in consumer._lanes.all), "it is missed")
        await desk.until(lambda: all(not lane.broken and lane.prefetch for lane in consumer._lanes.all), "it is back")
        await producer.publish(second := message(not_before=SYSTEM_CLOCK.time() + 0.2))
        assert ids_of(await waiting) == [second.id]
        assert await desk.count(UNCLAIMED) == 0


# -- strange headers -------------------------------------------------------------------------------------------------


async def test_a_message_whose_headers_cannot_be_read_can_be_buried_when_it_comes_again(desk: Desk) -> None:
    value = b"t\1"
    for _ in range(40):
        value = b"A" + len(value).to_bytes(4, "big") + value
    table = b"\4deep" + value
    raw = b"\x20\0" + len(table).to_bytes(4, "big") + table
    consumer = await desk.open()
    await desk.sender.send([Parcel.bare("q", "q", raw, b"{}")])
    [bad] = await take(consumer)
    await consumer.drop()
    again = await desk.open()
    [bad] = await wait_for(again)
    assert await again.settle([Bury(delivery=bad, reason="not to be read")]) == [OK]
    await desk.until(lambda: desk.count("q.dead"), "the dead letter")
