"""F14: the result store is down for ten seconds while the broker is up: a Redis server that dies or hangs, or a
file of its own that is locked. What ends meanwhile is not run again for it, nor acknowledged before its result is
stored; afterwards no result is missing.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from chaos.engines.redis import RedisEngine
from chaos.fleet import POOLS
from chaos.history import Blame
from chaos.network import note_back
from chaos.producer import BULK, Load
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from chaos.stage import Stage

LASTS_S = 10.0


def run(stage: Stage) -> None:
    engine = stage.engine
    path = stage.folder / "own-results.db"
    server = engine.second() if isinstance(engine, RedisEngine) else None
    stage.settings["result_backend"] = f"sqlite:///{path}" if server is None else server.url
    for _ in range(2):
        stage.fleet.start_worker(pool=POOLS[1])
    stage.fleet.start_producer(Load(per_second=60, long_share=0.01))
    stage.fleet.start_producer(BULK)
    for number in stage.times():
        stage.pause(1.0, 2.0)
        kind = "locked" if server is None else ("killed", "frozen")[number % 2]
        with stage.nemesis.fault(f"results-{kind}", Blame()) as fault:
            if server is None:
                with closing(sqlite3.connect(path, isolation_level=None)) as link:
                    link.execute("PRAGMA busy_timeout = 10000")
                    link.execute("BEGIN IMMEDIATE")
                    stage.pause(LASTS_S)
                    link.execute("ROLLBACK")
            elif kind == "killed":
                server.kill()
                stage.pause(LASTS_S)
                server.start()
            else:
                server.freeze()
                stage.pause(LASTS_S)
                server.thaw()
        note_back(stage, fault)


SCENARIO = Scenario(
    key="F14",
    title="the result store is down for ten seconds, the broker is not",
    run=run,
    repetitions={"sqlite": 1, "redis": 2, "rabbitmq": 1},
    seconds={"sqlite": 20, "redis": 36, "rabbitmq": 22},
)
