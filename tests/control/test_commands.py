"""Remote commands to real workers, on the engine with sockets of its own and on the one that speaks as Celery does."""

from __future__ import annotations

from typing import Any

import pytest
from control_fleet import Fleet, wait_until

from celeriac.worker.control import Control

pytestmark = pytest.mark.processes


def test_what_it_says(here: Fleet) -> None:
    here.start("-E" if here.url.startswith("redis") else "-C")
    ask = here.ask
    assert ask("ping") == {"ok": "pong"}
    assert ask("report")["ok"].startswith("celeriac worker w1@test")
    assert ask("memsample").endswith("MB")
    first, second = ask("clock")["clock"], ask("clock")["clock"]
    assert second >= first
    assert ask("election", id="x", topic="y", action=None) is None
    assert ask("heartbeat") is None
    assert ask("hello", from_node="w1@test", revoked={}) is None, "to itself"
    assert ask("hello", from_node="w2@test", revoked={})["revoked"] == []
    assert ask("autoscale", max=3, min=1) == {"error": "ValueError('Autoscale not enabled')"}
    assert "controlled.limited [rate_limit=20/s]" in ask("registered")
    assert "controlled.work" in ask("registered", taskinfoitems=["nosuch"])
    stats = ask("stats")
    assert int(stats["clock"]) >= 0
    assert stats["pool"]["max-concurrency"] == 2
    assert "passw" not in str(ask("conf"))


def test_malformed_commands_hurt_nobody(here: Fleet) -> None:
    worker = here.start()
    for method, arguments in [
        ("nosuch", {}), ("_tasks", {}), ("__init__", {}), ("handle", {}), ("", {}), ("x" * 10_000, {}),
        ("ping", {"extra": 1}), ("revoke", {}), ("revoke", {"task_id": 5}), ("revoke", {"task_id": [None, {}]}),
        ("terminate", {"signal": {}, "task_id": "x"}), ("pool_grow", {"n": -1}), ("pool_grow", {"n": "many"}),
        ("pool_shrink", {"n": None}), ("query_task", {"ids": 3}), ("registered", {"taskinfoitems": 7}),
        ("rate_limit", {"task_name": [], "rate_limit": {}}), ("time_limit", {"task_name": None, "hard": "x"}),
        ("time_limit", {"task_name": "controlled.work", "hard": float("1e300")}), ("add_consumer", {}),
        ("hello", {"from_node": 3, "revoked": 4}), ("hello", {"revoked": [None, 3]}), ("active", {"safe": []}),
    ]:  # fmt: skip
        here.ask(method, **arguments)
        assert here.ask("ping") == {"ok": "pong"}, (method, here.log())
    assert worker.poll() is None
    assert "Traceback" not in here.log()


def test_every_command_is_a_method() -> None:
    from celeriac.worker import control

    assert all(callable(getattr(Control, f"_{name}", None)) for name in control._COMMANDS)


def test_values_of_arguments_and_reprs(anywhere: Fleet) -> None:
    anywhere.start(processes=1)
    running = anywhere.send("work", "a", 30.0)
    anywhere.wait_for("a:start")
    [info] = anywhere.ask("active")
    assert info["id"] == running.id
    assert (info["args"], info["kwargs"]) == (["a", 30.0], {})
    assert anywhere.ask("active", safe=True)[0]["args"] == "('a', 30.0)"
    later = anywhere.send("work", "later", countdown=300)
    if not anywhere.url.startswith("amqp"):  # there it is between queues
        wait_until(lambda: anywhere.ask("scheduled"), "the delayed task to be listed")
        state, found = anywhere.ask("query_task", ids=[later.id])[later.id]
        assert (state, found["request"]["id"]) == ("scheduled", later.id)
    assert anywhere.ask("terminate", signal="SIGKILL", task_id=[running.id]) == {"ok": f"terminate: {running.id}"}
    assert anywhere.ask("revoke", task_id="unknown", terminate=True) == {"ok": "terminate: tasks unknown"}
    assert anywhere.ask("revoke", task_id=[later.id]) == {"ok": f"tasks {{{later.id!r}}} flagged as revoked"}
    for result in (running, later):
        assert type(result.get(timeout=10.0, propagate=False)).__name__ == "TaskRevokedError"
    assert {running.id, later.id} <= set(anywhere.ask("revoked"))


def test_revoked_ids_of_a_worker_that_says_hello_hold_here(anywhere: Fleet) -> None:
    anywhere.start()
    reply = anywhere.ask("hello", from_node="celery@elsewhere", revoked=["revoked-elsewhere"])
    assert reply["clock"] > 0
    anywhere.app.send_task("controlled.work", ("never",), task_id="revoked-elsewhere")
    assert type(anywhere.app.AsyncResult("revoked-elsewhere").get(timeout=10.0, propagate=False)).__name__ == (
        "TaskRevokedError"
    )
    assert anywhere.ledger("never") == []


def test_time_limits_are_changed_while_it_runs(here: Fleet) -> None:
    here.start(processes=1)
    assert here.ask("time_limit", task_name="controlled.work", soft=0.2, hard=30) == {
        "ok": "time limits set successfully"
    }
    assert here.ask("time_limit", task_name="controlled.nosuch", soft=1) == {"error": "unknown task"}
    assert "error" in here.ask("time_limit", task_name="controlled.work", soft=-1)
    soft = here.send("work", "a", 30.0).get(timeout=10.0, propagate=False)
    assert type(soft).__name__ == "SoftTimeLimitExceeded"
    here.ask("time_limit", task_name="controlled.work", hard=0.5)
    hard = here.send("work", "b", 30.0).get(timeout=10.0, propagate=False)
    assert type(hard).__name__ == "TimeLimitExceeded"
    # the process that replaces the killed one obeys as well
    assert type(here.send("work", "c", 30.0).get(timeout=10.0, propagate=False)).__name__ == "TimeLimitExceeded"
    here.ask("time_limit", task_name="controlled.work")
    assert here.send("work", "d", 0.7).get(timeout=10.0) == "d"


def test_queues_and_processes(anywhere: Fleet) -> None:
    anywhere.start()
    assert anywhere.ask("pool_grow", n=1) == {"ok": "pool will grow"}
    wait_until(lambda: len(anywhere.ask("stats")["pool"]["processes"]) == 3, "three processes")
    assert anywhere.ask("pool_shrink", n=2) == {"ok": "pool will shrink"}
    wait_until(lambda: len(anywhere.ask("stats")["pool"]["processes"]) == 1, "one process")
    result = anywhere.send("work", "q2", queue="q2")
    assert anywhere.ask("add_consumer", queue="q2", exchange="q2", routing_key="q2") == {"ok": "add consumer q2"}
    assert result.get(timeout=10.0) == "q2"
    assert {queue["name"] for queue in anywhere.ask("active_queues")} == {"celery", "q2"}
    assert anywhere.ask("cancel_consumer", queue="q2") == {"ok": "no longer consuming from q2"}
    assert anywhere.ask("pool_restart") == {"ok": "reload started"}
    assert anywhere.send("work", "z").get(timeout=10.0) == "z"


def test_events_are_switched_for_all_processes(redis_fleet: Fleet) -> None:
    fleet = redis_fleet
    fleet.start(processes=2)
    channel = fleet.app.event_channel
    assert channel is not None
    receiver = channel.listen()
    told: list[Any] = []

    def kinds(task_id: str) -> list[str]:
        told.extend(receiver.receive(timeout_s=0.05))
        return [event["type"] for event in told if event.get("uuid") == task_id]

    assert fleet.send("work", "before").get(timeout=10.0)
    assert fleet.ask("enable_events") == {"ok": "task events enabled"}
    assert fleet.ask("enable_events") == {"ok": "task events already enabled"}
    life = ["task-received", "task-started", "task-succeeded"]

    def wait_life(task_id: str) -> None:
        try:
            wait_until(lambda: kinds(task_id) == life, "the life of a task")
        except TimeoutError as exc:
            raise AssertionError(f"{exc}: {kinds(task_id)} of {told[-20:]}\n{fleet.log()[-5000:]}") from None

    for name in ("a", "b", "c", "d"):
        wait_life(fleet.send("work", name).id)
    crashed = fleet.send("crash")
    wait_until(lambda: kinds(crashed.id)[-1:] == ["task-failed"], "the end of a task that ends its processes")
    killed = fleet.send("work", "killed", 30.0)
    fleet.wait_for("killed:start")
    fleet.ask("terminate", signal="KILL", task_id=killed.id)
    wait_until(lambda: kinds(killed.id)[-1:] == ["task-revoked"], "the event of a terminated task")
    [event] = [one for one in told if one["type"] == "task-revoked"]
    assert (event["terminated"], event["signum"], event["expired"]) == (True, 9, False)
    wait_life(fleet.send("work", "after").id)  # runs in a process that was started after the order
    assert fleet.ask("disable_events") == {"ok": "task events disabled"}
    quiet = fleet.send("work", "quiet")
    assert quiet.get(timeout=10.0)
    fleet.ask("heartbeat")
    wait_until(lambda: kinds("none") == [] and told[-1]["type"] == "worker-heartbeat", "a heartbeat")
    assert kinds(quiet.id) == []
    beat = told[-1]
    assert (beat["hostname"], beat["freq"], beat["sw_ident"]) == ("w1@test", 2.0, "celeriac")
    assert beat["processed"] >= 6
    assert len(beat["loadavg"]) == 3
    fleet.ask("shutdown")
    wait_until(lambda: kinds("none") == [] and told[-1]["type"] == "worker-offline", "a farewell")
    receiver.close()


def test_an_engine_without_events_says_so(fleet: Fleet) -> None:
    fleet.start()
    assert "carries no events" in fleet.ask("enable_events")["error"]
    assert fleet.ask("disable_events")["error"]
