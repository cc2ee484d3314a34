"""The real `celery` command line and Flower against our workers, and our command line against Celery's."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from control_fleet import Fleet, wait_until

from servers import CeleryShell, CelerySide
from servers.celery_env import CeleryEnvironment

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.parametrize("celery_env", ["newest"], indirect=True)]


@pytest.fixture(params=["redis", "rabbit"])
def broker(request: pytest.FixtureRequest, redis_url: str) -> str:
    """The URL of what both sides talk over."""
    return redis_url if request.param == "redis" else str(request.getfixturevalue("rabbit_url"))


@pytest.fixture
def celery(celery_env: CeleryEnvironment, broker: str, tmp_path: Path) -> Iterator[CelerySide]:
    """Real Celery on it."""
    with CelerySide(celery_env, broker, tmp_path, backend="" if broker.startswith("redis") else "rpc://") as side:
        yield side


@pytest.fixture
def fleet(broker: str, tmp_path: Path) -> Iterator[Fleet]:
    """Workers of ours on it."""
    with Fleet(tmp_path, broker) as fleet:
        yield fleet


@pytest.fixture
def worker(fleet: Fleet) -> Fleet:
    fleet.start("-E", processes=2)
    return fleet


_SHELLS: WeakKeyDictionary[CelerySide, CeleryShell] = WeakKeyDictionary()
_CLI = """
from click.testing import CliRunner
from celery.bin.celery import celery as _command
def cli(words):
    done = CliRunner().invoke(_command, ["-A", app, *words])
    return done.exit_code, done.stdout, done.stderr
"""


def say(celery: CelerySide, *words: str) -> Any:
    """What `celery -A … inspect|control …` prints for our worker. All within one process: starting it takes longest."""
    shell = _SHELLS.get(celery)
    if shell is None:
        shell = _SHELLS[celery] = celery.shell()
        shell.run(_CLI)
    # with a destination it returns with the reply, without one when the time is over
    command = [words[0], "--json", "-t", "20", "-d", "w1@test", *words[1:]]
    code, out, err = shell("cli(command)", timeout_s=60.0, command=command)
    assert code == 0, f"{words}: {out}\n{err}"
    replies = json.loads(out.strip().splitlines()[0])
    replies = replies[0] if isinstance(replies, list) else replies
    assert set(replies) == {"w1@test"}, out
    return replies["w1@test"]


def test_celery_inspect(celery: CelerySide, worker: Fleet) -> None:
    running = worker.send("work", "a", 60.0)
    worker.wait_for("a:start")
    later = worker.send("work", "later", countdown=300)
    done = celery.command("inspect", "--json", "-t", "20", "-d", "w1@test", "ping", timeout_s=60.0)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"w1@test": {"ok": "pong"}})
    [info] = say(celery, "inspect", "active")
    assert set(info) == {
        "id", "name", "args", "kwargs", "type", "hostname", "time_start", "acknowledged", "delivery_info", "worker_pid"
    }  # fmt: skip
    assert (info["id"], info["name"], info["args"], info["kwargs"]) == (running.id, "controlled.work", ["a", 60.0], {})
    assert info["hostname"] == "w1@test"
    assert abs(info["time_start"] - time.time()) < 60.0
    assert set(info["delivery_info"]) >= {"exchange", "routing_key", "priority", "redelivered"}
    assert say(celery, "inspect", "reserved") == []
    # on RabbitMQ it is under way between queues, where nobody can look
    delayed = {later.id: "scheduled"} if worker.url.startswith("redis") else {}
    listed = say(celery, "inspect", "scheduled")
    assert {one["request"]["id"] for one in listed} == delayed.keys()
    assert all(set(one) == {"eta", "priority", "request"} for one in listed)
    registered = say(celery, "inspect", "registered")
    assert "controlled.work" in registered
    assert "controlled.limited [rate_limit=20/s]" in registered
    stats = say(celery, "inspect", "stats")
    assert set(stats) >= {"total", "pid", "clock", "uptime", "pool", "broker", "prefetch_count", "rusage"}
    assert stats["broker"]["transport"] == worker.url.partition(":")[0]
    [queue] = say(celery, "inspect", "active_queues")
    assert (queue["name"], queue["exchange"]["type"]) == ("celery", "direct")
    found = say(celery, "inspect", "query_task", running.id, later.id, "unknown")
    assert {task_id: state for task_id, (state, _) in found.items()} == {running.id: "active", **delayed}
    assert say(celery, "inspect", "revoked") == []
    conf = say(celery, "inspect", "conf")
    assert conf["worker_lease"] == 5.0
    assert say(celery, "inspect", "clock")["clock"] > 0
    assert "celeriac" in say(celery, "inspect", "report")["ok"]
    assert say(celery, "inspect", "memsample").endswith("MB")


def test_celery_control(celery: CelerySide, worker: Fleet) -> None:
    assert say(celery, "inspect", "ping") == {"ok": "pong"}  # the first takes longest
    waiting = worker.send("work", "never", countdown=8)
    assert "flagged as revoked" in say(celery, "control", "revoke", waiting.id)["ok"]
    assert say(celery, "control", "rate_limit", "controlled.work", "100/m") == {"ok": "new rate limit set successfully"}
    assert say(celery, "control", "rate_limit", "controlled.work", "0")["ok"]
    assert say(celery, "control", "time_limit", "controlled.work", "0.3", "20") == {
        "ok": "time limits set successfully"
    }
    late = worker.send("work", "late", 30.0).get(timeout=10.0, propagate=False)
    assert type(late).__name__ == "SoftTimeLimitExceeded"
    assert say(celery, "control", "add_consumer", "q2") == {"ok": "add consumer q2"}
    assert worker.send("work", "q2", queue="q2").get(timeout=10.0) == "q2"
    assert say(celery, "control", "cancel_consumer", "q2") == {"ok": "no longer consuming from q2"}
    assert say(celery, "control", "pool_grow", "1") == {"ok": "pool will grow"}
    assert say(celery, "control", "pool_shrink", "1") == {"ok": "pool will shrink"}
    assert say(celery, "control", "disable_events") == {"ok": "task events disabled"}
    assert say(celery, "control", "enable_events") == {"ok": "task events enabled"}
    assert say(celery, "control", "heartbeat") is None
    assert say(celery, "control", "election") is None
    assert say(celery, "control", "autoscale", "3", "1") == {"error": "ValueError('Autoscale not enabled')"}
    assert type(waiting.get(timeout=10.0, propagate=False)).__name__ == "TaskRevokedError"
    assert worker.ledger("never") == [], "Celery's revoke is ours, and durable"
    running = worker.send("awork", "running", 60.0)
    worker.wait_for("running:start")
    assert say(celery, "control", "terminate", "KILL", running.id) == {"ok": f"terminate: {running.id}"}
    assert type(running.get(timeout=10.0, propagate=False)).__name__ == "TaskRevokedError"
    celery.command("control", "-d", "w1@test", "shutdown", timeout_s=60.0)
    assert worker._workers[0].wait(20.0) == 0


def test_celery_revoke_without_asking_for_a_reply(celery: CelerySide, worker: Fleet) -> None:
    shell = celery.shell()
    assert shell("app.control.inspect(timeout=5).ping() is not None"), "it has begun, which may take seconds"
    waiting = worker.send("work", "never", countdown=3)
    shell.run("app.control.revoke(task_id)", task_id=waiting.id)
    assert type(waiting.get(timeout=10.0, propagate=False)).__name__ == "TaskRevokedError"
    assert shell("[list(r) for r in app.control.ping(timeout=2, destination=['w1@test'])]") == [["w1@test"]]
    assert shell("list(app.control.inspect(pattern='w?@t*', matcher='glob', timeout=2).ping())") == ["w1@test"]
    assert shell("app.control.inspect(pattern='x*', matcher='glob', timeout=1).ping()") is None
    assert shell("list(app.control.inspect(limit=1, timeout=20).ping())") == ["w1@test"]


def test_a_celery_worker_and_ours_know_each_other(celery: CelerySide, worker: Fleet) -> None:
    worker.app.control.broadcast("revoke", {"task_id": ["revoked-before"]}, reply=True, timeout=5.0)
    theirs = celery.worker("-E", "-Q", "c1", name="c1")
    theirs.wait_for_log("mingle: sync complete")
    both = {"w1@test": {"ok": "pong"}, "c1@localhost": {"ok": "pong"}}
    wait_until(lambda: worker.app.control_channel.call("ping", timeout_s=1.0) == both, "both workers to answer")
    assert "revoked-before" in worker.ask("revoked", node="c1@localhost"), "mingle brought it there"
    done = celeriac(worker, "inspect", "registered", "--json", "-d", "c1@localhost", "-t", "10")
    assert "interop.add" in str(json.loads(done.stdout)["c1@localhost"])
    done = celeriac(worker, "control", "rate_limit", "interop.add", "5/s", "-d", "c1@localhost", "-t", "10")
    assert "new rate limit set successfully" in done.stdout
    done = celeriac(worker, "events", "--json", "-t", "6")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["hostname"] for event in told if event["type"] == "worker-heartbeat"} == {"w1@test", "c1@localhost"}


def celeriac(worker: Fleet, *words: str) -> subprocess.CompletedProcess[str]:
    """Our command line."""
    done = subprocess.run(
        [sys.executable, "-m", "celeriac", "-A", "controlled", *words],
        env=worker.variables, cwd=worker.folder, capture_output=True, text=True, timeout=60.0, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    return done


def test_flower(celery: CelerySide, fleet: Fleet) -> None:
    fleet.start(processes=2)  # without -E: Flower switches events on
    flower = celery.flower(timeout_s=60.0)

    def page(path: str) -> str:
        status, text = flower.get(path, timeout_s=30.0)
        assert status == 200, (path, status, text[-2000:], flower.program.log[-2000:])
        return text

    def workers() -> Any:
        return json.loads(page("/api/workers?refresh=1&status=0")).get("w1@test")

    facts = wait_until(workers, "Flower to know our worker", 60.0)
    assert {"stats", "active_queues", "registered", "conf"} <= set(facts)
    assert [queue["name"] for queue in facts["active_queues"]] == ["celery"]
    wait_until(lambda: json.loads(page("/api/workers?status=1")).get("w1@test") is True, "it to be online", 30.0)
    wait_until(lambda: fleet.ask("enable_events") == {"ok": "task events already enabled"}, "Flower to ask for events")
    sent = {
        "SUCCESS": fleet.send("work", "a"), "FAILURE": fleet.send("fail", "boom"),
        "REVOKED": fleet.send("work", "r", 60), "RETRY": fleet.send("stumble", "x"),
        "STARTED": fleet.send("refuse"),  # a rejected one stays what it was, to Celery's monitors
    }  # fmt: skip
    fleet.wait_for("r:start")
    assert "w1@test" in page("/worker/w1@test")

    def active() -> list[str]:  # which Flower asks for when it is asked for one worker, and only then
        known = json.loads(page("/api/workers?refresh=1&workername=w1@test"))["w1@test"]
        return [task["id"] for task in known["active"]]

    wait_until(lambda: active() == [sent["REVOKED"].id], "the others to have ended", 30.0)
    flower_post(celery, flower.url, f"/api/task/revoke/{sent['REVOKED'].id}?terminate=true&signal=SIGKILL")
    wanted = {**{result.id: state for state, result in sent.items()}, sent["RETRY"].id: "SUCCESS"}

    def states() -> dict[str, str]:
        return {task_id: task["state"] for task_id, task in json.loads(page("/api/tasks")).items()}

    wait_until(lambda: states() == wanted, f"Flower to show {wanted}", 30.0)
    assert json.loads(page(f"/api/task/info/{sent['STARTED'].id}"))["rejected"]
    task = json.loads(page(f"/api/task/info/{sent['SUCCESS'].id}"))
    assert (task["name"], task["args"], task["result"]) == ("controlled.work", "('a',)", "'a'")
    assert task["worker"] == "w1@test"
    failed = json.loads(page(f"/api/task/info/{sent['FAILURE'].id}"))
    assert failed["exception"] == "ValueError('boom')"
    assert "Traceback" in failed["traceback"]
    for path in ("/", "/workers", "/tasks", "/broker", f"/task/{sent['FAILURE'].id}", "/metrics", "/worker/w1@test"):
        page(path)
    for order, shown in [
        ("/api/worker/pool/grow/w1@test?n=1", "Growing"), ("/api/worker/pool/shrink/w1@test?n=1", "Shrinking"),
        ("/api/worker/queue/add-consumer/w1@test?queue=q2", "add consumer q2"),
        ("/api/worker/queue/cancel-consumer/w1@test?queue=q2", "no longer consuming from q2"),
        ("/api/task/rate-limit/interop.add?workername=w1@test&ratelimit=200/m", "new rate limit"),
        ("/api/task/timeout/interop.add?workername=w1@test&soft=5&hard=10", "time limits set"),
    ]:  # fmt: skip
        assert shown in flower_post(celery, flower.url, order), order
    flower_post(celery, flower.url, "/api/worker/shutdown/w1@test")
    assert fleet._workers[0].wait(20.0) == 0
    wait_until(lambda: json.loads(page("/api/workers?status=1")).get("w1@test") is False, "it to be offline", 30.0)


def flower_post(celery: CelerySide, url: str, path: str) -> str:
    import urllib.request

    with urllib.request.urlopen(urllib.request.Request(url + path, method="POST"), timeout=30.0) as answer:
        text: str = answer.read().decode()
        return text
