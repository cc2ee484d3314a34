"""F19: workers of two releases on one queue. What the older does not know waits until one that does takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.application import LACKS
from chaos.fleet import POOLS
from chaos.producer import Load
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from chaos.fleet import Member
    from chaos.stage import Stage

OLD = {LACKS: "awork"}


def run(stage: Stage) -> None:
    """Nobody knows it; then some do; these go away; then all do."""
    fleet = stage.fleet
    old = [fleet.start_worker(pool=pool, environment=OLD) for pool in POOLS[:2]]
    fleet.start_producer(Load(per_second=60, long_share=0.01))
    fleet.start_producer(Load(per_second=10, batch=5, long_share=0.01, tasks=(("awork", 1.0),), countdown_share=0.5))
    for _ in stage.times():
        stage.pause(2.0, 4.0)
        new: list[Member] = [fleet.start_worker()]
        stage.pause(1.0, 2.0)
        for one in new:
            fleet.stop(one)
    fleet.end_producers()
    fleet.start_worker()
    for one in old:
        fleet.stop(one)
        fleet.start_worker()


SCENARIO = Scenario(
    key="F19",
    title="workers of two releases, and tasks that the older does not know",
    run=run,
    repetitions={"sqlite": 2, "redis": 2, "rabbitmq": 2},
    seconds={"sqlite": 30, "redis": 30, "rabbitmq": 35},
)
