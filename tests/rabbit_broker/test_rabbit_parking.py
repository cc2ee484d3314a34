"""Tasks that take longer than the server lets a message be held, with a limit of two seconds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
from rabbit_desk import Desk, ids_of, message, take, take_all, wait_for

from celeriac.brokers.amqp.parking import ConsumerTimeout, own_name
from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import LeaseLostError
from celeriac.model import Bury, Done, Outgoing, Release, Settled
from servers.rabbit_server import RabbitServer

LIMIT_S = 2.0
OK = Settled.OK


@pytest.fixture(scope="module")
def hasty_server() -> Iterator[RabbitServer]:
    with RabbitServer(
        settings={"consumer_timeout": str(round(LIMIT_S * 1000))}, advanced={"channel_tick_interval": "200"}
    ) as server:
        yield server


@pytest.fixture
async def desk(hasty_server: RabbitServer) -> AsyncIterator[Desk]:
    url = hasty_server.url_of(await asyncio.to_thread(hasty_server.vhost))
    async with Desk(url, consumer_timeout=ConsumerTimeout(LIMIT_S)) as desk:
        yield desk


def test_the_servers_limit_is_learnt_from_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    limit = ConsumerTimeout()
    assert limit.seconds == 1800
    limit.learn("PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 90000 ms. ")
    assert limit.seconds == 90
    assert "consumer_timeout = 7200000" in caplog.text
    limit.learn("CONNECTION_FORCED - closed by the test")
    assert limit.seconds == 90


async def test_a_task_of_many_times_the_limit_runs_once(desk: Desk) -> None:
    consumer, other = await desk.open(), await desk.open()
    sent = [message() for _ in range(3)]
    await desk.publish(*sent)
    held = await take(consumer)
    assert ids_of(held) == ids_of(sent)
    until = SYSTEM_CLOCK.monotonic() + 2.5 * LIMIT_S
    while (left_s := until - SYSTEM_CLOCK.monotonic()) > 0:
        assert await other.claim(limit=10, wait_s=left_s) == [], "nobody else gets them meanwhile"
    await consumer.beat()
    one, two, three = held
    answers = await consumer.settle(
        [Done(delivery=one, successors=(message("s"),)), Release(delivery=two), Bury(delivery=three, reason="late")]
    )
    assert answers == [OK, OK, OK]
    assert ids_of(await wait_for(other)) == [two.id]
    assert await consumer.settle([Done(delivery=one)]) == [Settled.LEASE_LOST]
    await desk.until(lambda: desk.count("q.dead"), "the dead letter")
    assert await desk.count(own_name(consumer.incarnation)) == 0


async def test_what_is_parked_is_back_when_its_holder_dies(desk: Desk) -> None:
    consumer, other = await desk.open(), await desk.open()
    await desk.publish(one := message(priority=6))
    await take(consumer)
    await desk.until(lambda: consumer._parking.parked, "it is parked")
    waiting = asyncio.ensure_future(wait_for(other))
    await asyncio.sleep(0)
    died_at = SYSTEM_CLOCK.monotonic()
    await consumer.drop()
    await desk.note_lost(**{one.id: b"signal 9"})
    (again,) = await waiting
    assert SYSTEM_CLOCK.monotonic() - died_at < 4.0, "at once, or 2 s after it was parked"
    assert (again.id, again.priority, again.deliveries) == (one.id, 6, 2)
    assert (again.was_out, again.lost) == (True, (b"signal 9",))
    assert (again.headers, again.body) == (_as_read(desk, one), one.body)


def _as_read(desk: Desk, outgoing: Outgoing) -> bytes:
    parcel = desk.publisher.parcel(outgoing)
    return desk.form.decode(parcel.properties, parcel.body, "q").headers


async def test_one_that_is_settled_while_it_is_being_parked(desk: Desk) -> None:
    consumer = await desk.open()
    await desk.publish(*(message() for _ in range(20)))
    held = await take(consumer)
    await desk.until(lambda: consumer._parking._under_way or consumer._parking.parked, "they are being parked")
    assert set(await consumer.settle([Done(delivery=each) for each in held])) == {OK}
    await consumer.close()
    assert await take(await desk.open()) == []
    assert await desk.count("q") == 0


async def test_what_is_only_buffered_goes_back_long_before(desk: Desk) -> None:
    consumer = await desk.open()
    waiting = asyncio.ensure_future(consumer.claim(limit=4, wait_s=10))
    await asyncio.sleep(0)
    await desk.publish(message())
    await waiting
    await desk.publish(message(), message())
    await desk.until(lambda: desk.count("q"), "given back")


async def test_a_limit_that_nobody_knew_of_is_learnt_once(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.consumer_timeout = ConsumerTimeout()
    consumer = await desk.open()
    await desk.publish(one := message())
    await take(consumer)
    with caplog.at_level(logging.ERROR), pytest.raises(LeaseLostError):
        await consumer.claim(limit=1, wait_s=10)
    assert "consumer_timeout = 7200000" in caplog.text
    second = await desk.open()
    (again,) = await wait_for(second)
    assert again.id == one.id
    assert again.was_out
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2 * LIMIT_S):
            await second.claim(limit=1, wait_s=10)
    assert await second.settle([Done(delivery=again)]) == [OK]


async def test_under_a_memory_alarm_tasks_go_on_that_publish_nothing(desk: Desk, hasty_server: RabbitServer) -> None:
    await desk.publish(*(message() for _ in range(4)))
    consumer = await desk.open()
    one, two, three, four = await take(consumer)
    await asyncio.to_thread(hasty_server.set_alarm)
    try:
        settling = asyncio.ensure_future(consumer.settle([Done(delivery=one, successors=(message("s"),))]))
        await desk.until(lambda: consumer._outlet.is_blocked, "the server blocks who publishes")
        assert await consumer.settle([Done(delivery=two), Done(delivery=three)]) == [OK, OK]
        other = await desk.open()
        assert await take(other) == [], "one can begin as well"
        await consumer.drop()
        back = await take_all(other, 2)
    finally:
        await asyncio.to_thread(hasty_server.clear_alarm)
    await asyncio.gather(settling, return_exceptions=True)
    assert sorted(ids_of(back)) == sorted([one.id, four.id]), "what was acknowledged is"
