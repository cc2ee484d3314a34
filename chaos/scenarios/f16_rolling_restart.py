"""F16: workers leave in good order under load, one after another and all together; nothing runs twice."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING

from chaos.producer import BULK, MIXED
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from chaos.stage import Stage

GAP_S = 2.0
"""Longest time without a start while there are others."""


def run(stage: Stage) -> None:
    fleet, nemesis = stage.fleet, stage.nemesis
    fleet.start_workers(2)
    for load in (MIXED, BULK):
        fleet.start_producer(load)
    fleet.wait(lambda: stage.standing.look() and stage.standing.starts, "the first task")
    for number in stage.times():
        if number % 3 == 2:  # all processes of one worker make room for fresh ones
            member = stage.luck.choice(fleet.workers)
            old = set(member.children)
            with nemesis.leaving(member, signal.SIGHUP, kind="reload"):
                fleet.wait(lambda member=member, old=old: not old & set(member.children), "the old ones to leave")
            continue
        for member in fleet.workers:
            fresh = fleet.start_worker(pool=member.pool)
            with nemesis.leaving(member):
                began = time.monotonic()
                code = member.program.wait(stage.terms.grace_s + 10.0)
            stage.figure("leave_s", time.monotonic() - began)
            assert code == 0, f"{member.name} left with exit code {code}"
            assert fresh.is_running, fresh.log[-3000:]
    stage.standing.look()
    moments = sorted(t for t, _ in stage.standing.starts)
    gap_s = max(late - early for early, late in pairwise(moments))
    stage.figure("gap_s", gap_s)
    # All at once, with what runs; what had not begun is there for the next
    with ExitStack() as leaves:
        members = fleet.workers
        for member in members:
            leaves.enter_context(nemesis.leaving(member))
        for member in members:
            member.program.wait(stage.terms.grace_s + 10.0)
    fleet.start_worker()
    assert gap_s <= GAP_S, f"for {gap_s:.2f} s nothing began while workers were replaced one by one"


SCENARIO = Scenario(
    key="F16",
    title="workers leave in good order under load",
    run=run,
    repetitions={"sqlite": 4, "redis": 4, "redis-celery": 3, "rabbitmq": 4},
    seconds={"sqlite": 28, "redis": 30, "redis-celery": 24, "rabbitmq": 28},
)
