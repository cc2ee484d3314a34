"""`python -m chaos.hostile.fuzz [--count N | --seconds S] [--seed S]`: very many broken messages.

Each goes the way of `targets`. An escape is an exception that is no refusal, more than a second for one message, or
64 MiB more memory at any moment of the run. Work is divided among processes, each with a seed of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from chaos.hostile.messages import Raw
from chaos.hostile.mutations import Mutator
from chaos.hostile.targets import Targets, make_app

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT: Final = 160_000
SLOW_S: Final = 1.0
GROWTH_KIB: Final = 64 * 1024
_MOST: Final = 40
"""Escapes that are kept of one process; all are counted."""


class Escape(msgspec.Struct, frozen=True, kw_only=True):
    """What should have been refused and did something else."""

    seed: str
    number: int
    """The how-manieth of that seed."""
    form: str
    what: str
    where: str = ""
    parts: tuple[bytes, ...] = ()


class FuzzReport(msgspec.Struct, kw_only=True):
    seed: int
    inputs: int = 0
    ran: int = 0
    refused: int = 0
    ended: int = 0
    """Not run and not buried: expired."""
    seconds: float = 0.0
    slowest_s: float = 0.0
    growth_mib: float = 0.0
    """Of the process that grew most, at its highest."""
    escaped: int = 0
    escapes: list[Escape] = []
    """Those that differ in what and where, up to a number."""

    @property
    def is_clean(self) -> bool:
        return self.inputs > 0 and not self.escaped


def run_fuzz(
    count: int = COUNT, *, seed: int = 0, seconds: float | None = None, processes: int | None = None
) -> FuzzReport:
    """Fuzz in several processes.

    Args:
        count: Inputs in all.
        seed: Of what is drawn.
        seconds: Stop after so long, whatever the count; None: never.
        processes: None: one for each core.
    """
    processes = processes or os.cpu_count() or 1
    began = time.monotonic()
    share = -(-count // processes)
    words = [sys.executable, "-m", "chaos.hostile.fuzz", "--one", "--count", str(share)]
    if seconds is not None:
        words += ["--seconds", str(seconds)]
    running = [
        subprocess.Popen([*words, "--seed", f"{seed}.{number}"], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        for number in range(processes)
    ]
    report = FuzzReport(seed=seed)
    try:
        for number, process in enumerate(running):
            said, _ = process.communicate()
            if process.returncode != 0:  # itself an escape: nothing ends the process
                report.escaped += 1
                what = f"the process ended with {process.returncode}"
                report.escapes.append(Escape(seed=f"{seed}.{number}", number=-1, form="", what=what))
                continue
            _add(report, msgspec.json.decode(said, type=FuzzReport))
    finally:
        for process in running:
            process.kill()
    report.seconds = time.monotonic() - began
    return report


def _add(report: FuzzReport, part: FuzzReport) -> None:
    for name in ("inputs", "ran", "refused", "ended", "escaped"):
        setattr(report, name, getattr(report, name) + getattr(part, name))
    report.slowest_s = max(report.slowest_s, part.slowest_s)
    report.growth_mib = max(report.growth_mib, part.growth_mib)
    known = {each.where for each in report.escapes if each.where}
    report.escapes += [each for each in part.escapes if each.where not in known]


def drawn(seed: str) -> Iterator[Raw]:
    """The messages of a seed, without end: the n-th is always the same."""
    mutator = Mutator(seed)
    while True:
        yield mutator.draw()


def fuzz_here(count: int, seed: str, *, seconds: float | None = None) -> FuzzReport:
    """Fuzz in this process."""
    targets = Targets(make_app())
    report = FuzzReport(seed=0)
    kept: set[tuple[str, str]] = set()
    began = time.monotonic()
    peak = None
    peak_kib = 0

    def escape(number: int, raw: Raw, what: str, where: str = "") -> None:
        report.escaped += 1
        kind = where or what, what.partition(":")[0]
        if kind not in kept and len(kept) < _MOST:
            kept.add(kind)
            report.escapes.append(
                Escape(seed=seed, number=number, form=raw.form, what=what, where=where, parts=raw.parts)
            )

    try:
        for number, raw in enumerate(drawn(seed)):
            if number >= count or (seconds is not None and time.monotonic() - began > seconds):
                break
            if number == count // 50 or (peak is None and number >= 1000):  # caches are full, imports are done
                peak = peak_kib = _peak_kib()
            at = time.thread_time()
            try:
                became = targets.take(raw)
            except Exception as exc:
                escape(number, raw, f"{type(exc).__name__}: {str(exc)[:120]}", _where(exc))
                continue
            finally:
                took_s = time.thread_time() - at
            setattr(report, became, getattr(report, became) + 1)
            report.inputs += 1
            if took_s > report.slowest_s:
                report.slowest_s = took_s
                if (
                    took_s > SLOW_S and (again_s := _again_s(targets, raw)) > SLOW_S
                ):  # not only this machine's other work
                    escape(number, raw, f"took {again_s:.1f} s")
            if peak is not None and (now_kib := _peak_kib()) > peak_kib:
                if now_kib - peak > GROWTH_KIB >= peak_kib - peak:
                    escape(
                        number, raw, f"grew to {(now_kib - peak) / 1024:.0f} MiB, by {(now_kib - peak_kib) / 1024:.0f}"
                    )
                peak_kib = now_kib
    finally:
        targets.close()
    report.growth_mib = (peak_kib - peak) / 1024 if peak is not None else 0.0
    report.seconds = time.monotonic() - began
    return report


def _again_s(targets: Targets, raw: Raw) -> float:
    began = time.monotonic()
    targets.take(raw)
    return time.monotonic() - began


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _where(exc: BaseException) -> str:
    """The last frame of ours."""
    frames = [one for one in traceback.extract_tb(exc.__traceback__) if "celeriac" in one.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}" if frames else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos.hostile.fuzz")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--one", action="store_true", help="in this process; the report goes to stdout as JSON")
    words = parser.parse_args()
    if words.one:
        report = fuzz_here(words.count, words.seed, seconds=words.seconds)
        sys.stdout.buffer.write(msgspec.json.encode(report))
        return 0
    report = run_fuzz(words.count, seed=int(words.seed), seconds=words.seconds)
    for each in report.escapes:
        print(f"escape {each.seed}#{each.number} {each.form}: {each.what} at {each.where}")
        for part in each.parts:
            print(f"    {part[:300]!r}")
    print(
        f"{report.inputs:,} inputs in {report.seconds:.1f} s: {report.ran:,} ran, {report.refused:,} refused, "
        f"{report.ended:,} ended; slowest {report.slowest_s:.3f} s, growth {report.growth_mib:.0f} MiB, "
        f"{report.escaped} escapes"
    )
    return 1 if report.escaped else 0


if __name__ == "__main__":
    sys.exit(main())
