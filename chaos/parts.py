"""What a process of a campaign does: one of the parts without scenarios, or the scenarios of one engine.

Each runs in a process of its own, so that one that hangs or dies takes nothing else with it, and says what came of it
through a pipe, as soon as it knows.
"""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from chaos.profile import Variant
from chaos.result import Control, Part
from chaos.verdict import Outcome, Terms

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from chaos.scenario import Scenario

PROCESSES = 2
"""Of the simulator, of hostile input, of the controls: two cores."""


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario has begun."""

    key: str
    due_s: float
    """It has to end within so many seconds."""


class Absent(msgspec.Struct, frozen=True, kw_only=True):
    """The engine cannot be started here."""

    why: str


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is told."""

    seed: int
    folder: str
    keep: bool = False
    seconds: float = 0.0
    """Of a part: how long at least."""
    least: int = 0
    """Of a part: how many at least."""
    variant: Variant | None = None
    keys: tuple[str, ...] = ()
    """Of an engine: its scenarios, in this order."""
    share: float = 1.0
    until: float = 0.0
    """On the monotonic clock. Of an engine: what has not half of its time left is not begun. A part ends then."""


Word: TypeAlias = Begun | Absent | Outcome | Part | tuple[Control, ...]


def estimate(scenario: Scenario, engine: str, share: float) -> float:
    """How long a scenario takes: what it says, which is for the standard profile, and what does not shrink of it."""
    return max(12.0, scenario.seconds[engine] * share) if share < 1 else scenario.seconds[engine] * share


def blank(scenario: Scenario, variant: Variant, seed: int, **fields: Any) -> Outcome:
    """The outcome of a scenario that has no verdict."""
    terms = Terms(scenario=scenario.key, title=scenario.title, engine=variant.label, seed=seed)
    return Outcome(terms=terms, **fields)


def run_process(name: str, order: Order, pipe: Connection) -> None:
    """The main function of a process.

    Args:
        name: `simulator`, `hostile`, `controls`, or of an engine.
        order: What to do.
        pipe: Gets each Word.
    """
    if name == "simulator":
        pipe.send(_simulate(order))
    elif name == "hostile":
        pipe.send(_feed_garbage(order))
    elif name == "controls":
        pipe.send(_control(order))
    else:
        _run_engine(order, pipe)


def _run_engine(order: Order, pipe: Connection) -> None:
    from chaos.engines import MissingError, engines
    from chaos.scenarios import scenarios
    from chaos.trial import run_trial

    assert order.variant is not None
    variant = order.variant
    try:
        engine = engines()[variant.engine](**variant.options)
    except MissingError as exc:
        pipe.send(Absent(why=str(exc)))
        return
    try:
        by_key = {each.key: each for each in scenarios()}
        for key in order.keys:
            scenario = by_key[key]
            takes_s = estimate(scenario, variant.engine, order.share)
            left_s = order.until - time.monotonic()
            if takes_s / 2 > left_s:
                why = f"did not fit: takes about {takes_s:.0f} s, and {max(0.0, left_s):.0f} s were left"
                pipe.send(blank(scenario, variant, order.seed, missing=why))
                continue
            pipe.send(Begun(key=key, due_s=2 * takes_s + 120))
            folder = Path(order.folder) / f"{variant.label}-{key}"
            try:
                outcome = run_trial(engine, scenario, folder, seed=order.seed, share=order.share, keep=order.keep)
            except Exception:
                outcome = blank(scenario, variant, order.seed, error=traceback.format_exc(), folder=str(folder))
            if variant.label != outcome.terms.engine:
                terms = msgspec.structs.replace(outcome.terms, engine=variant.label)
                outcome = msgspec.structs.replace(outcome, terms=terms)
            pipe.send(outcome)
    finally:
        engine.close()


def _simulate(order: Order) -> Part:
    try:
        from chaos.simulator import run_seeds
    except ImportError as exc:
        return Part(missing=f"not there: {exc}")
    began = time.monotonic()
    report = run_seeds(order.seed, order.least, PROCESSES, seconds=order.until - time.monotonic())
    left_s = began + order.seconds - time.monotonic()
    if left_s > 1.0:
        report += run_seeds(order.seed + order.least, 1_000_000, PROCESSES, seconds=left_s)
    names = ("seeds", "tasks", "faults", "crashes")
    figures = {name: float(getattr(report, name)) for name in names}
    figures["kinds of faults at calls"] = len(report.hits)
    failures = tuple(
        f"seed {one.seed}: {each.invariant}: {each.says}" for one in report.findings for each in one.violations
    )
    return Part(seconds=time.monotonic() - began, figures=figures, failures=failures[:50], failed=report.bad)


def _feed_garbage(order: Order) -> Part:
    try:
        from chaos.hostile.fuzz import run_fuzz
    except ImportError as exc:
        return Part(missing=f"not there: {exc}")
    began = time.monotonic()
    report = run_fuzz(order.least, seed=order.seed, processes=PROCESSES, seconds=order.until - time.monotonic())
    names = {
        "inputs": "inputs",
        "ran": "ran",
        "refused": "refused",
        "slowest_s": "s the slowest",
        "growth_mib": "MiB growth",
    }
    figures = {told: float(getattr(report, name)) for name, told in names.items()}
    failures = tuple(f"{one.seed}#{one.number} {one.form}: {one.what} at {one.where}" for one in report.escapes[:50])
    return Part(seconds=time.monotonic() - began, figures=figures, failures=failures, failed=report.escaped)


def _control(order: Order) -> tuple[Control, ...] | Part:
    try:
        from chaos.controls import run_controls
    except ImportError as exc:
        return Part(missing=f"not there: {exc}")
    return tuple(
        Control(name=one.name, caught=one.caught, by=one.by, seconds=one.seconds, says=one.says)
        for one in run_controls(Path(order.folder) / "controls", order.seed)
    )
