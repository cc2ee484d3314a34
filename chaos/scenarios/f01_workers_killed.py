"""F1: whole workers die at any point of a task: after the claim, in the body, between result and acknowledgement."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import msgspec

from chaos.application import DOOM
from chaos.fleet import POOLS
from chaos.insides import POINTS, Doom
from chaos.producer import BULK, MIXED
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from chaos.stage import Stage


def run(stage: Stage) -> None:
    fleet, nemesis, luck = stage.fleet, stage.nemesis, stage.luck
    fleet.start_workers(2)
    for load in (MIXED, BULK):
        fleet.start_producer(load)
    # Results and acknowledgements are two steps only where another place keeps the results
    points = cycle(point for point in POINTS if point != "stored" or stage.settings.get("result_backend"))
    pools = cycle(POOLS)
    for number in stage.times():
        if number % 3 == 2:
            stage.pause(0.2, 1.0)
            nemesis.kill(luck.choice(fleet.workers))
            fleet.start_worker(pool=next(pools), ready=False)
            continue
        # One more comes, works for a while, and ends itself at a point that no signal from outside would hit
        point = next(points)
        most = 60 if point in {"started", "ended"} else 4  # the others are of many tasks at once
        doom = Doom(point=point, count=luck.randint(1, most), fault=nemesis.reserve())
        environment = {DOOM: msgspec.json.encode(doom).decode()}
        fleet.start_worker(pool=next(pools), ready=False, environment=environment)
        stage.wait_own(doom.fault)


SCENARIO = Scenario(
    key="F1",
    title="kill -9 of a worker with all its processes",
    run=run,
    repetitions={"sqlite": 15, "redis": 15, "redis-celery": 7, "rabbitmq": 9},
    seconds={"sqlite": 38, "redis": 38, "redis-celery": 22, "rabbitmq": 26},
)
