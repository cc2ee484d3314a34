"""F11: wall clocks jump by an hour or half a minute, or run ten percent too fast: of a worker, a producer, a beat.

SQLite's clock is that of the one host which all of them are on, so there all jump together. What is promised then:
leases, which go by another clock, do not notice; what is delayed comes by the clock that was set; an entry of a
schedule goes on from where the clock is. No instant of one is sent twice in any case.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from chaos.application import DUE_BY_WALL
from chaos.clock import go_by, shift
from chaos.history import Blame
from chaos.producer import Load
from chaos.scenario import Scenario
from chaos.ticks import Timetable
from servers import RedisServer

if TYPE_CHECKING:
    from chaos.fleet import Member
    from chaos.stage import Stage

JUMPS = ((3600.0, 0.0), (-3600.0, 0.0), (30.0, 0.0), (-30.0, 0.0), (0.0, 0.1))


def run(stage: Stage) -> None:
    fleet, nemesis, luck = stage.fleet, stage.nemesis, stage.luck
    is_one_host = stage.engine.name == "sqlite"
    environment = {DUE_BY_WALL: "1"} if is_one_host else {}
    if stage.engine.name == "rabbitmq":  # marks in a file would be those of one host, and go by its clock
        marks = stage.cleanup.enter_context(closing(RedisServer()))
        marks.start()
        stage.settings["beat_store"] = marks.url
    load = Load(per_second=60, countdown_share=0.5, countdown_s=3.0, long_share=0.01, knows_due=not is_one_host)
    workers = [fleet.start_worker(environment=environment) for _ in range(2)]
    producers = [fleet.start_producer(load) for _ in range(2)]
    timetable = Timetable(stage)
    beats = [fleet.start_beat() for _ in range(2)]
    timetable.wait_tick(time.monotonic())
    clocks = [one.clock_file for one in fleet.members]
    if is_one_host:  # and this process is on it
        here = stage.folder / "campaign.clock"
        shift(here)
        stage.cleanup.callback(go_by(here))
        clocks.append(here)
    jumps: list[tuple[float, float]] = []
    for number in stage.times(3):
        jumps = jumps or luck.sample(JUMPS, len(JUMPS))
        off_s, drift = jumps.pop()
        some: list[Member] = (workers, producers, beats)[number % 3]
        victim = luck.choice(some)
        moved = clocks if is_one_host else [victim.clock_file]
        kind = f"clock of {'the host' if is_one_host else victim.name} {off_s:+g} s {drift:+.0%}"
        with nemesis.fault(kind, Blame()):
            for clock in moved:
                shift(clock, off_s, drift=drift)
            nemesis.last(*((4.0, 6.0) if is_one_host else (2.0, 4.0)))  # the checker looks away for the first 3 s
            for clock in moved:
                shift(clock)
        nemesis.last(0.5, 1.5)
    for beat in beats:
        fleet.stop(beat)
    if is_one_host:  # what was sent in the hour that was set back is due by the clock as it is now
        for clock in clocks:
            shift(clock, 3700.0)
    else:
        timetable.account()


SCENARIO = Scenario(
    key="F11",
    title="wrong wall clocks of a worker, a producer, a beat",
    run=run,
    repetitions={"sqlite": 6, "redis": 6, "rabbitmq": 6},
    seconds={"sqlite": 52, "redis": 40, "rabbitmq": 45},
    settings={
        "beat_schedule": {
            f"tick{n}": {"task": "tick", "schedule": {"every": 1.0}, "catch_up": "all"} for n in range(5)
        },
        "result_expires": 86_400,
    },
)
