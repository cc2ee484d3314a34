"""Processes that make room for fresh ones, and pools that change their size."""

from __future__ import annotations

import signal

import pytest
from workshop import Bench, wait_until

from celeriac.worker import exits

pytestmark = pytest.mark.processes


def test_a_process_runs_no_more_than_its_tasks(bench: Bench) -> None:
    worker = bench.start(processes=1, max_tasks_per_child=3)
    ids = bench.send_many("work", [(f"t{n}",) for n in range(10)])
    for task_id in ids:
        assert bench.result(task_id)["status"] == "SUCCESS"
    by_pid: dict[int, int] = {}
    for event, name, pid, _ in bench.ledger():
        if event == "start" and name.startswith("t"):
            by_pid[pid] = by_pid.get(pid, 0) + 1
    assert sorted(by_pid.values(), reverse=True) == [3, 3, 3, 1]
    assert all(bench.count("start", f"t{n}") == 1 for n in range(10))
    worker.signal(signal.SIGTERM)
    assert worker.wait() == exits.OK


def test_a_process_that_holds_too_much_memory_is_replaced(bench: Bench) -> None:
    bench.start(processes=1, max_memory_per_child_kib=150 * 1024)
    fat = bench.result(bench.send("grow", "fat", 200))["result"]
    wait_until(lambda: bench.count("process", "start") >= 2, "a successor")
    wait_until(lambda: bench.count("process", "stop") >= 1, "the fat one to leave")
    assert bench.result(bench.send("grow", "thin", 1))["result"] != fat
    assert bench.count("start", "fat") == 1


def test_processes_that_cannot_start_are_a_clear_end(bench: Bench) -> None:
    worker = bench.start(wait=False, node="cannot-start")
    assert worker.wait() == exits.FAILED
    assert "5 processes in a row ended before they were ready" in worker.log
