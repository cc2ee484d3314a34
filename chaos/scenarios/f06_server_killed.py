"""F6: the server dies by SIGKILL and comes back with what it had on disk. SQLite has none: there, all die who have the
file open, in the middle of whatever transaction that was.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from chaos.fleet import POOLS
from chaos.history import Blame
from chaos.network import note_back
from chaos.producer import BULK, Load
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from chaos.stage import Stage

LONG_S = 5.0
"""Longer than a lease."""


def run(stage: Stage) -> None:
    start(stage)
    if stage.engine.name == "sqlite":
        for _ in stage.times():
            stage.pause(0.5, 1.5)
            kill_all(stage)
        with closing(sqlite3.connect(stage.folder / "queue.db")) as link:
            if (found := link.execute("PRAGMA quick_check").fetchall()) != [("ok",)]:
                raise AssertionError(f"the file is damaged: {found[:5]}")
        return
    for number in stage.times():
        stage.pause(0.5, 1.5)
        is_long = number % 3 == 1
        # A shorter outage takes no lease away; where the connection is the lease, any does
        blame = Blame(cuts=is_long or stage.terms.connection_lease)
        with stage.nemesis.fault("server-kill-long" if is_long else "server-kill", blame) as fault:
            stage.engine.kill()
            stage.pause(LONG_S if is_long else stage.luck.uniform(0.0, 0.4))
            stage.engine.start()
            up = time.monotonic()
        note_back(stage, fault, since=up)


def start(stage: Stage) -> None:
    # Less than they can do: what is measured is when they consume again, and not how long a queue was
    stage.fleet.start_producer(Load(per_second=80, long_share=0.01))
    stage.fleet.start_producer(Load(per_second=12, batch=5, long_share=0.01))
    stage.fleet.start_producer(BULK)
    for _ in range(2):
        stage.fleet.start_worker(pool=POOLS[1])


def kill_all(stage: Stage) -> None:
    """All processes of all members at one moment, then new ones."""
    members = [one for one in stage.fleet.members if one.is_running]
    pids = [pid for one in members for pid in one.pids]
    with stage.nemesis.fault("kill-all", Blame(pids=tuple(pids))) as fault:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for one in members:
            one.program.kill()
    start(stage)
    note_back(stage, fault)


SCENARIO = Scenario(
    key="F6",
    title="kill -9 of the server, which keeps its data; on SQLite of all processes at once",
    run=run,
    repetitions={"sqlite": 4, "redis": 6, "redis-celery": 2, "rabbitmq": 3},
    seconds={"sqlite": 38, "redis": 36, "redis-celery": 22, "rabbitmq": 55},
    settings={"worker_lease": 4.0},
    # On SQLite nobody is left: lease and reaping, and before them new workers have to start
    terms={"recovery_s": 15.0},
)
