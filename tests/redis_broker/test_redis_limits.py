"""What limited and unique messages cost on Redis, what they leave behind, and what can happen to them on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import redis

from celeriac import Celeriac
from celeriac.brokers.redis import RedisBroker, RedisConsumer
from celeriac.clock import SYSTEM_CLOCK
from celeriac.model import Admission, Bury, Cancellation, Done, Later, Release, Settled, Unique, new_incarnation
from celeriac.testing.conformance.stage import batch, eventually, ids_of, outgoing, take, take_one

ONE = Admission(key="busy", concurrency=1)
FAST = Admission(key="fast", concurrency=None, interval_s=0.001, burst=50)


def once(key: str = "u", **fields: Any) -> Unique:
    return Unique(key=key, ttl_s=60.0, **fields)


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as link:
        yield link


@pytest.fixture
def broker(redis_url: str) -> Iterator[RedisBroker]:
    broker = RedisBroker(redis_url)
    yield broker
    broker.close()


@pytest_asyncio.fixture
async def consume(broker: RedisBroker) -> AsyncIterator[Callable[..., Any]]:
    opened: list[RedisConsumer] = []

    async def open_one(*queues: str) -> RedisConsumer:
        opened.append(await broker.open_consumer(queues, incarnation=new_incarnation(), lease_s=600.0))
        return opened[-1]

    yield open_one
    for consumer in opened:
        await consumer.close()


def left_of(server: redis.Redis) -> set[str]:
    """All keys but those that stay for good: what queues there are, their numbers, wakes, and consumers."""
    stay = (
        "queues",
        "incs",
        "leases",
        ":n",
        ":w",
        "stamp",
        "cancelled",
        "cancelled:until",
        "bell",
        "sent",
        "sent:before",
        "sent:turned",
    )
    names = {key.decode().removeprefix("celeriac:") for key in server.keys("celeriac:*")}
    return {name for name in names if not name.endswith(stay) and not name.startswith("bell:")}


async def test_a_claim_asks_no_more_of_the_server_with_many_that_wait(
    broker: RedisBroker, server: redis.Redis, consume: Callable[..., Any]
) -> None:
    """Counted in calls, which no load on the machine changes; each of them looks at one end of a sorted set."""
    consumer = await consume("q")
    broker.publish([outgoing(limit=ONE)])
    holder = await take_one(consumer)

    async def calls_of_a_claim() -> int:
        broker.publish([outgoing(limit=Admission(key=f"k{number % 7}", concurrency=9)) for number in range(30)])
        broker.publish(batch(30))
        server.config_resetstat()
        taken = await take(consumer)
        calls = sum(each["calls"] for name, each in server.info("commandstats").items() if "config" not in name)
        assert len(taken) == 60
        await consumer.settle([Done(delivery=each) for each in taken])
        return int(calls)

    before = await calls_of_a_claim()
    for _ in range(20):
        broker.publish(batch(1000, limit=ONE))
    assert await calls_of_a_claim() == before
    assert broker.depth(["q"])["q"].ready == 20_000
    await consumer.settle([Done(delivery=holder)])
    assert [each.limit_key for each in await take(consumer)] == ["busy"]


@pytest.mark.parametrize("end", ["done", "bury", "cancel", "purge"])
async def test_nothing_is_left_of_limits_and_unique_keys(
    broker: RedisBroker, server: redis.Redis, consume: Callable[..., Any], end: str
) -> None:
    consumer = await consume("q", "r")
    due = SYSTEM_CLOCK.time() + 600.0
    sent = [
        *batch(4, limit=ONE),
        outgoing("r", limit=ONE, unique=once()),
        outgoing("r", unique=once("other", until="start"), not_before=due),
        outgoing(limit=FAST),
        outgoing("r", limit=FAST, not_before=due),
    ]
    assert not broker.publish(sent)
    assert {"gates", "gated", "unique:u", "unique:other"} < left_of(server)
    if end == "cancel":
        broker.cancel([Cancellation(id=each.id) for each in sent])
    elif end == "purge":
        assert broker.purge(["q", "r"]) == len(sent)
    else:
        while got := await take(consumer):
            await consumer.settle([Done(delivery=x) if end == "done" else Bury(delivery=x, reason="x") for x in got])
        broker.drop_dead(ids_of(sent))
        assert "unique:u" not in left_of(server)
        broker.purge(["q", "r"])
    await broker.reap(limit=9)
    # a key whose holder was removed unheard is free by look-up, and gone when its time is over
    await eventually(lambda: not left_of(server) - {"gates", "gated", "unique:u", "unique:other"}, "lines are gone")
    await eventually(lambda: SYSTEM_CLOCK.time() * 1000 > _arrival(server), "the pace of the key is forgotten")
    await broker.reap(limit=9)
    assert left_of(server) <= {"unique:u", "unique:other"}
    assert not broker.publish([outgoing(unique=once()), outgoing(unique=once("other"))])


def _arrival(server: redis.Redis) -> float:
    packed = server.hget("celeriac:gates", "fast")
    return 0.0 if packed is None else float(msgspec.msgpack.decode(packed)[3])


async def test_many_gates_are_swept_page_by_page(
    broker: RedisBroker, server: redis.Redis, consume: Callable[..., Any]
) -> None:
    consumer = await consume("q")
    for start in range(0, 3000, 1000):
        keys = [f"k{number}" for number in range(start, start + 1000)]
        broker.publish([outgoing(limit=Admission(key=key, interval_s=0.001, burst=9)) for key in keys])
    while got := await take(consumer, 1000):
        await consumer.settle([Done(delivery=each) for each in got])
    broker.publish([held := outgoing(limit=ONE)])
    assert (await take_one(consumer)).id == held.id
    for _ in range(30):
        await broker.reap(limit=9)
    assert set(server.hkeys("celeriac:gates")) == {b"busy"}


@pytest.mark.parametrize(
    "key", ["", ":", "a:b:c", "{x}", "50%", "*", "a\nb\0c", "\\d", "ключ", "\N{SNOWMAN}" * 50, "x" * 5000]
)
async def test_a_key_may_be_any_text(broker: RedisBroker, consume: Callable[..., Any], key: str) -> None:
    limit, unique = Admission(key=key, concurrency=1), Unique(key=key, ttl_s=60.0)
    broker.publish([first := outgoing(limit=limit, unique=unique), second := outgoing(limit=limit)])
    consumer = await consume("q")
    delivery = await take_one(consumer)
    assert (delivery.id, delivery.limit_key) == (first.id, key)
    assert await take(consumer) == []
    assert dict(broker.publish([third := outgoing(unique=unique)])) == {third.id: first.id}
    await consumer.settle([Release(delivery=delivery)])
    (delivery,) = await take(consumer)
    assert delivery.id == first.id
    await consumer.settle([Done(delivery=delivery)])
    assert ids_of(await take(consumer)) == [second.id]
    assert not broker.publish([third])


async def test_what_a_lost_claim_took_comes_with_the_next_and_keeps_its_slot(
    broker: RedisBroker, consume: Callable[..., Any]
) -> None:
    broker.publish([first := outgoing(limit=ONE), second := outgoing(limit=ONE)])
    consumer = await consume("q")
    delivery = await take_one(consumer)
    consumer._lanes[0].lost.append(delivery.tag)  # as if its reply had not come
    (again,) = await take(consumer)
    assert (again.id, again.tag, again.limit_key) == (first.id, delivery.tag, "busy")
    assert await consumer.settle([Done(delivery=again)]) == [Settled.OK]
    assert ids_of(await take(consumer)) == [second.id]


async def test_a_retry_in_another_queue_takes_its_unique_key_along(
    broker: RedisBroker, consume: Callable[..., Any]
) -> None:
    broker.publish([first := outgoing(unique=once(until="start"), limit=ONE)])
    consumer = await consume("q", "r")
    retry = outgoing("r", id=first.id, limit=Admission(key="other", concurrency=1))
    await consumer.settle([Later(delivery=await take_one(consumer), message=retry)])
    assert dict(broker.publish([second := outgoing(unique=once(until="start"))])) == {second.id: first.id}
    delivery = await take_one(consumer)
    assert (delivery.queue, delivery.limit_key) == ("r", "other")
    assert not broker.publish([second])


async def test_a_retry_says_nothing_of_what_holds_for_the_key_by_now(
    broker: RedisBroker, consume: Callable[..., Any]
) -> None:
    broker.publish([first := outgoing(limit=ONE)])
    consumer = await consume("q")
    delivery = await take_one(consumer)
    broker.publish(batch(2, limit=Admission(key="busy", concurrency=2)))
    await consumer.settle([Later(delivery=delivery, message=outgoing(id=first.id))])
    assert len(await take(consumer)) == 2


async def test_what_a_producer_of_celery_sent_gets_its_limit_from_the_worker(
    redis_url: str, server: redis.Redis
) -> None:
    """As the engine does it, and in the same queue."""
    broker = Celeriac("shop", broker=redis_url, task_celery_queues=["q"]).broker
    sent = [outgoing(headers=b'{"task":"shop.tidy","id":"t%d"}' % number, id=f"t{number}") for number in range(3)]
    broker.publish(sent)
    assert server.llen("q") == 3
    consumer = await broker.open_consumer(["q"], incarnation=new_incarnation(), lease_s=600.0)
    got = await take(consumer)
    assert [each.limit_key for each in got] == [None, None, None]
    later = [Later(delivery=each, message=outgoing(id=each.id, body=each.body, limit=ONE)) for each in got]
    assert set(await consumer.settle(later)) == {Settled.OK}
    ran = []
    while got := await take(consumer):
        (each,) = got
        ran.append((each.id, each.limit_key))
        await consumer.settle([Done(delivery=each)])
    assert ran == [("t0", "busy"), ("t1", "busy"), ("t2", "busy")]
    await consumer.close()
    broker.close()
