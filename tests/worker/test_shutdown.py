"""How a worker leaves: nothing lost, nothing run twice, in the time it was given."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shop import make_links
from workshop import Bench, wait_until

from celeriac.worker import exits

pytestmark = pytest.mark.processes


def test_sigterm_under_load_loses_and_doubles_nothing(bench: Bench) -> None:
    worker = bench.start(processes=2)
    bench.send_many("work", [(f"t{n}", 0.002) for n in range(1500)])
    bench.wait_event("end", "t100")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == exits.OK
    ended = [row[1] for row in bench.ledger() if row[0] == "end"]
    assert len(ended) == len(set(ended))
    depth = bench.broker.depth(["q"])["q"]
    assert depth.held == 0
    assert depth.ready == 1500 - len(ended)
    bench.start(processes=2)
    bench.wait_empty()
    ended = [row[1] for row in bench.ledger() if row[0] == "end"]
    assert sorted(ended) == sorted(f"t{n}" for n in range(1500))
    assert all(peeked.deliveries <= 1 for peeked in bench.broker.peek("q"))


def test_warm_shutdown_finishes_what_runs(bench: Bench) -> None:
    worker = bench.start(processes=1, log_level="DEBUG")
    gate = bench.folder / "gate"
    running = bench.send("until", "a", str(gate))
    waiting = bench.send("work", "b")
    bench.wait_event("start", "a")
    worker.signal(signal.SIGTERM)
    wait_until(lambda: "starts nothing more" in worker.log, "the signal to be taken")
    gate.touch()
    assert worker.wait() == exits.OK
    assert bench.result(running)["status"] == "SUCCESS"
    assert bench.count("start", "b") == 0
    [left] = bench.broker.peek("q")
    assert (left.id, left.state, left.deliveries) == (waiting, "ready", 0)


def test_after_the_grace_time_what_runs_is_given_back(bench: Bench) -> None:
    worker = bench.start(processes=1, grace_s=0.5)
    task_id = bench.send("until", "a", str(bench.folder / "never"))
    bench.wait_event("start", "a")
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == exits.FORCED
    assert time.monotonic() - began < 0.5 + 6.0
    [left] = bench.broker.peek("q")
    assert (left.id, left.state, left.deliveries) == (task_id, "ready", 1)  # it was started, so it counts


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGQUIT])
def test_a_second_signal_leaves_at_once(bench: Bench, second: int) -> None:
    worker = bench.start(processes=2, grace_s=60.0)
    bench.send("until", "a", str(bench.folder / "never"))
    bench.send("awork", "b", 60.0)
    bench.wait_event("start", "a")
    bench.wait_event("start", "b")
    worker.signal(signal.SIGTERM)
    wait_until(lambda: "finishing what runs" in worker.log, "the first signal to be taken")
    began = time.monotonic()
    worker.signal(second)
    assert worker.wait() == exits.FORCED
    assert time.monotonic() - began < 10.0
    assert bench.broker.depth(["q"])["q"].ready == 2


def test_ctrl_c_reaches_the_whole_group_and_is_warm(bench: Bench) -> None:
    worker = bench.start(processes=2)
    gate = bench.folder / "gate"
    running = bench.send("until", "a", str(gate))
    bench.wait_event("start", "a")
    worker.signal_all(signal.SIGINT)
    wait_until(lambda: "finishing what runs" in worker.log, "the signal to be taken")
    gate.touch()
    assert worker.wait() == exits.OK
    assert bench.result(running)["status"] == "SUCCESS"
    assert bench.count("start", "a") == 1


@pytest.fixture
def synced(tmp_path: Path, ledger: Path) -> Iterator[Bench]:
    """As users have it: a file that syncs each commit, so that a first claim takes a moment."""
    url = f"sqlite:///{tmp_path}/queue.db?durability=full"
    bench = Bench(tmp_path, url, make_links(url))
    yield bench
    bench.close()


@pytest.mark.parametrize("event", [None, ("process", "start"), ("worker", "ready")])
def test_sigterm_before_a_process_claims_is_taken_at_once(synced: Bench, event: tuple[str, str] | None) -> None:
    worker = synced.start(wait=False, processes=2)
    if event is None:
        wait_until(lambda: "celeriac test" in worker.log, "the banner, which comes before the first fork")
    else:
        synced.wait_event(*event)
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    worker.wait()
    assert time.monotonic() - began < 2.0, worker.log


def test_async_tasks_are_finished_too(bench: Bench) -> None:
    worker = bench.start(processes=1)
    ids = [bench.send("awork", f"t{n}", 0.5) for n in range(5)]
    for n in range(5):
        bench.wait_event("start", f"t{n}")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == exits.OK
    assert [bench.result(task_id)["status"] for task_id in ids] == ["SUCCESS"] * 5


def test_soft_shutdown_gives_running_tasks_a_moment(bench: Bench) -> None:
    worker = bench.start(processes=1, soft_shutdown_s=5.0)
    gate = bench.folder / "gate"
    running = bench.send("until", "a", str(gate))
    bench.wait_event("start", "a")
    worker.signal(signal.SIGQUIT)
    wait_until(lambda: "leaving at once" in worker.log, "the signal to be taken")
    gate.touch()
    assert worker.wait() == exits.OK
    assert bench.result(running)["status"] == "SUCCESS"


def test_sighup_brings_fresh_processes(bench: Bench) -> None:
    worker = bench.start(processes=1)
    before = bench.result(bench.send("grow", "a", 1))["result"]
    worker.signal(signal.SIGHUP)
    wait_until(lambda: bench.count("process", "start") >= 2, "a fresh process")
    wait_until(lambda: bench.count("process", "stop") >= 1, "the old one to leave")
    after = bench.result(bench.send("grow", "b", 1))["result"]
    assert after != before
    worker.signal(signal.SIGTERM)
    assert worker.wait() == exits.OK


def test_sighup_with_broken_code_keeps_the_old(bench: Bench) -> None:
    broken = bench.folder / "broken"
    worker = bench.start(processes=1, broken=broken)
    before = bench.result(bench.send("grow", "a", 1))["result"]
    broken.touch()
    worker.signal(signal.SIGHUP)
    wait_until(lambda: "the old code goes on" in worker.log, "the refusal")
    assert "this application is broken" in worker.log
    assert bench.result(bench.send("grow", "b", 1))["result"] == before


def test_an_application_that_cannot_be_imported_is_an_exit_code_and_its_traceback(bench: Bench) -> None:
    broken = bench.folder / "broken"
    broken.touch()
    worker = bench.start(wait=False, broken=broken)
    assert worker.wait() == exits.CONFIG
    assert "RuntimeError: this application is broken" in worker.log


def test_sigusr1_dumps_the_stacks_of_every_process(bench: Bench) -> None:
    worker = bench.start(processes=1)
    gate = bench.folder / "gate"
    bench.send("until", "a", str(gate))
    bench.wait_event("start", "a")
    worker.signal(signal.SIGUSR1)
    wait_until(lambda: "in until" in worker.log, "the stack of the running task")
    gate.touch()
    bench.wait_event("end", "a")
