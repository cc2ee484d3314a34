"""Where the connection is the lease: what a process held is back at once, and notes say how that process ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import connection_lease
import pytest
from connection_lease import LineHolder, LineServer
from shop import make_links
from workshop import Bench, wait_until

from celeriac.model import Cancellation

pytestmark = pytest.mark.processes


@pytest.fixture
def line(tmp_path: Path, ledger: Path) -> Iterator[Bench]:
    server = LineServer(tmp_path)
    url = f"line://{server.path}"
    bench = Bench(tmp_path, url, make_links(url))
    bench.server = server
    bench.broker, bench.results = server.broker, server.results
    try:
        yield bench
    finally:
        bench.close()
        server.close()


def test_a_crash_is_counted_and_said(line: Bench) -> None:
    line.start(processes=2)
    gate = line.folder / "gate"
    ids = [line.send("until", "a", str(gate)), line.send("until", "b", str(gate))]
    [victim] = line.wait_event("start", "a")
    line.wait_event("start", "b")
    os.kill(victim, signal.SIGKILL)
    line.wait_event("start", "a", 2)
    gate.touch()
    assert [line.result(one)["status"] for one in ids] == ["SUCCESS", "SUCCESS"]
    assert (line.count("start", "a"), line.count("start", "b")) == (2, 1)
    assert "lost its worker process" in line.logs()
    assert "it will run again (delivery 2 of 5)" in line.logs()
    line.wait_empty()


@pytest.mark.parametrize(("task", "args", "ending"), [("leave", (3,), "exit code 3"), ("suicide", (), "SIGKILL")])
def test_poison_is_buried_with_every_ending_and_harms_no_neighbour(
    line: Bench, task: str, args: tuple[int, ...], ending: str
) -> None:
    line.start(processes=2, max_deliveries=3)
    poison = line.send(task, "poison", *args)
    neighbours = line.send_many("work", [(f"n{n}", 0.01) for n in range(40)])
    assert line.result(poison)["status"] == "FAILURE"
    for one in neighbours:
        assert line.result(one)["status"] == "SUCCESS"
    wait_until(lambda: line.broker.dead_letters(), "the dead letter")
    [dead] = line.broker.dead_letters()
    assert dead.id == poison
    assert "lost 3 times" in dead.reason
    assert line.count("start", "poison") == 3
    pids = line.pids("start", "poison")
    assert all(f"node w0@test, process {pid}, " in dead.detail for pid in pids)
    assert dead.detail.count(ending) >= 3
    assert sum(line.count("end", f"n{n}") == 2 for n in range(40)) <= 3


def test_a_hard_limit_fails_its_task_and_no_other(line: Bench) -> None:
    line.start(processes=1, threads=2)
    gate = line.folder / "gate"
    other = line.send("until", "other", str(gate))
    line.wait_event("start", "other")
    late = line.send("work", "late", 30.0, timelimit=(0.4, None))
    meta = line.result(late)
    assert (meta["status"], meta["result"]["exc_type"]) == ("FAILURE", "TimeLimitExceeded")
    line.wait_event("start", "other", 2)
    gate.touch()
    assert line.result(other)["status"] == "SUCCESS"
    assert line.count("start", "late") == 1
    line.wait_empty()


@pytest.mark.parametrize("task", ["work", "stubborn", "awork", "once_work", "once_awork", "once_stubborn"])
def test_terminate(line: Bench, task: str) -> None:
    line.start(processes=1)
    task_id = line.send(task, "a", *(() if "stubborn" in task else (30.0,)))
    line.wait_event("start", "a")
    if task.startswith("once"):
        wait_until(lambda: task_id in line.broker.committed, "the commit")
    began = time.monotonic()
    line.broker.cancel([Cancellation(id=task_id, terminate=True)])
    line.server.sync()
    assert line.result(task_id)["status"] == "REVOKED"
    assert time.monotonic() - began < 6.0
    assert line.result(line.send("work", "after"))["status"] == "SUCCESS"
    assert (line.count("start", "a"), line.count("end", "a")) == (1, 0)
    line.wait_empty()


def test_a_lost_connection_gives_everything_back(line: Bench) -> None:
    line.start(processes=1)
    gate = line.folder / "gate"
    first = line.send("until", "first", str(gate))
    line.wait_event("start", "first")
    line.server.cut()
    line.wait_event("start", "first", 1)
    wait_until(lambda: "the lease was lost" in line.logs(), "the process to notice")
    gate.touch()
    assert line.result(first)["status"] == "SUCCESS"
    for one in line.send_many("work", [(f"t{n}",) for n in range(20)]):
        assert line.result(one)["status"] == "SUCCESS"
    line.wait_empty()


@pytest.mark.parametrize("is_cut", [False, True])
def test_what_may_not_run_twice_is_committed_and_outlives_the_connection(line: Bench, is_cut: bool) -> None:
    line.start(processes=1)
    gate = line.folder / "gate"
    task_id = line.send("once_until", "a", str(gate))
    line.wait_event("start", "a")
    wait_until(lambda: task_id in line.broker.committed, "the commit")
    if is_cut:
        assert task_id not in line.server.cut()
        wait_until(lambda: "1 go on that are no part of it any more" in line.logs(), "the process to notice")
    gate.touch()
    assert line.result(task_id)["status"] == "SUCCESS"
    wait_until(lambda: not line.broker.committed, "its settlement")
    assert line.result(line.send("work", "after"))["status"] == "SUCCESS"
    assert line.count("start", "a") == 1
    line.wait_empty()


def test_an_async_task_that_was_committed_is_not_cancelled_with_its_connection(line: Bench) -> None:
    line.start(processes=1)
    ids = [line.send("once_awork", "once", 1.0), line.send("awork", "often", 1.0)]
    line.wait_event("start", "once")
    line.wait_event("start", "often")
    wait_until(lambda: ids[0] in line.broker.committed, "the commit")
    line.server.cut()
    assert [line.result(one)["status"] for one in ids] == ["SUCCESS", "SUCCESS"]
    assert (line.count("start", "once"), line.count("start", "often")) == (1, 2)
    line.wait_empty()


@pytest.mark.parametrize("when", ["at its start", "when committed"])
def test_what_may_not_run_twice_fails_with_its_process(line: Bench, when: str) -> None:
    line.start(processes=1)
    if when == "at its start":
        task_id = line.send("once_suicide", "a")
    else:
        task_id = line.send("once_until", "a", str(line.folder / "gate"))
        [pid] = line.wait_event("start", "a")
        wait_until(lambda: task_id in line.broker.committed, "the commit")
        os.kill(pid, signal.SIGKILL)
    meta = line.result(task_id)
    assert (meta["status"], meta["result"]["exc_type"]) == ("FAILURE", "WorkerLostError")
    assert "SIGKILL" in str(meta["result"])
    assert line.result(line.send("work", "after"))["status"] == "SUCCESS"
    assert line.count("start", "a") == 1
    line.wait_empty()


def test_a_committed_task_past_its_hard_limit(line: Bench) -> None:
    line.start(processes=1)
    task_id = line.send("once_work", "late", 30.0, timelimit=(0.5, None))
    meta = line.result(task_id)
    assert (meta["status"], meta["result"]["exc_type"]) == ("FAILURE", "TimeLimitExceeded")
    assert line.count("start", "late") == 1
    line.wait_empty()


def test_many_that_may_not_run_twice_and_lost_connections(line: Bench) -> None:
    line.start(processes=2)
    ids = line.send_many("once_work", [(f"t{n}", 0.01) for n in range(150)])
    for share in (20, 50, 80, 120):
        wait_until(lambda share=share: sum(row[0] == "end" for row in line.ledger()) >= share, f"{share} ends")
        line.server.cut()
    for one in ids:
        assert line.result(one)["status"] == "SUCCESS"
    line.wait_empty()
    # at most the one of each process that had started within the last moments before each cut
    assert sum(line.count("start", f"t{n}") > 1 for n in range(150)) <= 8


def test_a_whole_worker_that_is_killed_costs_others_nothing(line: Bench) -> None:
    gate = line.folder / "gate"
    first = line.start(processes=2)
    ids = [line.send("until", f"t{n}", str(gate)) for n in range(4)]
    wait_until(lambda: sum(row[0] == "start" for row in line.ledger()) >= 2, "two tasks to run")
    first.signal_all(signal.SIGKILL)
    first.wait()
    gate.touch()
    line.start(processes=2)
    for one in ids:
        assert line.result(one)["status"] == "SUCCESS"
    line.wait_empty()


def test_shutdown_leaves_nothing_and_counts_nothing(line: Bench) -> None:
    first = line.start(processes=1, max_deliveries=1)
    gate = line.folder / "gate"
    line.send_many("noop", [()] * 200)
    line.wait_empty()
    ids = [line.send("until", "first", str(gate)), *line.send_many("work", [(f"t{n}",) for n in range(10)])]
    line.wait_event("start", "first")
    first.signal(signal.SIGTERM)
    gate.touch()
    first.wait()
    line.start(processes=1, max_deliveries=1)
    for one in ids:
        assert line.result(one)["status"] == "SUCCESS"
    assert all(line.count("start", f"t{n}") == 1 for n in range(10))
    line.wait_empty()


def test_nothing_is_noted_of_what_was_settled(line: Bench) -> None:
    worker = line.start(processes=1)
    first = line.send("work", "a")
    assert line.result(first)["status"] == "SUCCESS"
    line.wait_empty()
    [pid] = line.pids("start", "a")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: f"process {pid} ended with signal 9" in worker.log, "the supervisor to see")
    assert line.result(line.send("work", "after"))["status"] == "SUCCESS"  # its successor begins after the notes
    assert line.broker.notes == {}


def test_orders_come_over_the_next_connection(line: Bench) -> None:
    line.start(processes=1)
    task_id = line.send("once_work", "a", 30.0)
    line.wait_event("start", "a")
    wait_until(lambda: task_id in line.broker.committed, "the commit")
    line.server.cut()
    line.broker.cancel([Cancellation(id=task_id, terminate=True)])
    line.server.sync()
    assert line.result(task_id)["status"] == "REVOKED"
    line.wait_empty()


@pytest.mark.parametrize("task", ["until", "once_until"])
def test_a_cold_shutdown_counts_and_says_what_it_cut_short(line: Bench, task: str) -> None:
    gate = line.folder / "gate"
    first = line.start(processes=1)
    task_id = line.send(task, "a", str(gate))
    line.wait_event("start", "a")
    if task == "once_until":
        wait_until(lambda: task_id in line.broker.committed, "the commit")
    first.signal(signal.SIGQUIT)
    assert first.wait() == 1
    gate.touch()
    line.start(processes=1)
    meta = line.result(task_id)
    if task == "until":
        assert meta["status"] == "SUCCESS"
        assert "ended by its worker, because of another task or to leave; it will run again (delivery 2" in line.logs()
    else:
        assert (meta["status"], meta["result"]["exc_type"]) == ("FAILURE", "WorkerLostError")
        assert line.count("start", "a") == 1
    line.wait_empty()


def test_an_end_is_stored_though_its_connection_is_gone(line: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has nobody else beside it: its own redelivery finds the result and does not run."""
    monkeypatch.setattr(connection_lease, "HOLD_S", 5.0)  # it is stored before the message is out again
    line.start(processes=1)
    gate = line.folder / "gate"
    task_id = line.send("until", "a", str(gate))
    line.wait_event("start", "a")
    line.server.cut()
    wait_until(lambda: "the lease was lost" in line.logs(), "the process to notice")
    gate.touch()
    assert line.result(task_id)["status"] == "SUCCESS"
    line.wait_empty()
    assert line.count("start", "a") == 1


def test_history_f2_rabbitmq_who_leaves_does_not_lose_its_lease(line: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history of a worker that was told to leave: its connection was looked at while it was being closed."""
    close = LineHolder.close

    async def slowly(holder: LineHolder) -> None:
        await close(holder)
        holder.is_lost = True
        time.sleep(1.5)  # longer than a station waits between two looks

    monkeypatch.setattr(LineHolder, "close", slowly)
    worker = line.start(processes=1)
    assert line.result(line.send("work", "a"))["status"] == "SUCCESS"
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert "the lease was lost" not in line.logs()
