"""F3: producers die in the middle of a publish. What they were told is stored is stored; the rest may be, once."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from chaos.producer import Load
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from chaos.stage import Stage

RESTLESS = Load(per_second=1000, most_s=0.001, long_share=0.002)
"""One after another, so that a kill strikes within a call."""
RESTLESS_BULK = Load(per_second=1000, batch=25, most_s=0.0, long_share=0.0)


def run(stage: Stage) -> None:
    fleet, luck = stage.fleet, stage.luck
    fleet.start_workers(2)
    loads = cycle((RESTLESS, RESTLESS, RESTLESS_BULK))
    producers = [fleet.start_producer(next(loads)) for _ in range(2)]
    for _ in stage.times():
        producers.append(fleet.start_producer(next(loads)))
        producer = producers.pop(0)
        fleet.wait(lambda producer=producer: fleet.has_begun(producer), f"{producer.name} to publish")
        stage.pause(0.0, 0.3)
        stage.nemesis.kill(producer, kind="kill-producer")
        # Another publishes again, under their ids, half of what nobody knows
        stage.standing.look()
        for call in list(stage.standing.unanswered.values()):
            if call.p.startswith(f"{producer.name}:") and luck.random() < 0.5:
                stage.producer.send(call.what, 0.0, task_id=call.id)


SCENARIO = Scenario(
    key="F3",
    title="kill -9 of a producer within a publish",
    run=run,
    repetitions={"sqlite": 8, "redis": 8, "redis-celery": 4, "rabbitmq": 6},
    seconds={"sqlite": 14, "redis": 14, "redis-celery": 10, "rabbitmq": 14},
)
