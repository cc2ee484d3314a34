"""F17: workflows while workers are killed and cut off: every chord ends once, by its body or by its error callback."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chaos.fleet import POOLS
from chaos.history import Blame
from chaos.scenario import Scenario
from chaos.workflows import Workflows

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.stage import Stage


_READY = re.compile(r"\bready\b")


def run(stage: Stage) -> None:
    fleet, nemesis, luck = stage.fleet, stage.nemesis, stage.luck
    url, proxy = (stage.url, None) if stage.engine.name == "sqlite" else stage.engine.proxied(stage.url)
    pools = iter(POOLS[:2] * 100)
    for _ in range(2):
        fleet.start_worker(url=url, pool=next(pools))
    workflows = Workflows(stage.app, stage.notes, luck)

    def either() -> None:
        stage.producer.revoke([luck.choice(workflows.chord(10, ending="either"))])

    share = min(1.0, stage.share)
    waiting: list[Callable[[], object]] = [
        *[lambda: workflows.chord(10)] * max(8, round(160 * share)),
        *[lambda: workflows.chord(10, ending="errback")] * max(2, round(24 * share)),
        *[either] * max(2, round(16 * share)),
        *[workflows.nested] * max(4, round(50 * share)),
        *[lambda: workflows.diamond(5)] * max(2, round(20 * share)),
    ]
    luck.shuffle(waiting)
    faults = stage.times(2)
    for number in faults:
        part = len(waiting) * number // len(faults), len(waiting) * (number + 1) // len(faults)
        for send in waiting[slice(*part)]:
            send()
        stage.pause(0.1, 0.8)
        if proxy is None or number % 2 == 0:
            fleet.wait(lambda: all(_READY.search(one.log) for one in fleet.workers), "workers that take over")
            nemesis.kill(luck.choice(fleet.workers))
            fleet.start_worker(url=url, pool=next(pools), ready=False)
            continue
        kind = luck.choice(("blackhole", "reset", "half-open"))
        with nemesis.fault(kind, Blame(cuts=True)):
            if kind == "blackhole":
                proxy.blackhole()
                nemesis.last(1.0, 3.0)
            elif kind == "half-open":
                proxy.half_open(luck.choice(("replies", "requests")))
                nemesis.last(1.0, 3.0)
            else:
                for _ in range(5):
                    proxy.cut(reset=True)
                    nemesis.last(0.2, 0.2)
            proxy.heal()


SCENARIO = Scenario(
    key="F17",
    title="workflows while workers are killed and cut off",
    run=run,
    repetitions={"sqlite": 6, "redis": 8, "rabbitmq": 8},
    seconds={"sqlite": 35, "redis": 45, "rabbitmq": 60},
)
