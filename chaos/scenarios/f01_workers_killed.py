"""F1: whole workers die at any point of a task: after the claim, in the body, between result and acknowledgement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.fleet import POOLS
from chaos.producer import Load
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from chaos.stage import Stage


def run(stage: Stage) -> None:
    fleet = stage.fleet
    pools = iter(POOLS * 100)
    for _ in range(2):
        fleet.start_worker(pool=next(pools))
    fleet.start_producer(Load(per_second=150))
    fleet.start_producer(Load(per_second=30, batch=5))
    for _ in stage.times():
        stage.pause(0.2, 1.2)
        stage.nemesis.kill(stage.luck.choice(fleet.workers))
        fleet.start_worker(pool=next(pools), ready=False)


SCENARIO = Scenario(
    key="F1",
    title="kill -9 of a worker with all its processes",
    run=run,
    repetitions={"sqlite": 15, "redis": 15, "redis-celery": 5, "rabbitmq": 5},
    seconds={"sqlite": 25, "redis": 25, "redis-celery": 15, "rabbitmq": 15},
)
