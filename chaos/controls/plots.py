"""What has to happen for a bug to show: aimed at the moment, so that it shows each time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.model import new_task_id
from chaos import clock
from chaos.controls.strike import STRIKE
from chaos.ticks import Timetable
from chaos.workflows import Workflows

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.stage import Stage

ONE = ("-c", "1")
LEASE_S = 1.0
_WAIT_S = 15.0


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """One planted bug."""

    bug: str
    run: Callable[[Stage], None]
    objects: tuple[str, ...]
    """One of these invariants has to."""
    engine: str = "sqlite"
    settings: dict[str, Any] = {}


def _strike(moment: str, send: Callable[[Stage], object]) -> Callable[[Stage], None]:
    """A worker ends one of its processes at a moment; another one takes its place."""

    def run(stage: Stage) -> None:
        stage.fleet.start_worker(pool=ONE, environment={STRIKE: moment})
        send(stage)
        stage.fleet.wait(lambda: (stage.folder / "struck").exists(), f"the moment {moment}", _WAIT_S)

    return run


def _send_some(stage: Stage) -> None:
    for _ in range(3):
        stage.producer.send("work", 0.0)


def _kill_amid(stage: Stage) -> None:
    """The process that runs a task is killed."""
    member = stage.fleet.start_worker(pool=ONE)
    stage.producer.send("work", 0.6)
    _wait(stage, lambda: stage.standing.running, "the task to begin")
    stage.nemesis.kill_child(member)


def _stop_amid(seconds: float, *, after_s: float = 0.0, until_s: float = 0.0) -> Callable[[Stage], None]:
    """A worker stands still amid a task, and goes on when another one has begun it.

    Args:
        seconds: What the task takes.
        after_s: It stands still so long after that began.
        until_s: And goes on so long after it at the earliest.
    """

    def run(stage: Stage) -> None:
        stage.fleet.start_workers(2, pool=ONE)
        task_id = new_task_id()
        stage.producer.send("work", seconds, task_id=task_id)
        token = _wait(stage, lambda: stage.standing.running.get(task_id), "the task to begin")
        began, where = stage.standing.starts[-1]
        stage.pause(after_s)
        with stage.nemesis.stopped(stage.fleet.member_of(where)):
            _wait(stage, lambda: stage.standing.running.get(task_id) != token, "another one to begin it")
            stage.pause(max(0.0, began + until_s - time.monotonic()))
        _wait(stage, lambda: len(stage.standing.starts) > 1 and not stage.standing.running, "both to end")

    return run


def _outlive_lease(stage: Stage) -> None:
    """A task runs for longer than a lease, while another worker has nothing to do."""
    stage.fleet.start_workers(2, pool=ONE)
    stage.producer.send("work", 2.0)
    _wait(stage, lambda: stage.standing.ended, "the task to end")


def _send_chord(stage: Stage) -> None:
    """The first member runs twice before the last one has ended."""
    Workflows(stage.app, stage.notes, stage.luck).chord(3, seconds=(0.0, 0.0, 1.5))


def _run_fast_clock(stage: Stage) -> None:
    """A worker's clock is an hour fast."""
    member = stage.fleet.start_worker(pool=ONE, ready=False)
    clock.shift(member.clock_file, 3600.0)
    stage.fleet.wait_ready(member)
    due = time.monotonic() + 2.0
    stage.producer.send("work", facts={"due": due}, countdown=2.0)


def _revoke_before_start(stage: Stage) -> None:
    """A task is revoked before its worker starts."""
    stage.producer.send("work")  # so that there is a file
    task_id = new_task_id()
    stage.producer.revoke([task_id])
    stage.fleet.start_worker(pool=ONE)
    stage.pause(0.15)  # longer than what V1 lets pass
    stage.producer.send("work", task_id=task_id)


def _tick_twice(stage: Stage) -> None:
    """Two beats run one schedule."""
    stage.fleet.start_worker(pool=ONE, ready=False)
    timetable = Timetable(stage)
    beats = [stage.fleet.start_beat() for _ in range(2)]
    for beat in beats:
        stage.fleet.wait(lambda beat=beat: beat.log, "a beat to run")
    since = time.monotonic()
    for _ in range(3):
        since += timetable.wait_tick(since)
    for beat in beats:
        stage.fleet.stop(beat)
    timetable.account()


def _wait(stage: Stage, condition: Callable[[], Any], what: str) -> Any:
    def met() -> Any:
        stage.standing.look()
        return condition()

    return stage.fleet.wait(met, what, _WAIT_S)


_SHORT_LEASE = {"worker_lease": LEASE_S, "worker_reap_every": 0.2}

PLOTS = (
    Plot(bug="ack-before-run", run=_kill_amid, objects=("D1",)),
    Plot(bug="pop-then-record", run=_strike("claimed", _send_some), objects=("D1",)),
    Plot(bug="no-token-check", run=_stop_amid(1.1, until_s=1.15), objects=("L3",), settings=_SHORT_LEASE),
    Plot(bug="extend-without-token", run=_stop_amid(3.0, after_s=0.5), objects=("L1", "L3"), settings=_SHORT_LEASE),
    Plot(bug="reaper-ignores-heartbeats", run=_outlive_lease, objects=("L1",), settings=_SHORT_LEASE),
    Plot(bug="chord-counts-arrivals", run=_strike("settling", _send_chord), objects=("W1",)),
    Plot(bug="eta-by-local-clock", run=_run_fast_clock, objects=("E1",), engine="redis"),
    Plot(bug="revoke-in-memory-only", run=_revoke_before_start, objects=("V1",)),
    Plot(
        bug="cron-without-tick-id",
        run=_tick_twice,
        objects=("B1",),
        settings={"beat_schedule": {"often": {"task": "tick", "schedule": {"every": 0.5}, "catch_up": "all"}}},
    ),
    Plot(
        bug="retry-publishes-then-acks",
        run=_strike("retrying", lambda stage: stage.producer.send("retrying", 1)),
        objects=("L1", "L2"),
    ),
)
