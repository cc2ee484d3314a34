"""The command line of the campaign: how much, of what, and where the report goes."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from chaos import machine, report
from chaos.campaign import PARTS, Campaign
from chaos.profile import ENGINES, FAULTS, NOT_BUILT, PROFILES
from chaos.result import Result, state, verdict
from chaos.scenarios import scenarios

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from chaos.profile import Profile


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign and report.

    Returns:
        0 when every bar was held and every planted bug was found.
    """
    parser = _parser()
    asked = parser.parse_args(arguments)
    only = frozenset(word for words in asked.only for word in words.split(","))
    if unknown := sorted(only - set(FAULTS) - set(PARTS)):
        parser.error(f"--only {unknown[0]}: there are {', '.join([*PARTS, *FAULTS])}")
    engines = frozenset(asked.engine)
    profile = PROFILES[asked.profile]
    if absent := sorted(engines - {variant.label for variant in profile.variants}):
        parser.error(f"--engine {absent[0]}: the profile '{profile.name}' does not have it")
    seed = random.SystemRandom().randrange(1, 1_000_000) if asked.seed is None else asked.seed
    if asked.celery:
        from chaos.celery.command import compare

        keep = asked.keep is not None
        return compare(seed, _folder(asked.keep), keep=keep, only=only, write_docs=asked.write_docs, json=asked.json)
    whole = not only and not engines and profile.least_tasks > 0
    if asked.write_docs and not whole:
        parser.error("--write-docs wants a whole run: leave out --only and --engine, and take no short profile")
    return _run(profile, seed, only, engines, asked)


def _run(profile: Profile, seed: int, only: frozenset[str], engines: frozenset[str], asked: argparse.Namespace) -> int:
    folder = _folder(asked.keep)
    print(f"profile {profile.name}, seed {seed}; histories in {folder}", flush=True)
    facts = machine.facts(folder)
    for name, value in facts.items():
        print(f"{name:<10} {value}", flush=True)
    printing = threading.Lock()

    def tell(line: str) -> None:
        with printing:
            print(line, flush=True)

    campaign = Campaign(
        profile, seed, folder, only=only, engines=engines, keep=asked.keep is not None, lanes=asked.lanes, tell=tell
    )

    def stop(number: int, frame: FrameType | None) -> None:
        tell("ending what runs; the report follows")
        threading.Thread(target=campaign.stop).start()  # it takes locks that the interrupted code may hold

    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        campaign.run()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    result = Result(
        profile=profile.name,
        seed=seed,
        date=datetime.now(UTC).date().isoformat(),
        whole=campaign.is_whole,
        seconds=campaign.seconds,
        facts=facts,
        simulator=campaign.simulator,
        hostile=campaign.hostile,
        controls=campaign.controls,
        controls_missing=campaign.controls_missing,
        outcomes=tuple(campaign.outcomes),
        absent=campaign.absent,
        interrupted=campaign.was_stopped,
    )
    written = {
        variant.label: {each.key for each in scenarios() if variant.engine in each.repetitions}
        for variant in profile.variants
    }
    print(report.terminal(result, profile, written, _again(profile, seed, only, engines)))
    if asked.json:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    if asked.write_docs:
        report.write_into(report.PAGE, report.RUN, report.page(result, profile, written))
    clean = all(state(one) in ("clean", "missing") for one in result.outcomes)
    if asked.keep is None and clean and all(one.caught for one in result.controls):
        shutil.rmtree(folder, ignore_errors=True)
    return int(verdict(result, profile) != "held")


def _again(profile: Profile, seed: int, only: frozenset[str], engines: frozenset[str]) -> str:
    words = ["python -m chaos", f"--profile {profile.name}", f"--seed {seed}"]
    words += [f"--only {','.join(sorted(only))}"] if only else []
    words += [f"--engine {name}" for name in sorted(engines)]
    return " ".join(words)


def _folder(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="celeriac-chaos-"))
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise SystemExit(f"--keep {keep}: it must be empty")
    return keep.resolve()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chaos",
        description="The fault campaign. Exit code 0: every bar was held, and every planted bug was found.",
    )
    parser.add_argument(
        "--profile", choices=list(PROFILES), default="standard", help="how much (standard: ten minutes)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="repeats a run; drawn, and printed, unless given")
    parser.add_argument(
        "--engine", action="append", default=[], choices=[name for name in ENGINES if name not in NOT_BUILT],
        help="only this one; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--only", action="append", default=[], metavar="F1,F5",
        help=f"only these scenarios, and of {', '.join(PARTS)}",
    )  # fmt: skip
    parser.add_argument("--lanes", type=int, default=0, metavar="N", help="scenarios at the same time")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep every history there, not only what was found")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there")
    parser.add_argument("--write-docs", action="store_true", help="put a whole run into docs/reliability.md")
    parser.add_argument(
        "--celery", action="store_true", help="the same faults with Celery's workers and producers, beside ours"
    )
    return parser
