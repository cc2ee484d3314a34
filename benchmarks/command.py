"""The command line: which figures, how large, how often, and where they go."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import report
from benchmarks.bench import Bench
from benchmarks.environments import UnavailableError
from benchmarks.figure import Figure, Reading, Series, Values, medians, read
from benchmarks.machine import described, facts
from benchmarks.processes import ROOT, ProgramError
from benchmarks.record import RecordError
from benchmarks.series import SERIES

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = ROOT / "docs" / "benchmarks.md"

Runs = dict[str, dict[str, list[Values]]]
"""All runs, by series and contestant."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 when every figure was taken and met its target, 1 otherwise. Small runs are not judged by targets."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.list:
        for one in SERIES[asked.engine]:
            for figure in one.figures:
                print(f"{figure.name:<16} {figure.what}; target {report.target(figure)}")
        return 0
    plan = _plan(SERIES[asked.engine], asked.only, parser)
    scale = 0.1 if asked.quick else asked.scale
    whole = scale >= 1 and not asked.only and not asked.ours
    if asked.write_docs and not whole:
        parser.error("--write-docs wants a whole run: leave out --only, --quick, --scale and --ours")
    with Bench(engine=asked.engine, scale=scale, with_rivals=not asked.ours, is_long=asked.long) as bench:
        store = bench.message_directory if asked.engine == "rabbitmq" else bench.directory
        about = facts(asked.engine, store, bench.record_directory)
        print("\n".join(described(about)), flush=True)
        if scale != 1:
            print(f"sizes x {scale:g}: too small for the targets, which are shown all the same")
        readings, runs, broken = _run(bench, plan, asked.reps)
        about |= bench.rival_facts()
    print("\nAll figures, medians of", asked.reps, "\n" if asked.reps == 1 else "runs each\n")
    for reading in readings:
        print(report.line(reading))
        print(f"{'':<15} {report.command(reading.figure, asked.engine)}")
    if asked.json:
        asked.json.write_text(json.dumps(report.plain(readings, runs, about, asked.engine), indent=1) + "\n")
    if asked.write_docs:
        date = datetime.now(UTC).date().isoformat()
        report.write_into(PAGE, asked.engine, report.table(readings, about, date))
    missed = [reading.figure.name for reading in readings if reading.verdict == "FAIL"]
    if missed:
        print(f"\nmissed: {', '.join(missed)}")
    return int(broken or bool(missed and scale >= 1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--engine", choices=list(SERIES), default="sqlite", help="what our side runs on")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="a figure or series; may be repeated"
    )
    parser.add_argument("--reps", type=int, default=3, metavar="N", help="runs of each contestant (3); medians count")
    parser.add_argument("--quick", action="store_true", help="a tenth of all sizes")
    parser.add_argument("--scale", type=float, default=1.0, metavar="X", help="all sizes times this")
    parser.add_argument("--long", action="store_true", help="beat-killed for five minutes instead of one")
    parser.add_argument("--ours", action="store_true", help="leave the rivals out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and single runs there")
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--list", action="store_true", help="name the figures and their targets, and leave")
    return parser


def _plan(
    all_series: Sequence[Series], only: Sequence[str], parser: argparse.ArgumentParser
) -> list[tuple[Series, list[Figure]]]:
    names = {name for series in all_series for name in (series.name, *(figure.name for figure in series.figures))}
    if unknown := sorted(set(only) - names):
        parser.error(f"--only {unknown[0]}: no such figure; --list shows them")
    plan = []
    for series in all_series:
        figures = [f for f in series.figures if not only or series.name in only or f.name in only]
        if figures:
            plan.append((series, figures))
    return plan


def _run(bench: Bench, plan: list[tuple[Series, list[Figure]]], reps: int) -> tuple[list[Reading], Runs, bool]:
    readings: list[Reading] = []
    all_runs: Runs = {}
    broken = False
    for series, figures in plan:
        wanted = {name for figure in figures for name in (*figure.needs, *figure.compares)}
        runs: dict[str, list[Values]] = {name: [] for name in series.contestants if name in wanted}
        troubles: dict[str, str] = {}
        for turn in range(reps):
            for name in runs:
                if name in troubles:
                    continue
                begin = time.monotonic()
                try:
                    values = series.contestants[name](bench)
                except UnavailableError as exc:
                    troubles[name] = str(exc)
                    if bench.with_rivals:
                        print(f"  {series.name}: no {name}: {exc}", flush=True)
                    continue
                except (ProgramError, RecordError) as exc:
                    broken = True
                    troubles[name] = str(exc).splitlines()[0]
                    print(f"  {series.name}: {name}: {exc}", file=sys.stderr, flush=True)
                    continue
                runs[name].append(values)
                shown = ", ".join(f"{key} {value:,.2f}" for key, value in values.items())
                took = time.monotonic() - begin
                print(f"  {series.name} {turn + 1}/{reps} {name}: {shown} ({took:.1f} s in all)", flush=True)
        bench.drop_rooms()
        found = medians(runs)
        for figure in figures:
            reading = read(figure, found, troubles)
            readings.append(reading)
            print(report.line(reading), flush=True)
        all_runs[series.name] = runs
    return readings, all_runs, broken


__all__ = ["main"]
