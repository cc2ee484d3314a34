"""One run: its parts one after another, then the engines in lanes. A run that is broken off has a result, too."""

from __future__ import annotations

import re
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import TYPE_CHECKING, Any

from chaos.crew import BrokenOffError, Crew
from chaos.parts import Absent, Begun, Order, blank, estimate, run_process
from chaos.profile import ENGINES
from chaos.result import Control, Part, shown_figures, state
from chaos.scenarios import scenarios
from chaos.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from chaos.profile import Profile, Variant

_LINE = 300
_RAISED = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Expired): ")
SEEDS_PER_S, INPUTS_PER_S = 2_000 / 60, 150_000 / 45
"""What two cores have to do at least; a part that is slower than that is broken off, and says how far it came."""
PARTS = ("simulator", "hostile", "controls")


class Campaign:
    """Runs once. `stop` may be called from a signal handler or another thread; `run` then returns what there is.

    Args:
        profile: How much.
        seed: Of everything.
        folder: For histories.
        only: Scenarios and parts; empty: all of the profile.
        engines: Labels; empty: all of the profile.
        keep: Keep histories in which nothing was found, too.
        lanes: How many engines at the same time; 0: as the profile says.
        tell: Gets a line for all that happens.
    """

    def __init__(
        self,
        profile: Profile,
        seed: int,
        folder: Path,
        *,
        only: frozenset[str] = frozenset(),
        engines: frozenset[str] = frozenset(),
        keep: bool = False,
        lanes: int = 0,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.profile = profile
        self.seed = seed
        self._folder = folder
        self._only = only
        self._engines = engines
        self._keep = keep
        self._lanes = lanes or profile.lanes
        self._tell = tell
        self._by_key = {each.key: each for each in scenarios()}
        self._began = time.monotonic()
        self._crew = Crew()
        self.is_whole = not only and not engines
        self.simulator = self.hostile = Part(missing="not asked for")
        self.controls: tuple[Control, ...] = ()
        self.controls_missing = "" if self._wants("controls") else "not asked for"
        self.outcomes: list[Outcome] = []
        self.absent: dict[str, str] = {}

    @property
    def was_stopped(self) -> bool:
        return self._crew.is_stopped

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def stop(self) -> None:
        """End what runs."""
        self._crew.stop()

    def run(self) -> None:
        """Do all of it; what came of it is in the attributes."""
        profile = self.profile
        self._began = time.monotonic()
        if self._wants("simulator"):
            self.simulator = self._part("simulator", profile.simulator_s, profile.seeds, profile.seeds / SEEDS_PER_S)
        if self._wants("hostile"):
            self.hostile = self._part("hostile", profile.hostile_s, profile.inputs, profile.inputs / INPUTS_PER_S)
        if self._wants("controls"):
            self._run_controls()
        self._run_engines()

    # -- what to run ---------------------------------------------------------------------------------------------

    def _wants(self, name: str) -> bool:
        if self._only:
            return name in self._only
        return name not in PARTS or not self._engines

    def plan(self) -> list[tuple[Variant, list[str]]]:
        """By engine: its scenarios, in order."""
        found = []
        for variant in self.profile.variants:
            if self._engines and variant.label not in self._engines:
                continue
            chosen = self._only or frozenset(self.profile.scenarios)
            keys = [
                each.key
                for each in self._by_key.values()
                if variant.engine in each.repetitions and (not chosen or each.key in chosen)
            ]
            if keys:
                found.append((variant, keys))
        return found

    # -- parts ---------------------------------------------------------------------------------------------------

    def _order(self, **fields: Any) -> Order:
        return Order(seed=self.seed, folder=str(self._folder), keep=self._keep, **fields)

    def _part(self, name: str, seconds: float, least: int, takes_s: float) -> Part:
        if self.was_stopped:
            return Part(missing="interrupted before")
        self._say(f"{name} …")
        most_s = max(seconds, takes_s) * self.profile.patience * 1.25
        order = self._order(seconds=seconds, least=least, until=time.monotonic() + most_s)
        part = Part(missing="interrupted")
        try:
            for word in self._crew.words(name, run_process, order, most_s + 60):
                if isinstance(word, Part):
                    part = word
        except BrokenOffError as exc:
            part = Part(failed=1, failures=(f"{name} broke off: {exc}",))
        shown = shown_figures(part.figures)
        self._say(f"{name}: {part.missing or shown}, {part.failed} failures, {part.seconds:.0f} s")
        for failure in part.failures[:5]:
            self._say(f"  {failure[:_LINE]}")
        return part

    def _run_controls(self) -> None:
        self._say("controls …")
        self.controls_missing = "interrupted"
        try:
            for word in self._crew.words("controls", run_process, self._order(), 400):
                if isinstance(word, tuple):
                    self.controls, self.controls_missing = word, ""
                elif isinstance(word, Part):
                    self.controls_missing = word.missing
        except BrokenOffError as exc:
            self.controls_missing = f"broke off: {exc}"
        for one in self.controls:
            self._say(f"  {'caught' if one.caught else 'MISSED':<6} {one.name} {one.by} {one.seconds:.1f} s {one.says}")
        caught = sum(one.caught for one in self.controls)
        self._say(f"controls: {self.controls_missing or f'{caught} of {len(self.controls)} caught'}")

    # -- engines -------------------------------------------------------------------------------------------------

    def _run_engines(self) -> None:
        waiting = deque(split(self.plan(), self._takes, self._lanes))
        until = self._began + self.profile.seconds * (self.profile.patience if self.is_whole else 10)

        def lane() -> None:
            while True:
                try:
                    variant, keys = waiting.popleft()
                except IndexError:
                    return
                self._run_engine(variant, keys, until)

        with ThreadPoolExecutor(self._lanes, thread_name_prefix="lane") as pool:
            for future in [pool.submit(lane) for _ in range(self._lanes)]:
                future.result()

    def _takes(self, variant: Variant, key: str) -> float:
        return estimate(self._by_key[key], variant.engine, self.profile.share)

    def _run_engine(self, variant: Variant, keys: list[str], until: float) -> None:
        left = list(keys)
        while left and not self.was_stopped:
            order = self._order(variant=variant, keys=tuple(left), share=self.profile.share, until=until)
            began = ""
            try:
                for word in self._crew.words(variant.label, run_process, order, 300):
                    if isinstance(word, Absent):
                        self.absent[variant.label] = word.why
                        self._say(f"{variant.label}: missing: {word.why}")
                        return
                    if isinstance(word, Begun):
                        began = word.key
                    elif isinstance(word, Outcome):
                        left.remove(word.terms.scenario)
                        self._note(word)
            except BrokenOffError as exc:
                if not began or began not in left:  # its server did not start, or did not end
                    self.absent[variant.label] = f"broke off: {exc}"
                    self._say(f"{variant.label}: {exc}")
                    break
                left.remove(began)
                folder = str(self._folder / f"{variant.label}-{began}")
                self._note(blank(self._by_key[began], variant, self.seed, error=str(exc), folder=folder))
        for key in left:
            why = "interrupted" if self.was_stopped else self.absent.get(variant.label, "not reached")
            self.outcomes.append(blank(self._by_key[key], variant, self.seed, missing=why))

    def _note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)  # from any lane
        for text in described(outcome):
            self._say(text)

    def _say(self, text: str) -> None:
        self._tell(f"[{self.seconds:4.0f} s] {text}")


def split(
    plan: Sequence[tuple[Variant, list[str]]], takes: Callable[[Variant, str], float], lanes: int
) -> list[tuple[Variant, list[str]]]:
    """Portions of a plan for lanes, the longest first. An engine that takes longer than a lane has is taken apart;
    each portion has a server of its own.
    """
    total = sum(takes(variant, key) for variant, keys in plan for key in keys)
    found: list[tuple[float, Variant, list[str]]] = []
    for variant, keys in plan:
        alone = sum(takes(variant, key) for key in keys)
        number = min(len(keys), max(1, ceil(alone * lanes / total - 0.25)))
        portions: list[tuple[float, set[str]]] = [(0.0, set()) for _ in range(number)]
        for key in sorted(keys, key=lambda each: -takes(variant, each)):
            seconds, portion = min(portions, key=lambda each: each[0])
            portions.remove((seconds, portion))
            portions.append((seconds + takes(variant, key), portion | {key}))
        found += [(seconds, variant, [key for key in keys if key in portion]) for seconds, portion in portions]
    return [(variant, keys) for _, variant, keys in sorted(found, key=lambda each: -each[0])]


def reason(error: str) -> str:
    """The line of a traceback that says what was raised: its message may go on with logs of many processes."""
    lines = error.strip().splitlines()
    raised = [line for line in lines if _RAISED.match(line)]
    return raised[-1] if raised else lines[-1]


def described(outcome: Outcome) -> list[str]:
    """An outcome for the terminal: a line, and what was found."""
    terms, verdict = outcome.terms, outcome.verdict
    line = f"{ENGINES.get(terms.engine, terms.engine):<25} {terms.scenario:<4}"
    if outcome.missing:
        return [f"{line} missing: {outcome.missing}"]
    lines = []
    if verdict is not None:
        slowest = "-" if verdict.slowest_recovery_s is None else f"{verdict.slowest_recovery_s:.2f} s"
        line += (
            f" {verdict.tasks:>7,} tasks {verdict.faults:>4} faults  lost {verdict.lost}  "
            f"doubled {verdict.explained} + {verdict.unexplained}  slowest {slowest:>7}"
        )
        lines = [f"  {one.invariant} {one.id}: {one.says}"[:_LINE] for one in verdict.violations[:5]]
    if outcome.error:
        lines.append(f"  broke off: {reason(outcome.error)}"[:_LINE])
    if lines and outcome.folder:
        lines.append(f"  its history: {outcome.folder} (python -m chaos.checker reads it)")
    if lines:
        again = f"python -m chaos --only {terms.scenario} --engine {terms.engine} --seed {terms.seed}"
        lines.append(f"  again: {again}")
    return [f"{line}  {outcome.seconds:4.0f} s  {state(outcome)}", *lines]


__all__ = ["Campaign", "described", "split"]
