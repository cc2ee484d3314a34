"""F8: a network that holds everything back, one direction only, resets again and again, or forgets its connections. One
worker and one producer are behind it, the others are not.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from chaos.network import Network, note_back
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from chaos.stage import Stage

KINDS = ("blackhole-1s", "half-open-replies", "rst-storm", "stranded", "blackhole-5s", "half-open-requests")
DETECT_S = 8.0
"""So soon is a connection given up that nothing comes through, while others could be made."""
STORM_S, EVERY_S = 3.0, 0.2


def run(stage: Stage) -> None:
    network = Network(stage, long_share=0.03)
    slowest_s = 0.0
    for number in stage.times():
        stage.pause(0.3, 1.0)
        kind = KINDS[number % len(KINDS)]
        # A second of silence is less than a lease, and a call that was reset is repeated at once
        harmless = kind == "blackhole-1s" or (kind == "rst-storm" and not stage.terms.connection_lease)
        with stage.nemesis.fault(kind, network.blame(cuts=not harmless)) as fault:
            began = time.monotonic()
            if kind == "rst-storm":
                while time.monotonic() - began < STORM_S:
                    network.each(lambda proxy: proxy.cut(reset=True))
                    stage.pause(EVERY_S)
            elif kind == "stranded":
                network.each(lambda proxy: proxy.strand())
            elif kind.startswith("half-open"):
                network.each(lambda proxy, kind=kind: proxy.half_open("replies" if "replies" in kind else "requests"))
                stage.pause(3.0)
            else:
                network.each(lambda proxy: proxy.blackhole())
                stage.pause(1.0 if kind == "blackhole-1s" else 5.0)
            if kind == "stranded":
                slowest_s = max(slowest_s, note_back(stage, fault, network.behind, since=began))
            else:
                network.heal()
        if kind == "stranded":
            network.heal()
        else:
            note_back(stage, fault, network.behind)
    if slowest_s:
        stage.figure("detect_s", slowest_s)
    if slowest_s > DETECT_S:
        raise AssertionError(
            f"it took {slowest_s:.1f} s to find out that connections were dead; {DETECT_S:g} s are allowed"
        )


SCENARIO = Scenario(
    key="F8",
    title="blackholes of 1 and 5 s, half-open connections, reset storms, forgotten connections",
    run=run,
    repetitions={"redis": 12, "redis-celery": 6, "rabbitmq": 6},
    seconds={"redis": 58, "redis-celery": 35, "rabbitmq": 42},
    terms={"back_s": 8.0},
)
