"""The station in this process: leases, transport errors, what is claimed and what is given back."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from shop import make_links, make_runtime
from workshop import Bench, wait_until

from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import BrokerUnavailableError, LeaseLostError, WorkerError
from celeriac.model import Cancellation
from celeriac.probe import Probe
from celeriac.worker.embedded import EmbeddedWorker
from celeriac.worker.runtime import Links, Runtime, WorkerOptions


class Place:
    """A memory broker, and workers on it."""

    def __init__(self, folder: Path) -> None:
        self.url = f"memory://{folder.name}"
        self.bench = Bench(folder, self.url, make_links(self.url))
        self.workers: list[EmbeddedWorker] = []
        self.probe = Probe()

    def runtime(self, links: Any = None, **options: Any) -> Runtime:
        resolved = WorkerOptions(**{"node": "e@test", "queues": ("q",), "lease_s": 5.0, "grace_s": 5.0, **options})
        runtime = make_runtime(self.url, resolved)
        if links is None:
            return runtime
        return Runtime(
            options=resolved,
            links=links,
            executor=runtime.executor,
            casualties=runtime.casualties,
            on_process_start=runtime.on_process_start,
            on_process_stop=runtime.on_process_stop,
        )

    def start(self, links: Any = None, **options: Any) -> EmbeddedWorker:
        worker = EmbeddedWorker(lambda: self.runtime(links, **options), probe=self.probe)
        worker.start()
        self.workers.append(worker)
        return worker


@pytest.fixture
def place(tmp_path: Path, ledger: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for worker in place.workers:
        worker.stop(grace_s=0.2)


def test_def_and_async_tasks_of_one_queue(place: Place) -> None:
    place.start()
    bench = place.bench
    ids = [bench.send("awork" if n % 2 else "work", f"t{n}") for n in range(200)]
    for task_id in ids:
        assert bench.result(task_id)["status"] == "SUCCESS"
    bench.wait_empty()
    assert all(bench.count("end", f"t{n}") == 1 for n in range(200))


def test_async_tasks_run_side_by_side(place: Place) -> None:
    place.start(async_slots=1000)
    began = SYSTEM_CLOCK.monotonic()
    ids = place.bench.send_many("asoft", [("x", 0.1)] * 1000)
    for task_id in ids:
        place.bench.result(task_id)
    place.bench.wait_empty()
    assert SYSTEM_CLOCK.monotonic() - began < 3.0  # one after another they take 100 s


def test_no_more_than_its_slots_run_at_a_time(place: Place) -> None:
    place.start(async_slots=3)
    place.bench.send_many("awork", [(f"t{n}", 0.05) for n in range(20)])
    place.bench.wait_empty()
    level = most = 0
    for event, *_ in place.bench.ledger():
        level += 1 if event == "start" else -1
        most = max(most, level)
    assert most <= 3


def test_a_lost_lease_is_replaced_and_late_results_thrown_away(place: Place) -> None:
    worker = place.start()
    bench = place.bench
    gate = bench.folder / "gate"
    task_id = bench.send("until", "a", str(gate))
    bench.wait_event("start", "a")
    before = worker.station.lease
    # what a reaper does when the lease has run out
    asyncio.run(bench.broker.abandon(before.consumer.incarnation, running=[task_id]))
    rest = bench.send_many("work", [(f"t{n}",) for n in range(5)])
    gate.touch()
    place.probe.wait("lease_lost")
    assert bench.result(task_id)["status"] == "SUCCESS"
    for one in rest:
        assert bench.result(one)["status"] == "SUCCESS"
    bench.wait_empty()
    assert bench.count("start", "a") == 2  # the first run's outcome was refused
    assert worker.station.lease is not before
    assert before.lost


def test_nothing_starts_past_the_lease(place: Place) -> None:
    """R3: a process whose time is over asks the broker before it starts anything, and starts nothing if it lost."""
    worker = place.start()
    bench = place.bench
    gate = bench.folder / "gate"
    bench.send_many("noop", [()] * 300)
    bench.wait_empty()
    bench.send("until", "first", str(gate))
    bench.send_many("work", [(f"t{n}",) for n in range(10)])
    bench.wait_event("start", "first")
    station = worker.station
    old = station.lease
    asyncio.run(bench.broker.abandon(old.consumer.incarnation, running=()))
    station.slot.lease_until = 0.0
    gate.touch()
    place.probe.wait("lease_lost")
    bench.wait_empty()
    assert all(bench.count("start", f"t{n}") == 1 for n in range(10))


def test_a_lease_that_only_looks_over_is_confirmed_and_nothing_is_lost(place: Place) -> None:
    worker = place.start()
    bench = place.bench
    bench.result(bench.send("work", "a"))
    lease = worker.station.lease
    worker.station.slot.lease_until = 0.0
    assert bench.result(bench.send("work", "b"))["status"] == "SUCCESS"
    assert worker.station.lease is lease
    assert worker.station.slot.lease_until > SYSTEM_CLOCK.monotonic()


def test_cancelled_tasks_are_revoked_before_their_start(place: Place) -> None:
    place.start()
    bench = place.bench
    gate = bench.folder / "gate"
    bench.send_many("noop", [()] * 300)
    bench.wait_empty()
    bench.send("until", "first", str(gate))
    ids = bench.send_many("work", [(f"t{n}",) for n in range(10)])
    bench.wait_event("start", "first")
    bench.broker.cancel([Cancellation(id=task_id) for task_id in ids])
    gate.touch()
    bench.wait_empty()
    assert all(bench.count("start", f"t{n}") == 0 for n in range(10))


def test_what_waits_behind_a_long_task_is_given_back(place: Place) -> None:
    place.start()
    bench = place.bench
    gate = bench.folder / "gate"
    bench.send_many("noop", [()] * 300)
    bench.wait_empty()
    bench.send("until", "long", str(gate))
    ids = bench.send_many("work", [(f"t{n}",) for n in range(20)])
    bench.wait_event("start", "long")
    place.probe.wait("released")
    second = place.start()
    for task_id in ids:
        assert bench.result(task_id)["status"] == "SUCCESS"
    assert bench.count("end", "long") == 0
    gate.touch()
    bench.wait_empty()
    assert second.started


class Flaky:
    """A consumer's broker that fails as often as it is told."""

    def __init__(self, broker: Any) -> None:
        self._broker = broker
        self.failures = 0
        self.lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def fail(self) -> None:
        with self.lock:
            if self.failures > 0:
                self.failures -= 1
                raise BrokerUnavailableError("the line is cut")

    async def open_consumer(self, queues: Any, /, **options: Any) -> Any:
        self.fail()
        return FlakyConsumer(await self._broker.open_consumer(queues, **options), self)


class FlakyConsumer:
    def __init__(self, consumer: Any, broker: Flaky) -> None:
        self._consumer = consumer
        self._broker = broker

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    async def claim(self, **options: Any) -> Any:
        self._broker.fail()
        return await self._consumer.claim(limit=options["limit"], wait_s=min(0.05, options["wait_s"]))

    async def settle(self, outcomes: Any) -> Any:
        self._broker.fail()
        answers = await self._consumer.settle(outcomes)
        self._broker.fail()  # the answer is lost: the outcomes are settled, and nobody knows
        return answers


def test_transport_errors_are_waited_out_and_nothing_is_lost(place: Place) -> None:
    links = make_links(place.url)
    flaky = Flaky(links.broker)
    flaky.failures = 2
    place.start(Links(broker=flaky, results=links.results, control=None, fused=True))
    bench = place.bench
    ids = []
    for _ in range(5):
        ids += bench.send_many("noop", [()] * 20)
        flaky.failures = 1
        wait_until(lambda: flaky.failures == 0, "the fault to be met")
    for task_id in ids:
        assert bench.result(task_id)["status"] == "SUCCESS"
    bench.wait_empty()


class Unsure(Flaky):
    """A broker whose connection is the lease. The first has been given up while its process stood still."""

    def __init__(self, broker: Any) -> None:
        super().__init__(broker)
        self.traits = msgspec.structs.replace(broker.traits, lease_kind="connection")
        self.consumers: list[UnsureConsumer] = []

    async def open_consumer(self, queues: Any, **options: Any) -> Any:
        inner = await self._broker.open_consumer(queues, **options)
        self.consumers.append(UnsureConsumer(inner, self, sure_until=math.inf if self.consumers else 0.0))
        return self.consumers[-1]


class UnsureConsumer(FlakyConsumer):
    def __init__(self, consumer: Any, broker: Unsure, *, sure_until: float) -> None:
        super().__init__(consumer, broker)
        self.sure_until = sure_until
        self.claimed: list[str] = []
        self.settled: list[str] = []

    async def claim(self, **options: Any) -> Any:
        found = await self._consumer.claim(**options)
        self.claimed += [one.id for one in found]
        return found

    async def settle(self, outcomes: Any) -> Any:
        self.settled += [one.delivery.id for one in outcomes]
        return await self._consumer.settle(outcomes)

    async def beat(self) -> None:
        if self.sure_until == 0.0:
            await self._broker._broker.abandon(self._consumer.incarnation, running=())
            raise LeaseLostError("the server had given it up")


@pytest.mark.parametrize("task", ["work", "awork"])
def test_history_f5_rabbitmq_who_stood_still_asks_before_it_starts_anything(place: Place, task: str) -> None:
    """The history of a worker that was stopped for three leases: what lay in its socket was others' by then, and it
    started it before it knew.
    """
    task_id = place.bench.send(task, "a")
    links = make_links(place.url)
    unsure = Unsure(links.broker)
    place.start(Links(broker=unsure, results=links.results, control=None, fused=True))
    assert place.bench.result(task_id)["status"] == "SUCCESS"
    first, second = unsure.consumers
    assert first.claimed == second.claimed == second.settled == [task_id]
    assert first.settled == []
    assert place.bench.count("start", "a") == 1


def test_an_outcome_that_the_broker_refuses_is_buried_alone(place: Place) -> None:
    links = make_links(place.url)
    bad: set[str] = set()

    class Picky(Flaky):
        async def open_consumer(self, queues: Any, /, **options: Any) -> Any:
            return PickyConsumer(await self._broker.open_consumer(queues, **options), self)

    class PickyConsumer(FlakyConsumer):
        async def settle(self, outcomes: Any) -> Any:
            if any(one.delivery.id in bad and getattr(one, "result", None) is not None for one in outcomes):
                raise ValueError("too large for this broker")
            return await self._consumer.settle(outcomes)

    bench = place.bench
    ids = bench.send_many("noop", [()] * 20)
    bad.add(ids[7])
    place.start(Links(broker=Picky(links.broker), results=links.results, control=None, fused=True))
    bench.wait_empty()
    [dead] = bench.broker.dead_letters()
    assert dead.id == ids[7]
    assert "too large for this broker" in dead.reason
    assert len(bench.results.get(ids)) == 19


def test_stop_gives_back_what_does_not_end(place: Place) -> None:
    worker = place.start()
    bench = place.bench
    gate = bench.folder / "gate"
    task_id = bench.send("until", "a", str(gate))
    bench.wait_event("start", "a")
    assert worker.stop(grace_s=0.1) is False
    [left] = bench.broker.peek("q")
    assert (left.id, left.state, left.deliveries) == (task_id, "ready", 1)
    gate.touch()
    bench.wait_event("end", "a")
    assert [one.state for one in bench.broker.peek("q")] == ["ready"]  # nobody takes the late outcome


def test_stop_is_safe_twice_and_before_start(place: Place) -> None:
    worker = EmbeddedWorker(place.runtime)
    assert worker.stop() is True
    worker.start()
    assert worker.started
    with pytest.raises(WorkerError, match="runs already"):
        worker.start()
    assert worker.stop() is True
    assert worker.stop() is True
    assert not worker.started
    worker.start()
    assert worker.stop() is True


def test_a_worker_that_cannot_be_made_says_why() -> None:
    def broken() -> Runtime:
        raise RuntimeError("no such engine")

    with pytest.raises(RuntimeError, match="no such engine"):
        EmbeddedWorker(broken).start()


def test_expired_while_it_waited(place: Place) -> None:
    place.start()
    bench = place.bench
    gate = bench.folder / "gate"
    bench.send_many("noop", [()] * 300)
    bench.wait_empty()
    bench.send("until", "first", str(gate))
    late = bench.send("work", "late", expires=0.3)
    bench.wait_event("start", "first")
    expires = SYSTEM_CLOCK.monotonic() + 0.4
    wait_until(lambda: SYSTEM_CLOCK.monotonic() > expires, "the expiry")
    gate.touch()
    bench.wait_empty()
    assert bench.count("start", "late") == 0
    assert msgspec.json.decode(bench.results.get([late])[late].payload)["status"] == "REVOKED"
