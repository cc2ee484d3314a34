"""What a crash costs: the task that ran, and nothing else."""

from __future__ import annotations

import os
import signal

import pytest
from workshop import Bench

pytestmark = pytest.mark.processes


def test_work_is_done(bench: Bench) -> None:
    bench.start(processes=2)
    ids = bench.send_many("work", [(f"t{n}",) for n in range(50)])
    for task_id in ids:
        assert bench.result(task_id)["status"] == "SUCCESS"
    bench.wait_empty()
    assert len([row for row in bench.ledger() if row[0] == "end"]) == 50


def test_kill_9_of_a_process_costs_only_its_task(bench: Bench) -> None:
    bench.start(processes=2)
    gate = bench.folder / "gate"
    ids = [bench.send("until", "a", str(gate)), bench.send("until", "b", str(gate))]
    [victim] = bench.wait_event("start", "a")
    bench.wait_event("start", "b")
    os.kill(victim, signal.SIGKILL)
    bench.wait_event("start", "a", 2)
    gate.touch()
    assert [bench.result(task_id)["status"] for task_id in ids] == ["SUCCESS", "SUCCESS"]
    assert bench.count("start", "a") == 2
    assert bench.count("start", "b") == 1
