"""F11 on Redis: a sender's clock that is wrong changes nothing about how long its messages wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celeriac.brokers.redis import RedisBroker
from celeriac.clock import SYSTEM_CLOCK, SystemClock
from celeriac.model import Delivery, Done, Later, Outgoing, Settled, new_task_id


def message(delay_s: float | None = None, task_id: str = "") -> Outgoing:
    due = None if delay_s is None else SYSTEM_CLOCK.time() + delay_s
    timer = None if delay_s is None else SYSTEM_CLOCK.monotonic() + delay_s
    return Outgoing(
        id=task_id or new_task_id(), task="t", queue="q", headers=b"{}", body=b"x", not_before=due, timer=timer
    )


async def take(consumer: Any) -> Delivery:
    (found,) = await consumer.claim(limit=10, wait_s=10.0)
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize("off_s", [-3600.0, -30.0, 30.0, 3600.0])
async def test_a_countdown_is_as_long_by_any_clock(
    redis_url: str, open_broker: Callable[..., RedisBroker], consume: Any, monkeypatch: pytest.MonkeyPatch, off_s: float
) -> None:
    broker = open_broker(redis_url)
    consumer = await consume(broker)
    real = SystemClock.time
    monkeypatch.setattr(SystemClock, "time", lambda self: real(self) + off_s)
    sent, began = message(0.4), SYSTEM_CLOCK.monotonic()
    broker.publish([sent])
    assert broker.depth()["q"].delayed == 1
    got = await take(consumer)
    assert got.id == sent.id
    assert SYSTEM_CLOCK.monotonic() >= began + 0.4
    began = SYSTEM_CLOCK.monotonic()  # a retry, and what follows a task
    assert await consumer.settle([Later(delivery=got, message=message(0.4, got.id))]) == [Settled.OK]
    got = await take(consumer)
    assert SYSTEM_CLOCK.monotonic() >= began + 0.4
    began = SYSTEM_CLOCK.monotonic()
    following = message(0.4)
    assert await consumer.settle([Done(delivery=got, successors=(following,))]) == [Settled.OK]
    got = await take(consumer)
    assert got.id == following.id
    assert SYSTEM_CLOCK.monotonic() >= began + 0.4


@pytest.mark.parametrize("off_s", [-3600.0, 3600.0])
async def test_a_countdown_is_as_long_though_the_clock_steps_while_it_is_sent(
    redis_url: str, open_broker: Callable[..., RedisBroker], consume: Any, monkeypatch: pytest.MonkeyPatch, off_s: float
) -> None:
    broker = open_broker(redis_url)
    consumer = await consume(broker)
    sent, began = message(0.4), SYSTEM_CLOCK.monotonic()
    real = SystemClock.time
    monkeypatch.setattr(SystemClock, "time", lambda self: real(self) + off_s)
    broker.publish([sent])
    assert (await take(consumer)).id == sent.id
    assert SYSTEM_CLOCK.monotonic() >= began + 0.4


async def test_a_moment_is_a_moment_by_the_servers_clock(
    redis_url: str, open_broker: Callable[..., RedisBroker], consume: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = open_broker(redis_url)
    consumer = await consume(broker)
    due = SYSTEM_CLOCK.time() + 0.4
    real = SystemClock.time
    monkeypatch.setattr(SystemClock, "time", lambda self: real(self) + 3600.0)
    broker.publish([Outgoing(id=new_task_id(), task="t", queue="q", headers=b"{}", body=b"x", not_before=due)])
    await take(consumer)
    assert real(SYSTEM_CLOCK) >= due
