"""`python -m chaos.simulator`: run seeds, or show one."""

from __future__ import annotations

import argparse
import sys

import msgspec

from chaos.simulator.network import KINDS, POINTS
from chaos.simulator.seeds import SimulatorReport, run_here, run_seed, run_seeds, shorten
from chaos.simulator.world import plan_of


def main() -> int:
    """The exit code: 1 when there is a violation."""
    parser = argparse.ArgumentParser(prog="python -m chaos.simulator", description="Many fleets on a virtual clock.")
    parser.add_argument("--seed", type=int, help="run this one and print its plan and its history")
    parser.add_argument("--id", action="append", default=[], help="of a seed's history, only these ids and the faults")
    parser.add_argument("--shorten", action="store_true", help="with --seed: leave out the faults that are not needed")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--bug", default="", help="a planted one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.seed is not None:
        return show(options.seed, options.bug, frozenset(options.id), is_short=options.shorten)
    if options.processes == 1:
        import time

        until = time.monotonic() + options.seconds
        report = run_here(options.first, options.count, step=options.step, bug=options.bug, until=until)
    else:
        report = run_seeds(options.first, options.count, options.processes, bug=options.bug, seconds=options.seconds)
    sys.stdout.buffer.write(msgspec.json.encode(report) if options.json else (text_of(report) + "\n").encode())
    return 0 if report.is_clean else 1


def show(seed: int, bug: str, ids: frozenset[str], *, is_short: bool) -> int:
    """Print what happened in a world."""
    plan = shorten(seed, bug=bug) if is_short else plan_of(seed)
    for one in plan:
        print("#", one)
    world, violations = run_seed(seed, plan=plan, bug=bug)
    encode = msgspec.json.encode
    for event in world.events:
        if not ids or event.id in ids or event.f in ("fault", "fenced", "phase"):
            print(encode(event).decode())
    for one in violations:
        print(f"# {one.invariant} {one.id}: {one.says}")
    return 1 if violations else 0


def text_of(report: SimulatorReport) -> str:
    """A report for people: figures, what met which call, what was found."""
    rate = 60.0 * report.seeds / report.seconds if report.seconds else 0.0
    spoken = f"{report.faults} faults, {report.crashes} of them crashes, {report.virtual_s:.0f} s of their time"
    lines = [
        f"{report.seeds} seeds from {report.first}: {report.tasks} tasks, {report.events} events, {spoken}",
        f"in {report.seconds:.1f} s, {report.cpu_s:.1f} s of processor: {rate:.0f} seeds a minute",
        "",
        coverage(report),
        "",
    ]
    for finding in report.findings:
        lines.append(f"seed {finding.seed}:")
        lines += [f"  {one.invariant} {one.id}: {one.says}" for one in finding.violations]
        lines += [f"  needs {fault}" for fault in finding.plan]
    lines.append(f"{report.bad} seeds with violations" if report.bad else "no violations")
    return "\n".join(lines)


def coverage(report: SimulatorReport) -> str:
    """Which kind of fault met how many calls at which point; `during`: it came from outside while a call was there."""
    kinds = [*KINDS, "kill-during", "stop-during"]
    rows = [f"{'':10}{'calls':>9}" + "".join(f"{kind:>13}" for kind in kinds)]
    for point in (*POINTS, "elsewhere"):
        cells = "".join(f"{report.hits.get(f'{kind} {point}', 0):>13}" for kind in kinds)
        rows.append(f"{point:10}{report.calls.get(point, 0):>9}{cells}")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
