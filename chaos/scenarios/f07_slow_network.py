"""F7: a network that is slow: round trips of 500 +- 300 ms, pieces of one to seven bytes, 64 kB/s. No lease is lost as
long as a round trip takes less than a third of it, and nobody misunderstands a word.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from celeriac.testing import Manners
from chaos.history import Blame
from chaos.network import Network, note_back
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from chaos.stage import Stage

LASTS_S = 6.0
WRONG = re.compile(r"^.*(lease|[Pp]rotocol|frame|Traceback|Unicode|Decode).*$", re.MULTILINE)


def run(stage: Stage) -> None:
    # Pieces of one byte cost the proxy 20 us each: it is the network here, and must not be its own outage
    network = Network(stage, per_second=25.0, bulk=False)
    kinds = ["latency", "slices", "narrow"]
    for number in stage.times():
        kind = kinds[number % len(kinds)]
        with stage.nemesis.fault(kind, Blame()) as fault:
            if kind == "latency":
                network.each(lambda proxy: proxy.behave(Manners(delay_s=0.25, jitter_s=0.15)))
                stage.pause(LASTS_S)
            elif kind == "slices":
                for size in stage.luck.sample(range(1, 8), 3):
                    network.each(lambda proxy, size=size: proxy.slice(size))
                    stage.pause(LASTS_S / 3.0)
            else:
                network.each(lambda proxy: proxy.throttle(64_000))
                stage.pause(LASTS_S)
            network.heal()
        note_back(stage, fault, network.behind)
    for member in stage.fleet.workers:
        if found := WRONG.search(member.log):
            raise AssertionError(f"{member.name} says that something went wrong: {found[0]}\n{member.log[-2000:]}")


SCENARIO = Scenario(
    key="F7",
    title="round trips of 500 +- 300 ms, slices of 1 to 7 bytes, 64 kB/s",
    run=run,
    repetitions={"redis": 6, "rabbitmq": 3},
    seconds={"redis": 48, "rabbitmq": 27},
    settings={"worker_lease": 3.0},
)
