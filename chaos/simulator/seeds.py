"""Runs many seeds on all cores, and makes the plan of one that fails as short as it can be."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from chaos.simulator.application import Model
from chaos.simulator.oracle import examine
from chaos.simulator.world import Fault, World, plan_of
from chaos.verdict import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chaos.simulator.network import Bomb

_PIECE: Final = 50
"""Seeds between two collections of garbage."""
_MOST_FINDINGS: Final = 20
_models: dict[bool, Model] = {}


class SeedFinding(msgspec.Struct, frozen=True, kw_only=True):
    """A seed that shows something."""

    seed: int
    violations: tuple[Violation, ...]
    plan: tuple[str, ...] = ()
    """The faults without which it shows nothing."""


class SimulatorReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of many seeds."""

    first: int
    seeds: int = 0
    seconds: float = 0.0
    """From start to end."""
    cpu_s: float = 0.0
    events: int = 0
    tasks: int = 0
    """Acknowledged, with the members of workflows."""
    steps: int = 0
    """Handles run."""
    virtual_s: float = 0.0
    faults: int = 0
    crashes: int = 0
    bad: int = 0
    """Seeds with violations."""
    calls: dict[str, int] = {}
    """By point: how often a process waited for a server there."""
    hits: dict[str, int] = {}
    """By `kind point`: how often a fault met a call."""
    counts: dict[str, int] = {}
    """By invariant: how often it was broken."""
    findings: tuple[SeedFinding, ...] = ()

    @property
    def is_clean(self) -> bool:
        return not self.bad

    def __add__(self, other: SimulatorReport) -> SimulatorReport:
        sums = {
            name: getattr(self, name) + getattr(other, name)
            for name in ("seeds", "cpu_s", "events", "tasks", "steps", "virtual_s", "faults", "crashes", "bad")
        }
        counters = {
            name: dict(Counter(getattr(self, name)) + Counter(getattr(other, name)))
            for name in ("calls", "hits", "counts")
        }
        return SimulatorReport(
            first=min(self.first, other.first),
            seconds=max(self.seconds, other.seconds),
            findings=(*self.findings, *other.findings)[:_MOST_FINDINGS],
            **sums,
            **counters,
        )


def make_world(
    seed: int,
    *,
    plan: Sequence[Fault | Bomb] | None = None,
    script: Callable[[World], None] | None = None,
    bug: str = "",
) -> World:
    """The world of a seed, not yet run: by turns one where the broker stores results, and one with a store apart."""
    fused = seed % 2 == 0
    model = _models.get(fused)
    if model is None:
        model = _models[fused] = Model(fused=fused)
    return World(model, seed, plan=plan, script=script, bug=bug)


def run_seed(seed: int, *, plan: Sequence[Fault | Bomb] | None = None, bug: str = "") -> tuple[World, list[Violation]]:
    """Run one; the world, with its history, and what is wrong with it."""
    world = make_world(seed, plan=plan, bug=bug)
    world.run()
    return world, examine(world)


def shorten(seed: int, *, bug: str = "") -> tuple[Fault | Bomb, ...]:
    """The plan of a seed that fails, without what is not needed for it to fail."""
    plan = list(plan_of(seed))
    for one in [*plan]:
        fewer = [other for other in plan if other is not one]
        if run_seed(seed, plan=fewer, bug=bug)[1]:
            plan = fewer
    return tuple(plan)


def run_here(first: int, count: int, *, step: int = 1, bug: str = "", until: float = float("inf")) -> SimulatorReport:
    """Run `count` seeds from `first` on, each `step`th, in this process, and none more after `until` (monotonic)."""
    began, cpu = time.monotonic(), time.process_time()
    report = SimulatorReport(first=first)
    gc.collect()
    gc.disable()  # what a world leaves behind is garbage in cycles; it is taken out by the dozen
    try:
        for number in range(count):
            if time.monotonic() > until:
                break
            seed = first + number * step
            world, violations = run_seed(seed, bug=bug)
            findings: tuple[SeedFinding, ...] = ()
            if violations:
                plan = shorten(seed, bug=bug) if len(report.findings) < _MOST_FINDINGS else ()
                findings = (
                    SeedFinding(seed=seed, violations=tuple(violations[:5]), plan=tuple(str(one) for one in plan)),
                )
            report += SimulatorReport(
                first=seed,
                seeds=1,
                events=len(world.events),
                tasks=sum(event.f == "enqueue" and event.type == "ok" for event in world.events),
                steps=world.loop.steps,
                virtual_s=world.elapsed_s,
                faults=world.nemesis.faults,
                crashes=world.nemesis.crashes,
                bad=bool(violations),
                calls=dict(world.network.calls),
                hits={" ".join(key): hits for key, hits in world.network.hits.items()},
                counts=dict(Counter(violation.invariant for violation in violations)),
                findings=findings,
            )
            if number % _PIECE == _PIECE - 1:
                gc.collect()
    finally:
        gc.enable()
    return msgspec.structs.replace(
        report, first=first, seconds=time.monotonic() - began, cpu_s=time.process_time() - cpu
    )


def run_seeds(
    first: int, count: int, processes: int = 0, *, bug: str = "", seconds: float = float("inf")
) -> SimulatorReport:
    """Run the seeds from `first` on.

    Args:
        first: The first of them.
        count: How many.
        processes: Of the operating system, which share them; 0: one for each core.
        bug: A planted one.
        seconds: Begin no more after that.
    """
    processes = processes or os.cpu_count() or 1
    if processes == 1:
        return run_here(first, count, bug=bug, until=time.monotonic() + seconds)
    words = [sys.executable, "-m", "chaos.simulator", "--json", "--processes", "1", "--step", str(processes)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))}
    children = [
        subprocess.Popen(
            [
                *words,
                *("--first", str(first + number), "--count", str(-(-(count - number) // processes))),
                *("--seconds", str(seconds), "--bug", bug),
            ],
            stdout=subprocess.PIPE,
            env=environment,
        )
        for number in range(min(processes, count))
    ]
    report = SimulatorReport(first=first)
    for child in children:
        output, _ = child.communicate()
        if child.returncode not in (0, 1):
            raise RuntimeError(f"a process of the simulator ended with {child.returncode}; its last words are above")
        report += msgspec.json.decode(output, type=SimulatorReport)
    return msgspec.structs.replace(report, first=first)


_ROOT: Final = str(Path(__file__).parents[2])
