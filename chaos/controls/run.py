"""Runs the plots, each with its bug and without, and says which bugs the checker has caught."""

from __future__ import annotations

import shutil
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from chaos.checker import check
from chaos.controls.plots import PLOTS, Plot
from chaos.controls.strike import BUG
from chaos.engines import engines
from chaos.fleet import Fleet
from chaos.scenario import Scenario
from chaos.stage import Stage
from chaos.verdict import Verdict, Violation

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from chaos.fleet import Member

TRIES = 4
"""A bug that does not show at once, on a machine that is too busy for the plot, is tried again so often."""
AT_ONCE = 2
DRAIN_S = 20.0
BROKEN_DRAIN_S = 3.0
"""What is lost does not come, however long one waits."""


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one planted bug."""

    name: str
    caught: bool
    """The invariant whose affair it is objected; and to the same plot without the bug, none did."""
    by: str = ""
    """That invariant."""
    seconds: float = 0.0
    violation: Violation | None = None
    """What it said; or, not caught, what somebody said of the plot without the bug."""
    says: str = ""
    """Why it is not caught."""


class _Fleet(Fleet):
    """Its workers and beats have a bug."""

    bug = ""

    def _start(self, name: str, words: list[str], environment: dict[str, str]) -> Member:
        words = ["chaos.controls.program" if word == "celeriac" else word for word in words]
        return super()._start(name, words, {**environment, BUG: self.bug})


def run_controls(folder: Path, seed: int, only: Collection[str] = ()) -> list[Control]:
    """Plant the bugs, two at a time.

    Args:
        folder: To be made; what is left in it are the histories of bugs that were not caught.
        seed: Of what is drawn.
        only: Names of bugs; all unless given.

    Returns:
        What came of each, in the order of `PLOTS`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [plot for plot in PLOTS if not only or plot.bug in only]
    with ThreadPoolExecutor(AT_ONCE) as lanes:
        return list(lanes.map(lambda plot: _run(plot, folder / plot.bug, seed), chosen))


def _run(plot: Plot, folder: Path, seed: int) -> Control:
    began = time.monotonic()
    control = Control(name=plot.bug, caught=False)
    for number in range(TRIES):
        control = try_once(plot, folder / str(number + 1), seed + number)
        if control.caught:
            shutil.rmtree(folder)
            break
    return msgspec.structs.replace(control, seconds=round(time.monotonic() - began, 2))


def try_once(plot: Plot, folder: Path, seed: int) -> Control:
    """Play it with its bug, and then without."""
    try:
        broken, _ = _play(plot, folder / "broken", seed, plot.bug)
        found = next((one for one in broken.violations if one.invariant in plot.objects), None)
        if found is None:
            others = ", ".join(broken.counts) or "nobody"
            wanted = " or ".join(plot.objects)
            return Control(name=plot.bug, caught=False, says=f"{wanted} should object to {folder}, and {others} does")
        sound, error = _play(plot, folder / "sound", seed, "")
    except Exception:
        return Control(name=plot.bug, caught=False, says=f"{folder}: {traceback.format_exc()}")
    if not sound.is_clean or error:
        return Control(
            name=plot.bug,
            caught=False,
            violation=next(iter(sound.violations), None),
            says=f"without the bug, too, it is not clean: {', '.join(sound.counts)} {error}",
        )
    return Control(name=plot.bug, caught=True, by=found.invariant, violation=found)


def _play(plot: Plot, folder: Path, seed: int, bug: str) -> tuple[Verdict, str]:
    """One run of a plot; with a bug it may break off at any point, and what there is is checked."""
    folder.mkdir(parents=True)
    engine = engines()[plot.engine]()
    scenario = Scenario(
        key="N",
        title=f"planted bug: {plot.bug}",
        run=plot.run,
        repetitions={plot.engine: 1},
        seconds={plot.engine: 5.0},
        settings=plot.settings,
        terms={"bug": bug},
    )
    error: list[str] = []
    try:
        with Stage(engine, scenario, folder, seed=seed) as stage:
            _infect(stage, bug)
            for step in (lambda: plot.run(stage), lambda: stage.finish(BROKEN_DRAIN_S if bug else DRAIN_S)):
                try:
                    step()
                except Exception:
                    error.append(traceback.format_exc())
        return check(folder), "\n".join(error)
    finally:
        engine.close()


def _infect(stage: Stage, bug: str) -> None:
    healthy: Any = stage.fleet
    fleet = _Fleet(healthy.folder, healthy.url, healthy.settings, seed=0, wire=healthy.wire)
    fleet.bug = bug
    stage.fleet = fleet
