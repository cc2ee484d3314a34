"""F5: workers stand still for three leases and go on as if nothing had been. What they held is others' by then."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from chaos.producer import BULK, Load
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from chaos.stage import Stage

LONG = Load(per_second=12, long_share=0.3)
"""Many that run when their worker stops, and are not over when it goes on."""


def run(stage: Stage) -> None:
    fleet, luck = stage.fleet, stage.luck
    fleet.start_workers(3)
    for load in (LONG, BULK):
        fleet.start_producer(load)
    left = len(stage.times())
    while left > 0:
        stage.pause(0.5, 1.5)
        with ExitStack() as faults:
            # One or two of three at once
            for member in luck.sample(fleet.workers, min(left, luck.randint(1, 2))):
                faults.enter_context(stage.nemesis.stopped(member))
                left -= 1
            stage.pause(3 * stage.terms.lease_s, 3.2 * stage.terms.lease_s)
    stage.pause(1.0, 2.0)  # those that went on meet the others


SCENARIO = Scenario(
    key="F5",
    title="SIGSTOP of a worker for three leases, then SIGCONT",
    run=run,
    repetitions={"sqlite": 4, "redis": 4, "redis-celery": 2, "rabbitmq": 3},
    seconds={"sqlite": 32, "redis": 32, "redis-celery": 18, "rabbitmq": 26},
)
