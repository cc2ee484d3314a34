"""What only Redis has of joins, records and `gather`: keys, times to live, what is asked of the server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from celeriac.brokers.redis import RedisBroker
from celeriac.clock import SYSTEM_CLOCK
from celeriac.model import Done, Join, Record, StoredResult, Workflow, new_incarnation, new_task_id
from celeriac.results.redis import RedisResultStore
from celeriac.testing.conformance.stage import arrival, batch, eventually, result_of, take

DAY_S = 86_400.0
PARTS = {".s", ".t", ".j", ".d", ".e"}


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisResultStore]:
    store = RedisResultStore(redis_url)
    yield store
    store.close()


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as link:
        yield link


def parts_of(server: redis.Redis, join: str) -> dict[str, float]:
    """Seconds that the keys of a join have yet, by what they end in; -1: for ever."""
    base = f"celery-taskset-meta-{join}"
    return {key.decode().removeprefix(base): server.ttl(key) for key in server.keys(f"{base}*")}


def test_a_join_lives_as_long_as_its_last_member_says(store: RedisResultStore, server: redis.Redis) -> None:
    join, now = new_task_id(), SYSTEM_CLOCK.time()
    store.open_joins([Join(id=join, size=2, expires_at=now + 100)])
    store.extend_join(join, "more")
    store.arrive([arrival(join, 0, expires_at=now + DAY_S)])
    lives = parts_of(server, join)
    assert set(lives) == PARTS
    assert all(DAY_S - 10 < left < 1.06 * DAY_S for left in lives.values()), lives
    store.arrive([arrival(join, 1, expires_at=now + 10)])
    assert all(left > DAY_S - 10 for left in parts_of(server, join).values())
    assert list(store.arrive([arrival(join, 2, expires_at=now + 10)])) == [True]
    lives = parts_of(server, join)
    assert set(lives) == {".j", ".d", ".e", ".c"}
    assert all(left > DAY_S - 10 for left in lives.values()), lives


def test_what_is_kept_for_ever_stays_so(store: RedisResultStore, server: redis.Redis) -> None:
    join, now = new_task_id(), SYSTEM_CLOCK.time()
    store.open_joins([Join(id=join, size=2, expires_at=now + 100)])
    store.arrive([arrival(join, 0)])
    store.arrive([arrival(join, 1, expires_at=now + 10)])
    assert set(parts_of(server, join).values()) == {-1}


@pytest.mark.parametrize("lifetime_s", [None, 10.0, 2 * DAY_S])
async def test_a_closed_join_is_one_word(
    store: RedisResultStore, server: redis.Redis, lifetime_s: float | None
) -> None:
    join = new_task_id()
    at = None if lifetime_s is None else SYSTEM_CLOCK.time() + lifetime_s
    store.open_joins([Join(id=join, size=1, expires_at=at)])
    store.arrive([arrival(join, 0, expires_at=at)])
    await store.aclose_joins([join])
    assert list(store.arrive([arrival(join, 0), arrival(join, 1)])) == [False, False]
    lives = parts_of(server, join)
    assert set(lives) == {".c"}
    assert server.get(f"celery-taskset-meta-{join}.c") == b"done"
    assert lives[".c"] >= max(3599.0, (DAY_S if lifetime_s is None else lifetime_s) - 10)


def test_members_with_the_same_payload_are_two(store: RedisResultStore) -> None:
    join = new_task_id()
    store.open_joins([Join(id=join, size=4)])
    one = [arrival(join, position, f"m{position}", payload=b"[1]") for position in (0, 1)]
    other = [arrival(join, position, f"n{position}", payload=b"[1]") for position in (2, None)]
    assert list(store.arrive(one)) == [False, False]
    assert list(store.arrive(other)) == [True, True]
    assert store.members(join) == [b"[1]"] * 4


def test_a_list_of_celerys_is_gone_on_with(store: RedisResultStore, server: redis.Redis) -> None:
    """Its `result_chord_ordered` is off."""
    join = new_task_id()
    store.open_joins([Join(id=join, size=3)])
    server.rpush(f"celery-taskset-meta-{join}.j", b'[1, "a", "SUCCESS", 1]')
    arrivals = [arrival(join, 0, "a"), arrival(join, 2, "b"), arrival(join, 1, "c")]
    assert list(store.arrive(arrivals[:2])) == [False, False]
    assert list(store.arrive(arrivals[2:])) == [True]
    assert store.members(join) == [b'[1, "a", "SUCCESS", 1]', arrivals[1].payload, arrivals[2].payload]


def test_keys_lie_beside_those_of_results(redis_url: str, server: redis.Redis) -> None:
    store = RedisResultStore(redis_url, prefix="shop_celery-task-meta-")
    store.open_joins([Join(id="g", size=1)])
    store.save([Record(kind="group", id="g", payload=b"1"), Record(kind="flow", id="f", payload=b"2")])
    assert {key.decode() for key in server.keys("shop_*")} == {
        "shop_celery-taskset-meta-g.s",
        "shop_celery-taskset-meta-g",
        "shop_celeriac:flow:f",
    }
    store.close()


def test_a_cluster_keeps_a_join_in_one_slot(redis_cluster: Any) -> None:
    store = RedisResultStore(redis_cluster.url)
    joins = [new_task_id() for _ in range(20)]
    store.open_joins([Join(id=join, size=1) for join in joins])
    assert all(store.arrive([arrival(join, 0) for join in joins]))
    store.save([Record(kind="group", id=join, payload=join.encode()) for join in joins])
    assert store.load("group", joins) == {join: join.encode() for join in joins}
    assert [len(store.members(join) or ()) for join in joins] == [1] * 20
    store.close()


async def test_the_members_of_a_join_cost_few_commands(redis_url: str, store: RedisResultStore) -> None:
    """One message to follow them all, and lists of members: counted in calls, which no load changes."""
    broker = RedisBroker(redis_url)
    consumer = await broker.open_consumer(("q",), incarnation=new_incarnation(), lease_s=600.0)
    join = new_task_id()
    store.open_joins([Join(id=join, size=1000)])
    with redis.Redis.from_url(redis_url) as server:

        async def calls(count: int, first: int) -> int:
            broker.publish(batch(count))
            deliveries = await take(consumer, count)
            outcomes = [
                Done(delivery=each, workflow=Workflow(arrivals=(arrival(join, first + at),)))
                for at, each in enumerate(deliveries)
            ]
            server.config_resetstat()
            await consumer.settle(outcomes)
            return sum(int(each["calls"]) for name, each in server.info("commandstats").items() if "config" not in name)

        await calls(1, 0)
        assert await calls(10, 1) == await calls(90, 11)
    await consumer.close()
    broker.close()


# -- gather -----------------------------------------------------------------------------------------------------------


def test_gather_subscribes_to_each_once(store: RedisResultStore, server: redis.Redis, redis_url: str) -> None:
    results = [result_of(new_task_id()) for _ in range(1200)]
    ids = [each.id for each in results]
    store.put(results[:300])
    server.config_resetstat()
    gathering = store.gather(ids, timeout_s=60)
    assert [next(gathering).id for _ in range(300)] == ids[:300]
    got: list[StoredResult] = []
    thread = threading.Thread(target=lambda: got.extend(gathering))
    thread.start()
    with closing(RedisResultStore(redis_url)) as other:
        for at in range(len(results) - 1, 299, -50):
            other.put(results[max(300, at - 49) : at + 1])
    thread.join(20)
    assert got == results[300:]
    stats = server.info("commandstats")
    assert stats["cmdstat_subscribe"]["calls"] <= 3
    assert stats["cmdstat_mget"]["calls"] <= 12


async def test_gather_outlives_a_cut_connection(store: RedisResultStore, redis_server: Any) -> None:
    results = [result_of(new_task_id()) for _ in range(20)]
    got: list[StoredResult] = []
    gathering = store.gather([each.id for each in results], timeout_s=60)
    thread = threading.Thread(target=lambda: got.extend(gathering))
    thread.start()
    await eventually(lambda: len(store._listener._waiting) == 20, "it waits for all")
    store.put(results[:1])
    await eventually(lambda: len(got) == 1, "the first came")
    redis_server.cli().client_kill_filter(_type="pubsub")
    store.put(results[1:])
    thread.join(20)
    assert got == results
    await eventually(lambda: not store._listener._waiting, "nobody waits any more")
