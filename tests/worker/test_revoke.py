"""Cancelled tasks do not start; terminated ones stop within a second."""

from __future__ import annotations

import time

import pytest
from workshop import Bench

from celeriac.model import Cancellation

pytestmark = pytest.mark.processes


def test_what_waits_behind_a_running_task_is_not_started(bench: Bench) -> None:
    bench.start(processes=1)
    gate = bench.folder / "gate"
    bench.send_many("noop", [()] * 200)  # the average falls, so the process claims ahead
    bench.wait_empty()
    first = bench.send("until", "first", str(gate))
    waiting = bench.send_many("work", [(f"t{n}",) for n in range(10)])
    bench.wait_event("start", "first")
    bench.broker.cancel([Cancellation(id=task_id) for task_id in waiting[:5]])
    bench_sync(bench)
    gate.touch()
    assert bench.result(first)["status"] == "SUCCESS"
    for task_id in waiting[5:]:
        assert bench.result(task_id)["status"] == "SUCCESS"
    bench.wait_empty()
    assert [bench.count("start", f"t{n}") for n in range(10)] == [0] * 5 + [1] * 5


@pytest.mark.parametrize(
    ("task", "args", "options"),
    [
        ("work", (30.0,), {}),
        ("work", (30.0,), {"threads": 2}),
        ("awork", (30.0,), {}),
        ("stubborn", (), {}),
    ],
)
def test_terminate_stops_a_running_task(
    bench: Bench, task: str, args: tuple[float, ...], options: dict[str, int]
) -> None:
    bench.start(processes=1, **options)
    task_id = bench.send(task, "a", *args)
    bench.wait_event("start", "a")
    began = time.monotonic()
    bench.broker.cancel([Cancellation(id=task_id, terminate=True)])
    bench_sync(bench)
    assert bench.result(task_id)["status"] == "REVOKED"
    assert time.monotonic() - began < 6.0
    assert bench.result(bench.send("work", "after"))["status"] == "SUCCESS"
    assert bench.count("start", "a") == 1
    assert bench.count("end", "a") == 0
    bench.wait_empty()


@pytest.mark.parametrize(
    ("ending", "name", "status"),
    [
        ("raises", "SIGTERM", "REVOKED"),
        ("returns", "SIGTERM", "SUCCESS"),  # it has done its work, and said so in time
        ("goes on", "SIGTERM", "REVOKED"),
        ("goes on", "SIGKILL", "REVOKED"),
    ],
)
def test_a_task_s_own_handler_of_the_signal_has_its_turn(bench: Bench, ending: str, name: str, status: str) -> None:
    bench.start(processes=1)
    task_id = bench.send("tidy", "a", ending)
    bench.wait_event("start", "a")
    began = time.monotonic()
    bench.broker.cancel([Cancellation(id=task_id, terminate=True, signal=name)])
    bench_sync(bench)
    assert bench.result(task_id)["status"] == status
    assert time.monotonic() - began < 6.0
    assert bench.count("tidied", "a") == (name != "SIGKILL")
    assert bench.result(bench.send("work", "after"))["status"] == "SUCCESS"
    bench.wait_empty()


def bench_sync(bench: Bench) -> None:
    """The stamp of the broker behind a socket is written by its server."""
    if bench.server is not None:
        bench.server.sync()
