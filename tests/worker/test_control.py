"""Remote control in Celery's form, of a real worker."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shop import make_links
from workshop import Bench, Worker, wait_until

from celeriac.worker import exits

pytestmark = pytest.mark.processes


@pytest.fixture
def bench(tmp_path: Path, ledger: Path) -> Iterator[Bench]:
    url = f"sqlite:///{tmp_path}/queue.db"
    bench = Bench(tmp_path, url, make_links(url))
    try:
        yield bench
    finally:
        bench.close()


@pytest.fixture
def worker(bench: Bench) -> Worker:
    worker = bench.start(processes=2, node="w@test")
    wait_until(lambda: call(bench, "ping"), "the worker to answer")
    return worker


def call(bench: Bench, method: str, **arguments: Any) -> Any:
    replies = bench.control.call(method, arguments, timeout_s=5.0)
    assert set(replies) <= {"w@test"}
    return replies.get("w@test")


def test_what_it_is(bench: Bench, worker: Worker) -> None:
    assert call(bench, "ping") == {"ok": "pong"}
    assert "work" in call(bench, "registered")
    assert call(bench, "registered", taskinfoitems=["max_deliveries"])[0].endswith("[max_deliveries=5]")
    [queue] = call(bench, "active_queues")
    assert queue["name"] == "q"
    conf = call(bench, "conf")
    assert conf["task_default_queue"] == "q"
    assert "hidden" not in str(conf)
    assert call(bench, "nosuch") == {"error": "KeyError('nosuch')"}
    assert "error" in call(bench, "pool_grow", n="many")


def test_what_it_does(bench: Bench, worker: Worker) -> None:
    gate = bench.folder / "gate"
    task_id = bench.send("until", "a", str(gate))
    [pid] = bench.wait_event("start", "a")
    [info] = call(bench, "active")
    assert (info["id"], info["name"], info["worker_pid"]) == (task_id, "until", pid)
    assert abs(info["time_start"] - bench.ledger()[-1][3]) < 5.0
    assert call(bench, "query_task", ids=[task_id, "unknown"])[task_id][0] == "active"
    later = bench.send("work", "later", countdown=3600)
    [scheduled] = call(bench, "scheduled")
    assert scheduled["request"]["id"] == later
    assert scheduled["eta"]
    ready = bench.send_many("work", [("ready",)], queue="unserved", priority=3)[0]
    found = call(bench, "query_task", ids=[task_id, later, ready, "unknown"])
    assert {one: where for one, (where, _) in found.items()} == {task_id: "active", later: "scheduled", ready: "ready"}
    assert found[later][1] == scheduled
    assert found[ready][1]["delivery_info"] == {
        "exchange": "", "routing_key": "unserved", "priority": 3, "redelivered": False
    }  # fmt: skip
    gate.touch()
    bench.result(task_id)
    stats = call(bench, "stats")
    assert stats["total"] == {"until": 1}
    assert len(stats["pool"]["processes"]) == 2
    assert stats["pid"] == worker.pid


def test_revoke_and_terminate(bench: Bench, worker: Worker) -> None:
    running = bench.send("work", "a", 30.0)
    waiting = bench.send("work", "b", countdown=3600)
    bench.wait_event("start", "a")
    assert "flagged as revoked" in call(bench, "revoke", task_id=waiting)["ok"]
    assert bench.result(waiting)["status"] == "REVOKED", "it waited, so nobody else would store it"
    assert call(bench, "terminate", signal="KILL", task_id=running) == {"ok": f"terminate: {running}"}
    assert bench.result(running)["status"] == "REVOKED"
    assert set(call(bench, "revoked")) == {running, waiting}
    assert bench.broker.peek("q") == []


def test_pool_size_and_queues(bench: Bench, worker: Worker) -> None:
    def processes() -> int:
        return len(call(bench, "stats")["pool"]["processes"])

    assert call(bench, "pool_grow", n=1) == {"ok": "pool will grow"}
    wait_until(lambda: processes() == 3, "a third process")
    assert call(bench, "pool_shrink", n=2) == {"ok": "pool will shrink"}
    wait_until(lambda: processes() == 1, "one process")
    assert "last process" in call(bench, "pool_shrink", n=1)["error"]
    other = bench.send_many("work", [("other",)], queue="q2")[0]
    assert call(bench, "add_consumer", queue="q2") == {"ok": "add consumer q2"}
    assert bench.result(other)["status"] == "SUCCESS"
    assert call(bench, "cancel_consumer", queue="q") == {"ok": "no longer consuming from q"}
    assert [queue["name"] for queue in call(bench, "active_queues")] == ["q2"]


def test_a_queue_more_just_before_the_end_does_not_hold_it_up(bench: Bench, worker: Worker) -> None:
    assert call(bench, "add_consumer", queue="q2") == {"ok": "add consumer q2"}
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == exits.OK
    assert time.monotonic() - began < 2.0, worker.log


def test_shutdown(bench: Bench, worker: Worker) -> None:
    bench.control.call("shutdown", {}, reply=False, timeout_s=1.0)
    assert worker.wait() == exits.OK
