"""Time limits in the main thread, in threads and on the loop."""

from __future__ import annotations

import time

import pytest
from workshop import Bench

pytestmark = pytest.mark.processes

PLACES = [("soft", {}), ("soft", {"threads": 2}), ("asoft", {})]


@pytest.mark.parametrize(("task", "options"), PLACES)
def test_soft_limit_is_raised_inside_the_task(bench: Bench, task: str, options: dict[str, int]) -> None:
    bench.start(processes=1, **options)
    began = time.monotonic()
    meta = bench.result(bench.send(task, "a", 10.0, timelimit=(None, 0.3)))
    assert meta["result"] == "cleaned up"
    assert time.monotonic() - began < 6.0
    assert bench.count("soft", "a") == 1
    assert bench.result(bench.send(task, "b", 0.01, timelimit=(None, 5.0)))["result"] == "whole"
    assert bench.pids("start", "a") == bench.pids("start", "b")


@pytest.mark.parametrize("options", [{}, {"threads": 2}])
def test_uncaught_soft_limit_fails_the_task(bench: Bench, options: dict[str, int]) -> None:
    bench.start(processes=1, **options)
    meta = bench.result(bench.send("spin", "a", 5.0, timelimit=(None, 0.2)))
    assert meta["status"] == "FAILURE"
    assert meta["result"]["exc_type"] == "SoftTimeLimitExceeded"


@pytest.mark.parametrize("options", [{}, {"threads": 2}])
def test_a_soft_limit_that_falls_on_the_end_hits_nobody_else(bench: Bench, options: dict[str, int]) -> None:
    """Tasks as long as their limit: each succeeds or fails by its own limit; those without one are never hit."""
    bench.start(processes=1, **options)
    limited = bench.send_many("spin", [(f"l{n}", 0.01) for n in range(150)], timelimit=(None, 0.01))
    free = bench.send_many("spin", [(f"f{n}", 0.001) for n in range(150)])
    for task_id in free:
        assert bench.result(task_id)["status"] == "SUCCESS"
    endings = [bench.result(task_id) for task_id in limited]
    assert {meta["status"] for meta in endings} <= {"SUCCESS", "FAILURE"}
    assert {meta["result"]["exc_type"] for meta in endings if meta["status"] == "FAILURE"} <= {"SoftTimeLimitExceeded"}
    assert bench.count("process", "start") == 1


@pytest.mark.parametrize(("task", "options"), [("work", {}), ("work", {"threads": 2}), ("awork", {})])
def test_hard_limit_kills_and_only_that_task_fails(bench: Bench, task: str, options: dict[str, int]) -> None:
    bench.start(processes=1, **options)
    late = bench.send(task, "late", 30.0, timelimit=(0.5, None))
    bench.wait_event("start", "late")
    behind = bench.send_many("work", [(f"t{n}",) for n in range(5)])
    began = time.monotonic()
    meta = bench.result(late)
    assert meta["status"] == "FAILURE"
    assert meta["result"]["exc_type"] == "TimeLimitExceeded"
    assert time.monotonic() - began < 8.0
    for task_id in behind:
        assert bench.result(task_id)["status"] == "SUCCESS"
    assert bench.count("start", "late") == 1
    assert bench.broker.dead_letters() == []


def test_neighbours_of_a_hard_limit_run_again(bench: Bench) -> None:
    bench.start(processes=1, threads=2)
    gate = bench.folder / "gate"
    neighbour = bench.send("until", "neighbour", str(gate))
    bench.wait_event("start", "neighbour")
    late = bench.send("work", "late", 30.0, timelimit=(0.3, None))
    assert bench.result(late)["status"] == "FAILURE"
    gate.touch()
    assert bench.result(neighbour)["status"] == "SUCCESS"
    assert bench.count("start", "neighbour") == 2
    assert bench.count("start", "late") == 1
