"""F4: beats die or stand still, the one that sent last rather than another; and for a while there is none."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from chaos.history import Blame
from chaos.scenario import Scenario
from chaos.ticks import Timetable

if TYPE_CHECKING:
    from chaos.fleet import Member
    from chaos.stage import Stage

TAKEOVER_S = 4.0
"""A lease and two seconds, though no beat has one."""


def run(stage: Stage) -> None:
    fleet, nemesis = stage.fleet, stage.nemesis
    fleet.start_worker()
    timetable = Timetable(stage)
    beats = [fleet.start_beat(), fleet.start_beat()]
    for beat in beats:
        beat.program.wait_for_log("next")
    timetable.wait_tick(time.monotonic())

    def leader() -> Member:
        return max(beats, key=lambda each: (fleet.folder / f"{each.name}.log").stat().st_mtime)

    def wait_back(number: str, since: float) -> None:
        stage.notes.note("back", id=number, at=timetable.wait_tick(since))

    for number in stage.times(2):
        stage.pause(0.3, 1.3)
        victim = leader()
        began = time.monotonic()
        if number % 2 == 0:
            fault = nemesis.kill(victim, kind="kill-beat")
            beats.remove(victim)
            wait_back(fault, began)
            beats.append(fleet.start_beat())
            beats[-1].program.wait_for_log("next")  # it has read its entries
        else:
            with nemesis.fault("stop-beat", Blame()) as fault:
                nemesis.halt(victim)
                wait_back(fault, began)
                nemesis.last(1.0, 6.0)
                victim.signal(signal.SIGCONT)
    stage.pause(1.0)
    with nemesis.fault("no-beat", Blame()) as fault:
        for beat in beats:
            beat.program.kill()
        nemesis.last(2.0, 3.0)
        beats = [fleet.start_beat(), fleet.start_beat()]
        beats[0].program.wait_for_log("next")
    wait_back(fault, time.monotonic())
    stage.pause(1.0)
    for beat in beats:
        fleet.stop(beat)
    timetable.account()


SCENARIO = Scenario(
    key="F4",
    title="kill -9 and SIGSTOP of beats",
    run=run,
    repetitions={"sqlite": 8, "redis": 8, "rabbitmq": 8},
    seconds={"sqlite": 35, "redis": 35, "rabbitmq": 40},
    settings={
        "beat_schedule": {
            **{f"tick{n}": {"task": "tick", "schedule": {"every": 1.0}, "catch_up": "all"} for n in range(8)},
            "latest": {"task": "tick", "schedule": {"every": 1.0}, "catch_up": "latest"},
            "skip": {"task": "tick", "schedule": {"every": 1.0}, "catch_up": "skip"},
        },
        "beat_misfire_grace": 1.0,  # so that what is due while no beat runs is missed, and the policies come to it
    },
    terms={"back_s": TAKEOVER_S},
)
