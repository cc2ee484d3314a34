"""F15: fifty clients lose their server together. They are back within five seconds, and do not storm it: none connects
more than twenty times a second.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from chaos.fleet import POOLS
from chaos.history import Blame
from chaos.network import note_back, wait_works
from chaos.producer import Load
from chaos.scenario import Scenario
from servers import wait_until

if TYPE_CHECKING:
    from celeriac.testing import TcpProxy
    from chaos.fleet import Member
    from chaos.stage import Stage

WORKERS, CROWDS, CLIENTS = 5, 5, 7
"""Workers of two processes and a supervisor, and crowds of clients that publish."""
DOWN_S = 2.0
MOST = 20
"""Connects of a process in a second, also while there is nobody."""


def run(stage: Stage) -> None:
    fleet, engine = stage.fleet, stage.engine
    members: list[tuple[Member, TcpProxy, int]] = []
    for _ in range(WORKERS):
        url, proxy = engine.proxied(stage.url)
        members.append((fleet.start_worker(url=url, pool=POOLS[1], ready=False), proxy, 3))
    for _ in range(CROWDS):
        url, proxy = engine.proxied(stage.url)
        load = Load(per_second=2.0, long_share=0.0)
        members.append((fleet.start_producer(load, url=url, clients=CLIENTS), proxy, CLIENTS))
    fleet.wait_ready(*fleet.workers)
    worst = slowest_s = 0.0
    for _ in stage.times():
        wait_works(stage)
        stage.pause(0.5, 1.0)
        before = [(proxy.accepted, proxy.connections) for _, proxy, _ in members]
        with stage.nemesis.fault("reconnect-storm", Blame(cuts=True)) as fault:
            engine.kill()
            stage.pause(DOWN_S)
            engine.start()
            up = time.monotonic()
        # Some are opened when they are first needed again
        wait_until(
            lambda before=before: sum(proxy.connections for _, proxy, _ in members) >= 0.9 * sum(n for _, n in before),
            "the clients to be back",
            30.0,
        )
        slowest_s = max(slowest_s, time.monotonic() - up)
        note_back(stage, fault, since=up)
        for (_, proxy, processes), (seen, _) in zip(members, before, strict=True):
            worst = max(worst, proxy.busiest(after=seen) / processes)
    stage.figure("clients_back_s", slowest_s)
    stage.figure("connects_a_second", worst)
    if worst > MOST:
        raise AssertionError(f"{worst:.0f} connects a second of one process; {MOST} are allowed")


SCENARIO = Scenario(
    key="F15",
    title="fifty clients lose their server together",
    run=run,
    repetitions={"redis": 2, "rabbitmq": 1},
    seconds={"redis": 24, "rabbitmq": 27},
)
