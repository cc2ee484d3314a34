"""Celery's `rate_limit`: exact over all processes of a worker, in nobody's way, and changed while it runs."""

from __future__ import annotations

import pytest
from control_fleet import Fleet, wait_until

from celeriac import Celeriac
from celeriac.errors import ConfigError
from celeriac.testing import RunningWorker

pytestmark = pytest.mark.processes


def check_rate(moments: list[float], per_s: float) -> None:
    """So many a second at most, in every window; and not much less on the whole."""
    moments = sorted(moments)
    for count in (2, 5, len(moments)):
        for first, last in zip(moments, moments[count - 1 :], strict=False):
            # a start may be late by what a busy machine needs to wake a thread, which takes from the gap after it
            assert last - first >= (count - 1) / per_s - 0.1
    assert moments[-1] - moments[0] <= (len(moments) - 1) / per_s * 1.3 + 0.5


@pytest.mark.parametrize("task", ["limited", "alimited"])
def test_two_processes_together_keep_it_and_others_pass(here: Fleet, task: str) -> None:
    here.start(processes=2)
    results = [here.send(task, str(number)) for number in range(60)]
    others = [here.send("work", f"other{number}") for number in range(20)]
    for other in others:
        other.get(timeout=2.0)
    assert len(here.ledger(task)) < 50, "the others did not wait for the limited ones before them in the queue"
    for result in results:
        result.get(timeout=10.0)
    rows = here.ledger(f"{task}:")
    assert sorted(row[0] for row in rows) == sorted(f"{task}:{number}" for number in range(60)), "each ran once"
    check_rate([row[1] for row in rows], 20.0)
    wait_until(lambda: here.ask("stats")["counters"]["succeeded"] == 80, "all to be counted")
    assert here.ask("stats")["counters"]["retried"] == 0


def test_what_is_far_away_waits_in_the_store_and_costs_no_attempt(fleet: Fleet) -> None:
    fleet.start(processes=1)
    first, second = fleet.send("seldom", "a"), fleet.send("seldom", "b")
    first.get(timeout=5.0)
    wait_until(lambda: fleet.app.broker.depth(["celery"])["celery"].delayed == 1, "the second to go back")
    [waiting] = fleet.app.broker.peek("celery", state="delayed")
    assert waiting.id == second.id
    assert waiting.deliveries == 0
    scheduled = fleet.ask("scheduled")
    assert [one["request"]["id"] for one in scheduled] == [second.id]
    fleet.ask("rate_limit", task_name="controlled.seldom", rate_limit="100/s")
    second.get(timeout=10.0)
    third = [fleet.send("seldom", "c"), fleet.send("seldom", "d")]
    fleet.ask("rate_limit", task_name="controlled.seldom", rate_limit="1/h")
    last = fleet.send("seldom", "e")  # with it those of the two before that have not started yet
    wait_until(
        lambda: last.id in {one.id for one in fleet.app.broker.peek("celery", state="delayed")}, "the last to go back"
    )
    assert fleet.ask("rate_limit", task_name="controlled.seldom", rate_limit="0") == {
        "ok": "rate limit disabled successfully"
    }
    fleet.wait_for("seldom", 5)
    for result in third:
        result.get(timeout=5.0)


def test_it_is_changed_for_all_processes_and_later_ones(fleet: Fleet) -> None:
    fleet.start(processes=2)
    assert fleet.ask("rate_limit", task_name="controlled.work", rate_limit="10/s") == {
        "ok": "new rate limit set successfully"
    }
    assert fleet.ask("rate_limit", task_name="controlled.nosuch", rate_limit="1/s") == {"error": "unknown task"}
    assert (
        "Invalid rate limit string" in fleet.ask("rate_limit", task_name="controlled.work", rate_limit="1/x")["error"]
    )
    assert "controlled.work [rate_limit=10/s]" in fleet.ask("registered")
    before = set(fleet.ask("stats")["pool"]["processes"])
    fleet.ask("pool_restart")
    wait_until(lambda: not before & set(fleet.ask("stats")["pool"]["processes"]), "other processes")
    results = [fleet.send("work", f"w{number}") for number in range(25)]
    for result in results:
        result.get(timeout=10.0)
    check_rate([row[1] for row in fleet.ledger("w") if row[0].endswith(":start")], 10.0)
    fleet.ask("rate_limit", task_name="controlled.work", rate_limit=0)
    results = [fleet.send("work", f"x{number}") for number in range(25)]
    for result in results:
        result.get(timeout=2.0)
    moments = [row[1] for row in fleet.ledger("x") if row[0].endswith(":start")]
    assert max(moments) - min(moments) < 1.0


def test_a_stopping_worker_gives_back_what_waits_for_its_turn(fleet: Fleet) -> None:
    worker = fleet.start(processes=2)
    for number in range(40):
        fleet.send("limited", str(number))
    fleet.wait_for("limited", 5)
    worker.terminate()
    assert worker.wait(10.0) == 0
    done = len(fleet.ledger("limited"))
    depth = fleet.app.broker.depth(["celery"])["celery"]
    assert (depth.held, depth.ready + depth.delayed) == (0, 40 - done), "nothing is lost, nothing is kept"
    fleet.start(name="w2")
    fleet.wait_for("limited", 40)
    assert len({row[0] for row in fleet.ledger("limited")}) == 40


def test_revoked_while_it_waits_for_its_turn(fleet: Fleet) -> None:
    fleet.start(processes=1)
    fleet.ask("rate_limit", task_name="controlled.limited", rate_limit="2.2/s")
    results = [fleet.send("limited", str(number)) for number in range(3)]
    fleet.app.control.revoke(results[1].id)
    results[0].get(timeout=5.0)
    results[2].get(timeout=5.0)
    assert results[1].get(timeout=5.0, propagate=False).__class__.__name__ == "TaskRevokedError"
    assert [row[0] for row in fleet.ledger("limited")] == ["limited:0", "limited:2"]


def test_settings_and_annotations() -> None:
    def rate_of(rate: object = None, **settings: object) -> str | None:
        app = Celeriac("rates", broker="memory://rates", **settings)

        @app.task(name="t", **({} if rate is None else {"rate_limit": rate}))
        def task() -> None: ...

        return task.facts().rate_limit

    assert rate_of() is None
    assert rate_of("10/m") == "10/m"
    assert rate_of(5) == "5/s"
    assert rate_of(task_default_rate_limit="7/h") == "7/h"
    assert rate_of("10/m", task_default_rate_limit="7/h") == "10/m"
    assert rate_of("10/m", worker_disable_rate_limits=True) is None
    assert rate_of(task_annotations={"t": {"rate_limit": "3/s"}}) == "3/s"
    with pytest.raises(ConfigError, match="rate_limit='10/x'"):
        rate_of("10/x")


def test_an_embedded_worker_keeps_it() -> None:
    app = Celeriac("embedded-rates", broker="memory://embedded-rates")
    moments: list[float] = []

    @app.task(rate_limit="20/s")
    def tick() -> None:
        moments.append(app.clock.monotonic())

    with RunningWorker(app):
        for result in [tick.delay() for _ in range(15)]:
            result.get(timeout=10.0)
    check_rate(moments, 20.0)
