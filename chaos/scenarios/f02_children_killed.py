"""F2: one of a worker's processes dies: killed, by itself, for want of memory or for having too much of it. Its
neighbours do not notice.
"""

from __future__ import annotations

import signal
from itertools import cycle
from typing import TYPE_CHECKING, Any

from chaos.producer import MIXED
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from chaos.stage import Stage

WAYS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("", ()),
    ("dying", (signal.SIGKILL,)),
    ("hungry", ()),
    ("dying", (signal.SIGSEGV,)),
    ("", ()),
    ("greedy", ()),
    ("dying", (signal.SIGABRT,)),
)
"""By turns: killed from outside, or which task does it, and its arguments behind the fault's number."""


def run(stage: Stage) -> None:
    fleet, nemesis = stage.fleet, stage.nemesis
    fleet.start_workers(2)
    # Every thirtieth task or so, a process makes room for another in good order
    fleet.start_worker("--max-tasks-per-child", "30", pool=("-c", "1"))
    fleet.start_producer(MIXED)
    for _, (task, arguments) in zip(stage.times(), cycle(WAYS), strict=False):
        stage.burst(150, 0.05)  # more than they can have done before there is another process
        stage.pause(0.1, 0.3)
        before = {member.name: member.children for member in fleet.workers}
        if not task:
            member = stage.luck.choice(fleet.workers)
            number, gone = nemesis.kill_child(member)
        else:
            number = nemesis.reserve()
            facts = {"ends": "failure"} if task == "hungry" else {}
            stage.producer.send(task, number, *arguments, facts=facts, priority=9)
            begun = stage.wait_own(number)
            member = fleet.member_of(begun.p)
            gone = int(begun.p.rpartition(":")[2])
        if task == "hungry":
            continue  # its process lives, or leaves because it has grown
        fresh = fleet.wait_fresh(member, before[member.name], gone)
        if task != "greedy":  # that one leaves in good order, which takes as long as what it runs
            stage.wait_back(number, where=f"{member.name}:{fresh}")


SCENARIO = Scenario(
    key="F2",
    title="one process of a worker killed, by itself, out of memory",
    run=run,
    repetitions={"sqlite": 12, "redis": 12, "redis-celery": 5, "rabbitmq": 6},
    seconds={"sqlite": 18, "redis": 18, "redis-celery": 12, "rabbitmq": 14},
    settings={"worker_max_memory_per_child": 150_000},
    # A second where this runs alone; four scenarios at a time share the processors
    terms={"back_s": 2.0, "skip": ("M1",)},
)
