"""Task and worker events: what is told, that telling never hurts, and that it costs nothing while nobody listens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from control_fleet import wait_until

from celeriac import Celeriac, Reject
from celeriac.brokers.memory import MemoryEvents
from celeriac.clock import SYSTEM_CLOCK
from celeriac.engine import signals
from celeriac.errors import BrokerUnavailableError
from celeriac.testing import RunningWorker
from celeriac.worker.events import Dispatcher, TaskEvents, shown
from celeriac.worker.slots import SlotMap

Event = Mapping[str, Any]


class Monitor:
    """Everything that is told in a space."""

    def __init__(self, url: str) -> None:
        self.receiver = MemoryEvents(url).listen()
        self.events: list[Event] = []

    def of(self, task_id: str) -> list[Event]:
        self.events += self.receiver.receive(timeout_s=0.0)
        return [event for event in self.events if event.get("uuid") == task_id]

    def wait(self, task_id: str, *kinds: str) -> list[Event]:
        wait_until(lambda: [event["type"] for event in self.of(task_id)] == list(kinds), f"{kinds} of {task_id}")
        return self.of(task_id)


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    return f"memory://events-{request.node.name}"


@pytest.fixture
def app(url: str) -> Iterator[Celeriac]:
    app = Celeriac("events", broker=url, worker_send_task_events=True)

    @app.task(name="add")
    def add(x: int, y: int = 1) -> int:
        return x + y

    @app.task(name="aadd")
    async def aadd(x: int) -> int:
        return x

    @app.task(name="fail")
    def fail() -> None:
        raise ValueError("what is wrong")

    @app.task(name="stumble", bind=True)
    def stumble(self: Any) -> None:
        if self.request.retries == 0:
            raise self.retry(countdown=0.01)

    @app.task(name="refuse")
    def refuse() -> None:
        raise Reject("no", requeue=False)

    @app.task(name="quiet", send_events=False)
    def quiet() -> None: ...

    @app.task(name="nest")
    def nest() -> None:
        add.apply((1,))

    yield app
    app.close()


@pytest.fixture
def monitor(url: str, app: Celeriac) -> Iterator[Monitor]:
    monitor = Monitor(url)
    yield monitor
    monitor.receiver.close()


def test_the_life_of_a_task(app: Celeriac, monitor: Monitor) -> None:
    with RunningWorker(app, queues=["celery"]) as worker:
        for name in ("add", "aadd"):
            task_id = app.send_task(name, (2,)).id
            received, started, succeeded = monitor.wait(task_id, "task-received", "task-started", "task-succeeded")
            assert received["name"] == name
            assert (received["args"], received["kwargs"], received["retries"]) == ("(2,)", "{}", 0)
            assert (received["root_id"], received["parent_id"], received["eta"]) == (task_id, None, None)
            assert succeeded["result"] == ("3" if name == "add" else "2")
            assert 0.0 <= succeeded["runtime"] < 5.0
            assert received["clock"] < started["clock"] < succeeded["clock"]
            assert received["timestamp"] <= started["timestamp"] <= succeeded["timestamp"]
            assert {event["hostname"] for event in (received, started, succeeded)} == {worker.node}
            assert received["pid"] > 0
            assert isinstance(received["utcoffset"], float)
        failed = monitor.wait(app.send_task("fail").id, "task-received", "task-started", "task-failed")[-1]
        assert failed["exception"] == "ValueError('what is wrong')"
        assert "in fail" in failed["traceback"]
        task_id = app.send_task("stumble").id
        kinds = ["task-received", "task-started"]
        monitor.wait(task_id, *kinds, "task-retried", *kinds, "task-succeeded")
        rejected = monitor.wait(app.send_task("refuse").id, *kinds, "task-rejected")[-1]
        assert rejected["requeue"] is False
        unknown = monitor.wait(app.send_task("nosuch").id, "task-failed")[0]
        assert unknown["exception"].startswith("NotRegistered(")
        expired = app.send_task("add", (1,), expires=-1).id
        assert monitor.wait(expired, "task-revoked")[0]["expired"] is True
        monitor.wait(app.send_task("nest").id, *kinds, "task-succeeded")
        assert {letter.task for letter in worker.dead_letters()} == {"refuse", "nosuch"}
    told = [event for event in monitor.events if event["type"] == "task-received" and event["name"] == "add"]
    assert len(told) == 1, "what a task runs in its own process is no task of the worker"


def test_those_that_want_none(app: Celeriac, monitor: Monitor) -> None:
    with RunningWorker(app, queues=["celery"]):
        quiet = app.send_task("quiet")
        quiet.get(timeout=5.0)
        monitor.wait(app.send_task("add", (1,)).id, "task-received", "task-started", "task-succeeded")
        assert monitor.of(quiet.id) == []


def test_nothing_hangs_on_the_engine_while_nobody_wants_events(app: Celeriac, monitor: Monitor) -> None:
    app.conf["worker_send_task_events"] = False
    watched = (signals.task_prerun, signals.task_success, signals.task_failure, signals.task_retry)
    before = [len(signal.receivers) for signal in watched]
    with RunningWorker(app, queues=["celery"]) as worker:
        assert [len(signal.receivers) for signal in watched] == before
        assert worker.worker.station._events is None
        result = app.send_task("add", (1,))
        result.get(timeout=5.0)
    assert monitor.of(result.id) == []


def test_what_was_sent_is_told_by_its_sender(url: str, monitor: Monitor) -> None:
    producer = Celeriac("producer", broker=url, task_send_sent_event=True)
    sent = producer.send_task("add", (1,), {"y": 2}, queue="q", expires=60)
    [event] = monitor.of(sent.id)
    assert event["type"] == "task-sent"
    assert (event["name"], event["args"], event["kwargs"]) == ("add", "(1,)", "{'y': 2}")
    assert (event["queue"], event["exchange"], event["routing_key"]) == ("q", "", "q")
    assert event["hostname"].startswith("gen")
    assert event["expires"]
    asyncio.run(_send_async(producer, monitor))
    producer.close()


async def _send_async(producer: Celeriac, monitor: Monitor) -> None:
    sent = await producer.asend_task("add", (1,))
    assert [event["type"] for event in monitor.of(sent.id)] == ["task-sent"]


class Broken:
    """A channel that fails until it is mended, and keeps what it carried."""

    def __init__(self) -> None:
        self.is_mended = False
        self.carried: list[Event] = []

    def publish(self, events: Sequence[Event], /) -> None:
        if not self.is_mended:
            raise BrokerUnavailableError("could not send events: nobody is there")
        self.carried += events

    async def apublish(self, events: Sequence[Event], /) -> None:
        self.publish(events)

    def listen(self) -> Any: ...

    async def aclose(self) -> None: ...

    def close(self) -> None: ...


def test_a_failed_event_does_not_fail_the_send(url: str) -> None:
    producer = Celeriac("producer", broker=url, task_send_sent_event=True)
    producer.__dict__["event_channel"] = channel = Broken()
    sent = [producer.send_task("add", (1,)).id for _ in range(3)]
    assert {one.id for one in producer.broker.peek("celery")} == set(sent)
    assert channel.carried == []
    producer.close()


async def test_the_oldest_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    channel = Broken()
    logical = SlotMap.create(slots=1, entries=1).board().clock
    dispatcher = Dispatcher(channel, node="w@test", clock=SYSTEM_CLOCK, logical=logical, most=10)
    for number in range(25):
        dispatcher.send("task-started", uuid=str(number))
    dispatcher.send("worker-heartbeat")
    assert dispatcher.dropped == 16
    running = asyncio.create_task(dispatcher.run())
    async with asyncio.timeout(5.0):
        while "events cannot be sent" not in caplog.text:
            await asyncio.sleep(0.01)
        for number in range(25, 31):
            dispatcher.send("task-started", uuid=str(number))
        channel.is_mended = True
        while len(channel.carried) < 10:
            await asyncio.sleep(0.01)
    assert [event["uuid"] for event in channel.carried] == [str(number) for number in range(21, 31)]
    assert dispatcher.dropped == 21
    assert "21 were dropped" in caplog.text
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_last_ones_are_sent_at_the_end_and_do_not_hold_it_up() -> None:
    channel = Broken()
    logical = SlotMap.create(slots=1, entries=1).board().clock
    dispatcher = Dispatcher(channel, node="w@test", clock=SYSTEM_CLOCK, logical=logical)
    dispatcher.send("worker-offline")
    await dispatcher.finish(1.0)
    assert (channel.carried, dispatcher.dropped) == ([], 1)
    channel.is_mended = True
    dispatcher.send("worker-offline")
    await dispatcher.finish(1.0)
    assert [event["type"] for event in channel.carried] == ["worker-offline"]


class Bad:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("value", ["x" * 10_000, [1] * 10_000, {i: i for i in range(10_000)}, Bad(), b"\xff" * 5000])
def test_what_is_shown_is_short_whatever_it_is(value: object) -> None:
    assert len(shown(value)) <= 1024


def test_a_task_is_received_before_it_starts(app: Celeriac, monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly that is told: a thread of the worker may run the task meanwhile."""
    receive = TaskEvents.received

    def slowly(self: TaskEvents, attempt: Any) -> None:
        SYSTEM_CLOCK.pause(0.1)
        receive(self, attempt)

    monkeypatch.setattr(TaskEvents, "received", slowly)
    with RunningWorker(app):
        sent = app.tasks["add"].delay(1)
        monitor.wait(sent.id, "task-received", "task-started", "task-succeeded")
