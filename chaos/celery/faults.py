"""The faults that happen to Celery and to us alike: a scenario knows nothing but the stage that it is given."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from chaos.history import Blame
from chaos.producer import Load
from chaos.profile import FAULTS
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.stage import Stage

LOAD = Load(per_second=40, tasks=(("work", 1.0),), most_s=0.04, long_share=0.03)
NOTICED_S = 1.0
"""So long after a connection was cut both sides know, on a busy machine."""
STOPPED_S = 6.0
"""Three of our leases."""


def _set_up(stage: Stage, url: str = "", producers: int = 1) -> None:
    for _ in range(2):
        stage.fleet.start_worker(url=url, pool=("-c", "4"))
    for _ in range(producers):
        _start_producer(stage, url)


def _start_producer(stage: Stage, url: str = "") -> None:
    """Returns when it publishes: processes take their time to start on cores that all contestants share."""
    name = stage.fleet.start_producer(LOAD, url=url).name
    history = stage.folder / f"{name}.jsonl"
    stage.fleet.wait(lambda: history.exists() and b'"ok"' in history.read_bytes(), f"{name} to publish", 60.0)


def _workers_killed(stage: Stage) -> None:
    _set_up(stage)
    for _ in stage.times():
        stage.pause(1.0, 2.0)
        stage.nemesis.kill(stage.luck.choice(stage.fleet.workers))
        stage.fleet.start_worker(pool=("-c", "4"))


def _children_killed(stage: Stage) -> None:
    _set_up(stage)
    for _ in stage.times():
        stage.pause(0.7, 1.3)
        pid = stage.luck.choice(stage.luck.choice(stage.fleet.workers).children)
        with stage.nemesis.fault("kill-child", Blame(pids=(pid,))):
            os.kill(pid, signal.SIGKILL)
    stage.pause(1.0)


def _producers_killed(stage: Stage) -> None:
    _set_up(stage, producers=2)
    for _ in stage.times():
        stage.pause(0.7, 1.3)
        producers = [one for one in stage.fleet.members if one.name.startswith("producer") and one.is_running]
        stage.nemesis.kill(stage.luck.choice(producers))
        _start_producer(stage)
    stage.pause(1.0)


def _worker_stopped(stage: Stage) -> None:
    _set_up(stage)
    for _ in stage.times():
        stage.pause(2.0)
        with stage.nemesis.stopped(stage.luck.choice(stage.fleet.workers)):
            stage.pause(STOPPED_S)
    stage.pause(2.0)


def _server_killed(stage: Stage) -> None:
    _set_up(stage)
    for _ in stage.times():
        stage.pause(2.0, 3.0)
        with stage.nemesis.fault("server-kill", Blame(cuts=True)):
            stage.engine.kill()
            stage.pause(1.0)
            stage.engine.start()
    stage.pause(4.0)


def _cut_off(stage: Stage) -> None:
    url, proxy = stage.engine.proxied(stage.url)
    _set_up(stage, url)
    for _ in stage.times():
        stage.pause(2.0)
        with stage.nemesis.fault("blackhole", Blame(cuts=True)):
            proxy.blackhole()
            stage.pause(4.0)
            proxy.heal()
            stage.pause(NOTICED_S)
        stage.pause(2.0)
        with stage.nemesis.fault("resets", Blame(cuts=True)):
            for _ in range(10):
                proxy.cut(reset=True)
                stage.pause(0.2)
            stage.pause(NOTICED_S)
    stage.pause(4.0)


def _fault(key: str, run: Callable[[Stage], None], times: int) -> Scenario:
    both: dict[str, Any] = {"redis": times, "rabbitmq": times}
    return Scenario(key=key, title=FAULTS[key], run=run, repetitions=both, seconds=dict.fromkeys(both, 30.0))


SCENARIOS = (
    _fault("F1", _workers_killed, 4),
    _fault("F2", _children_killed, 6),
    _fault("F3", _producers_killed, 6),
    _fault("F5", _worker_stopped, 1),
    _fault("F6", _server_killed, 2),
    _fault("F8", _cut_off, 1),
)
