"""What a crash costs: the task that ran, and nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from pathlib import Path

import pytest
from shop import make_links
from workshop import Bench, wait_until

pytestmark = pytest.mark.processes


def test_work_is_done_by_all_processes(bench: Bench) -> None:
    bench.start(processes=2)
    gate = bench.folder / "gate"
    held = [bench.send("until", name, str(gate)) for name in ("a", "b")]
    bench.wait_event("start", "a")
    bench.wait_event("start", "b")
    assert bench.pids("start", "a") != bench.pids("start", "b")
    gate.touch()
    ids = held + bench.send_many("work", [(f"t{n}",) for n in range(50)])
    for task_id in ids:
        assert bench.result(task_id)["status"] == "SUCCESS"
    bench.wait_empty()
    assert sorted(row[1] for row in bench.ledger() if row[0] == "end") == sorted(
        ["a", "b", *(f"t{n}" for n in range(50))]
    )


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
    assert (bench.count("start", "a"), bench.count("start", "b")) == (2, 1)
    bench.wait_empty()


def test_what_waited_in_a_killed_process_is_not_counted(bench: Bench) -> None:
    bench.start(processes=1, max_deliveries=1)
    gate = bench.folder / "gate"
    bench.send_many("noop", [()] * 200)  # the average falls, so the process claims ahead
    bench.wait_empty()
    first = bench.send("until", "first", str(gate))
    behind = bench.send_many("work", [(f"t{n}",) for n in range(5)])
    [victim] = bench.wait_event("start", "first")
    os.kill(victim, signal.SIGKILL)
    gate.touch()
    # with one delivery allowed, the one that ran is buried and the ones behind it are not even suspected
    assert bench.result(first)["status"] == "FAILURE"
    for task_id in behind:
        assert bench.result(task_id)["status"] == "SUCCESS"
    assert all(bench.count("start", f"t{n}") == 1 for n in range(5))


@pytest.mark.parametrize(
    ("task", "args", "ending"),
    [
        ("leave", (3,), "exit code 3"),
        ("leave", (0,), "exit code 0"),
        ("segfault", (), "SIGSEGV"),
        ("suicide", (), "SIGKILL"),
    ],
)
def test_poison_is_buried_with_its_ending_and_harms_no_neighbour(
    bench: Bench, task: str, args: tuple[int, ...], ending: str
) -> None:
    bench.start(processes=2, max_deliveries=3)
    poison = bench.send(task, "poison", *args)
    neighbours = bench.send_many("work", [(f"n{n}", 0.01) for n in range(40)])
    assert bench.result(poison)["status"] == "FAILURE"
    for task_id in neighbours:
        assert bench.result(task_id)["status"] == "SUCCESS"
    [dead] = bench.broker.dead_letters()
    assert dead.id == poison
    assert ending in dead.reason + (dead.detail or "")
    assert dead.deliveries == 3
    assert bench.count("start", "poison") == 3
    # What had ended in the milliseconds before the first crash, and was not settled yet, has run again; before later
    # starts of the suspect everything is settled.
    assert all(bench.count("end", f"n{n}") in (1, 2) for n in range(40))
    assert sum(bench.count("end", f"n{n}") == 2 for n in range(40)) <= 1


def test_sys_exit_fails_the_task_and_not_the_process(bench: Bench) -> None:
    bench.start(processes=1)
    failed = bench.send("polite_exit", "bye")
    assert bench.result(failed)["status"] == "FAILURE"
    after = bench.send("work", "after")
    assert bench.result(after)["status"] == "SUCCESS"
    assert bench.pids("start", "bye") == bench.pids("start", "after")


def test_exhausted_memory_fails_the_task(bench: Bench) -> None:
    bench.start(processes=1)
    failed = bench.send("hungry", "oom")
    meta = bench.result(failed)
    assert meta["status"] == "FAILURE"
    assert meta["result"]["exc_type"] == "MemoryError"
    assert bench.result(bench.send("work", "after"))["status"] == "SUCCESS"


def test_closed_descriptors_cost_one_process(bench: Bench) -> None:
    bench.start(processes=1, max_deliveries=2)
    bad = bench.send("close_fds", "fds")
    bench.wait_event("start", "fds")
    good = bench.send("work", "good")
    assert bench.result(good)["status"] == "SUCCESS"
    assert bench.result(bad)["status"] == "FAILURE"
    [dead] = bench.broker.dead_letters()
    assert dead.id == bad
    assert bench.count("start", "fds") == 2


def test_a_megabyte_of_output_is_no_matter(bench: Bench) -> None:
    worker = bench.start(processes=1)
    assert bench.result(bench.send("shout", "loud"))["result"] == 1 << 20
    assert bench.result(bench.send("work", "after"))["status"] == "SUCCESS"
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_the_supervisor_keeps_the_lease_of_a_blocked_interpreter(bench: Bench) -> None:
    bench.start(processes=1, lease_s=1.0)
    bench.start(processes=1, lease_s=1.0)  # it would take over what was reaped
    held = bench.send("hold_gil", "gil", 3.0)
    assert bench.result(held)["status"] == "SUCCESS"
    assert bench.count("start", "gil") == 1


def test_it_says_once_who_blocks_an_interpreter(bench: Bench) -> None:
    worker = bench.start(processes=1, lease_s=1.0)
    held = bench.send("hold_gil", "gil", 2.0)
    bench.send("work", "patient", 0.7)  # of its own process, which sleeps and so blocks nothing
    assert bench.result(held)["status"] == "SUCCESS"
    bench.wait_event("end", "patient")
    said = [line for line in worker.log.splitlines() if "blocks the interpreter" in line]
    assert len(said) == 1, worker.log
    assert f"hold_gil[{held}] blocks the interpreter of process {bench.pids('start', 'gil')[0]} for " in said[0]


def test_who_cleans_up_after_a_process_is_known_once_it_is_ready(tmp_path: Path, ledger: Path) -> None:
    url = f"sqlite:///{tmp_path}/queue.db"
    bench = Bench(tmp_path, url, make_links(url))
    try:
        worker = bench.start(processes=2, lease_s=3600.0)

        def guardians() -> list[int]:
            with contextlib.closing(sqlite3.connect(tmp_path / "queue.db")) as link:
                return [
                    row[0] for row in link.execute("SELECT guardian FROM incarnation WHERE pid <> ?", (worker.pid,))
                ]

        wait_until(lambda: guardians() == [worker.pid] * 2, "both to be guarded")
    finally:
        bench.close()


def test_another_worker_takes_over_when_a_whole_worker_is_killed(bench: Bench) -> None:
    gate = bench.folder / "gate"
    first = bench.start(processes=2, lease_s=1.0)
    ids = [bench.send("until", f"t{n}", str(gate)) for n in range(4)]
    wait_until(lambda: sum(row[0] == "start" for row in bench.ledger()) >= 2, "two tasks to run")
    first.signal_all(signal.SIGKILL)
    first.wait()
    gate.touch()
    bench.start(processes=2, lease_s=1.0)
    for task_id in ids:
        assert bench.result(task_id)["status"] == "SUCCESS"
    bench.wait_empty()


def test_processes_do_not_outlive_their_supervisor(bench: Bench) -> None:
    worker = bench.start(processes=2)
    gate = bench.folder / "gate"
    task_id = bench.send("until", "a", str(gate))
    [pid] = bench.wait_event("start", "a")
    worker.signal(signal.SIGKILL)
    worker.wait()
    gate.touch()
    assert bench.result(task_id)["status"] == "SUCCESS"  # what ran is finished

    def is_gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        # an orphan that nobody waits for, as in a container without an init, stays as a zombie
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    wait_until(is_gone, f"process {pid} to leave")
    assert bench.count("start", "a") == 1


def test_a_stopped_worker_cannot_settle_after_its_lease(bench: Bench) -> None:
    gate = bench.folder / "gate"
    first = bench.start(processes=1, lease_s=1.0)
    task_id = bench.send("until", "a", str(gate))
    bench.wait_event("start", "a")
    first.signal_all(signal.SIGSTOP)
    bench.start(processes=1, lease_s=1.0)
    bench.wait_event("start", "a", 2)
    first.signal_all(signal.SIGCONT)
    gate.touch()
    bench.wait_event("end", "a", 2)
    assert bench.result(task_id)["status"] == "SUCCESS"
    wait_until(lambda: "lease" in first.log, "the stopped worker to notice")
    # it goes on under a new incarnation, and nothing of the old one is left
    ids = bench.send_many("work", [(f"t{n}",) for n in range(20)])
    for one in ids:
        assert bench.result(one)["status"] == "SUCCESS"
    assert all(bench.count("start", f"t{n}") == 1 for n in range(20))
    bench.wait_empty()
