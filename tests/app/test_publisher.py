"""Publishing when the broker is not there: bounded, never twice, never silent."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.errors import BrokerUnavailableError, EnqueueRejectedError, EnqueueUnknownError
from celeriac.interfaces.deadline import GIVE_UP_AT
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
    monkeypatch.setattr(application, "open_broker", lambda *args, **named: opened.append(1) or real(*args, **named))
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


async def test_an_outcome_that_was_unknown_once_stays_unknown(
    celeriac_app: Celeriac, celeriac_clock: Ticking, flaky: list[Any]
) -> None:
    """What the last try was told does not mean that the task will not run: an earlier one may have stored it."""
    for last in (EnqueueRejectedError("full"), BrokerUnavailableError("down")):
        errors = [BrokerUnavailableError("down"), EnqueueUnknownError("lost", task_ids=("a",)), *[last] * 9]
        flaky[:] = errors
        with pytest.raises(EnqueueUnknownError, match="lost") as caught:
            celeriac_app.send_task("work")
        assert caught.value.task_ids == ("a",)
        flaky[:] = errors
        with pytest.raises(EnqueueUnknownError, match="lost"):
            await celeriac_app.asend_task("work")


async def test_a_refusal_is_not_repeated(celeriac_app: Celeriac, celeriac_clock: Ticking, flaky: list[Any]) -> None:
    class FullError(EnqueueRejectedError, BrokerUnavailableError):
        """As the Redis adapter raises it: for a worker it is a matter of time."""

    flaky += [FullError("full")] * 2
    with pytest.raises(EnqueueRejectedError, match="full"):
        celeriac_app.send_task("work")
    assert len(flaky) == 1


async def test_repeats_know_how_much_time_is_left(
    celeriac_app: Celeriac, celeriac_clock: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    began = celeriac_clock.monotonic()

    def publish(messages: Any) -> None:
        told.append(GIVE_UP_AT.get() - began)
        celeriac_clock.advance(2.0)
        raise BrokerUnavailableError("slow")

    async def apublish(messages: Any) -> None:
        publish(messages)

    monkeypatch.setattr(celeriac_app.broker, "publish", publish)
    monkeypatch.setattr(celeriac_app.broker, "apublish", apublish)
    with pytest.raises(BrokerUnavailableError, match="slow"):
        celeriac_app.send_task("work")
    assert told == [float("inf"), 5.0, 5.0]
    began = celeriac_clock.monotonic()
    told.clear()
    with pytest.raises(BrokerUnavailableError, match="slow"):
        await celeriac_app.asend_task("work")
    assert told == [5.0, 5.0, 5.0]
    assert GIVE_UP_AT.get() == float("inf")
