"""A whole trial on SQLite: workers that end themselves where they are told, and a verdict on all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from chaos.application import DOOM
from chaos.engines.sqlite import SqliteEngine
from chaos.history import read
from chaos.insides import POINTS, Doom
from chaos.producer import BULK, MIXED, Load
from chaos.scenario import Scenario
from chaos.scenarios.f01_workers_killed import SCENARIO as F1
from chaos.stage import Stage
from chaos.trial import run_trial

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chaos.history import Event


def made_of(run: Callable[[Stage], None], **more: Any) -> Scenario:
    return Scenario(key="F0", title="a test", run=run, repetitions={"sqlite": 1}, seconds={"sqlite": 5}, **more)


@pytest.mark.timeout(120)
def test_a_short_trial_is_clean(tmp_path: Path) -> None:
    """F1 with three kills, two of them from inside."""
    outcome = run_trial(SqliteEngine(), F1, tmp_path / "f1", seed=7, share=0.2)
    assert not outcome.error, outcome.error
    verdict = outcome.verdict
    assert verdict is not None
    assert verdict.is_clean, verdict.violations[:3]
    assert verdict.faults == 3
    assert verdict.tasks > 100
    assert verdict.lost == verdict.unexplained == 0
    assert verdict.checked["D1"] > 100
    assert not (tmp_path / "f1").exists()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("point", [one for one in POINTS if one != "stored"])
def test_a_worker_ends_itself_at_a_point(tmp_path: Path, point: str) -> None:
    """And what was between its hands is run again, by another, as far as its end was not stored."""

    def run(stage: Stage) -> None:
        doom = Doom(point=point, count=2, fault=stage.nemesis.reserve())
        member = stage.fleet.start_worker(environment={DOOM: msgspec.json.encode(doom).decode()})
        stage.fleet.start_producer(MIXED)
        begun = stage.wait_own(doom.fault)
        assert begun.what == f"kill-{point}"
        assert len(begun.value["pids"]) == 4, "supervisor, fork server, two processes"
        stage.fleet.wait(lambda: not member.is_running, "its end")
        stage.fleet.start_worker()

    outcome = run_trial(SqliteEngine(), made_of(run), tmp_path / "trial", seed=3, keep=True)
    assert not outcome.error, outcome.error
    assert outcome.verdict is not None
    assert outcome.verdict.is_clean, outcome.verdict.violations[:3]
    events = list(read(tmp_path / "trial"))
    (at,) = [event.t for event in events if event.f == "fault" and event.type == "invoke"]
    mine = [event for event in events if event.p.startswith("worker1:")]
    running = {event.token for event in mine if event.f == "start"} - {e.token for e in mine if e.f == "end"}
    ended = sum(event.f == "end" for event in mine)
    assert max(event.t for event in mine) <= at + 0.5
    if point == "started":
        assert running
    if point in {"ended", "settled"}:
        assert ended


@pytest.mark.timeout(60)
def test_who_breaks_off_is_told_with_a_verdict(tmp_path: Path) -> None:
    def run(stage: Stage) -> None:
        stage.fleet.start_worker()
        stage.burst(20, 0.0)
        raise ZeroDivisionError("the scenario has a fault")

    outcome = run_trial(SqliteEngine(), made_of(run), tmp_path / "trial", seed=3)
    assert "the scenario has a fault" in outcome.error
    assert outcome.verdict is not None
    assert outcome.verdict.tasks == 20
    assert outcome.folder == str(tmp_path / "trial")
    assert "ZeroDivisionError" in (tmp_path / "trial" / "error.txt").read_text()


@pytest.mark.timeout(60)
def test_a_drain_waits_for_what_runs_and_results_are_looked_at_twice(tmp_path: Path) -> None:
    def run(stage: Stage) -> None:
        stage.fleet.start_worker()
        stage.producer.send("work", 1.0)

    outcome = run_trial(SqliteEngine(), made_of(run), tmp_path / "trial", seed=3, keep=True)
    assert not outcome.error, outcome.error
    events = list(read(tmp_path / "trial"))
    moment = {event.f: event.t for event in events}
    results = [event for event in events if event.f == "result"]
    assert [event.n for event in results] == [1, 2]
    (end,) = [event for event in events if event.f == "end"]
    assert {event.token for event in results} == {end.token}
    assert results[0].t > end.t
    assert moment["sample"] > events[0].t


@pytest.mark.timeout(60)
def test_a_line_that_no_worker_may_log_is_in_the_history(tmp_path: Path) -> None:
    def run(stage: Stage) -> None:
        worker = stage.fleet.start_worker()
        with (stage.folder / f"{worker.name}.log").open("a") as log:
            log.write("one line\nERROR the claim loop failed; it goes on in 0.1 s\nTraceback\n")

    outcome = run_trial(SqliteEngine(), made_of(run), tmp_path / "trial", seed=3)
    assert outcome.verdict is not None
    assert not outcome.verdict.is_clean
    (event,) = _logs(tmp_path / "trial")
    assert event.what == "ERROR the claim loop failed; it goes on in 0.1 s"
    assert "one line" in event.value


@pytest.mark.timeout(60)
def test_a_producer_that_breaks_down_is_a_violation(tmp_path: Path) -> None:
    def run(stage: Stage) -> None:
        stage.fleet.start_worker()
        producer = stage.fleet.start_producer(Load(tasks=()))
        stage.fleet.wait(lambda: not producer.is_running, "its end")

    outcome = run_trial(SqliteEngine(), made_of(run), tmp_path / "trial", seed=3)
    assert outcome.verdict is not None
    assert not outcome.verdict.is_clean
    (event,) = _logs(tmp_path / "trial")
    assert event.what == "producer1 ended with exit code 1 by itself"


@pytest.mark.timeout(60)
def test_back_is_when_somebody_begins_after_the_fault(tmp_path: Path) -> None:
    took: list[float] = []

    def run(stage: Stage) -> None:
        worker = stage.fleet.start_worker()
        stage.fleet.start_producer(BULK)
        stage.fleet.wait(lambda: stage.standing.look() and stage.standing.starts, "the first task")
        with stage.nemesis.stopped(worker, longer_than_lease=False) as number:
            stage.pause(0.5)
        took.append(stage.wait_back(number))

    outcome = run_trial(SqliteEngine(), made_of(run), tmp_path / "trial", seed=3, keep=True)
    assert not outcome.error, outcome.error
    events = list(read(tmp_path / "trial"))
    (back,) = [event for event in events if event.f == "back"]
    (over,) = [event.t for event in events if event.f == "fault" and event.type == "ok"]
    first = min(event.t for event in events if event.f == "start" and event.t > over)
    assert back.at == pytest.approx(first - over, abs=1e-3)
    assert took == [pytest.approx(back.at, abs=1e-3)]


def _logs(folder: Path) -> list[Event]:
    return [event for event in read(folder) if event.f == "log"]
