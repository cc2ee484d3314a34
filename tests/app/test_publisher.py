"""Publishing when the broker is not there: bounded, never twice, never silent."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.errors import BrokerUnavailableError, EnqueueRejectedError, EnqueueUnknownError
from celeriac.testing import ManualClock


class Ticking(ManualClock):
    """Pauses take no time and are noted."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def pause(self, seconds: float, /) -> None:
        self.pauses.append(round(seconds, 3))
        self.advance(seconds)

    async def sleep(self, seconds: float, /) -> None:
        self.pause(seconds)


@pytest.fixture
def celeriac_clock() -> Ticking:
    return Ticking()


@pytest.fixture
def flaky(celeriac_app: Celeriac, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Errors that the next publishes raise; EnqueueUnknownError after the message was stored."""
    errors: list[Any] = []
    broker = celeriac_app.broker
    publish = broker.publish

    def sometimes(messages: Any) -> None:
        error = errors.pop(0) if errors else None
        if error is None or isinstance(error, EnqueueUnknownError):
            publish(messages)
        if error is not None:
            raise error

    async def asometimes(messages: Any) -> None:
        sometimes(messages)

    monkeypatch.setattr(broker, "publish", sometimes)
    monkeypatch.setattr(broker, "apublish", asometimes)
    return errors


async def test_it_tries_again_with_the_same_id(
    celeriac_app: Celeriac, celeriac_clock: Ticking, flaky: list[Any]
) -> None:
    for send in (lambda: celeriac_app.send_task("work"), lambda: celeriac_app.asend_task("work")):
        flaky += [BrokerUnavailableError("down"), EnqueueUnknownError("lost"), BrokerUnavailableError("down")]
        celeriac_clock.pauses.clear()
        sent: Any = send()
        result = sent if hasattr(sent, "id") else await sent
        assert celeriac_clock.pauses == [0, 0.2, 0.4]
        assert [peeked.id for peeked in celeriac_app.broker.peek()] == [result.id]
        celeriac_app.broker.purge(["celery"])


async def test_it_gives_up(celeriac_app: Celeriac, celeriac_clock: Ticking, flaky: list[Any]) -> None:
    flaky += [BrokerUnavailableError("down")] * 99
    with pytest.raises(BrokerUnavailableError, match="down"):
        celeriac_app.send_task("work")
    assert len(flaky) == 95
    with pytest.raises(BrokerUnavailableError, match="down"):
        celeriac_app.send_task("work", retry=False)
    assert len(flaky) == 94
    with pytest.raises(BrokerUnavailableError, match="down"):
        await celeriac_app.asend_task("work", retry_policy={"max_retries": 1, "interval_start": 0.5})
    assert len(flaky) == 92


async def test_no_try_begins_after_the_timeout(
    celeriac_app: Celeriac, celeriac_clock: Ticking, flaky: list[Any]
) -> None:
    flaky += [BrokerUnavailableError("down")] * 99
    policy = {"max_retries": None, "interval_max": 2}
    start = celeriac_clock.monotonic()
    with pytest.raises(BrokerUnavailableError):
        celeriac_app.send_task("work", retry_policy=policy)
    assert celeriac_clock.monotonic() - start < 5
    start = celeriac_clock.monotonic()
    with pytest.raises(BrokerUnavailableError):
        await celeriac_app.asend_task("work", retry_policy=policy)
    assert celeriac_clock.monotonic() - start < 5


def test_a_refusal_is_final(celeriac_app: Celeriac, celeriac_clock: Ticking, flaky: list[Any]) -> None:
    flaky.append(EnqueueRejectedError("full"))
    with pytest.raises(EnqueueRejectedError, match="full"):
        celeriac_app.send_task("work")
    assert celeriac_clock.pauses == []


def test_many_threads_open_one_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    from celeriac.app import application

    opened: list[Any] = []
    barrier = threading.Barrier(20)
    real = application.open_broker
    monkeypatch.setattr(application, "open_broker", lambda *args: opened.append(1) or real(*args))
    app = Celeriac("threads", broker="memory://threads")

    def send() -> None:
        barrier.wait(10)
        app.send_task("work")

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert opened == [1]
    assert app.broker.depth()["celery"].ready == 20
