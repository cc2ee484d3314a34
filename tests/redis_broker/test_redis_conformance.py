"""The broker suite over Redis: one server, and a cluster of three."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from celeriac.brokers.redis import RedisBroker
from celeriac.clock import SYSTEM_CLOCK
from celeriac.model import new_task_id
from celeriac.results.redis import RedisResultStore
from celeriac.testing.conformance import BrokerSuite, check_broker_model, check_schedule_model
from celeriac.testing.conformance.scheduling import SchedulingTests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celeriac.clock import Clock
    from celeriac.interfaces import Broker, ResultStore


class _OnRedis(BrokerSuite):
    @pytest.fixture
    def clock(self):
        """The server keeps the time."""
        return SYSTEM_CLOCK

    test_rows_that_were_removed_long_ago_go = None  # type: ignore[assignment]  # TestRedisSchedulesByHand has it


class TestRedisBroker(_OnRedis):
    @pytest.fixture
    def broker_factory(self, redis_url):
        return lambda: RedisBroker(redis_url)

    @pytest.fixture
    def result_store_factory(self, redis_url):
        return lambda: RedisResultStore(redis_url)


class TestRedisSchedulesByHand(SchedulingTests):
    """Time that is moved by hand, for what takes a month."""

    @pytest.fixture
    def broker_factory(self, redis_url, clock):
        return lambda: RedisBroker(redis_url, clock=clock)

    @pytest.fixture
    def result_store_factory(self, redis_url):
        return lambda: RedisResultStore(redis_url)


class TestRedisClusterBroker(_OnRedis):
    @pytest.fixture
    def broker_factory(self, redis_cluster):
        prefix = f"{new_task_id()}:"
        return lambda: RedisBroker(redis_cluster.url, key_prefix=prefix)


@pytest.fixture
def open_store(redis_url):
    """Opens brokers and result stores of their own on one server."""

    @contextmanager
    def open_store(clock: Clock) -> Iterator[tuple[Broker, ResultStore]]:
        prefix = f"{new_task_id()}:"
        broker = RedisBroker(redis_url, clock=clock, key_prefix=prefix, result_prefix=f"{prefix}celery-task-meta-")
        results = RedisResultStore(redis_url, prefix=f"{prefix}celery-task-meta-")
        try:
            yield broker, results
        finally:
            broker.close()
            results.close()

    return open_store


@pytest.mark.timeout(300)  # on a busy machine, each order waits until the consumers have heard of it
def test_the_redis_broker_follows_the_model(open_store):
    check_broker_model(open_store, examples=15)


@pytest.mark.timeout(300)
def test_schedules_on_redis_follow_the_model(open_store):
    check_schedule_model(open_store, examples=15)
