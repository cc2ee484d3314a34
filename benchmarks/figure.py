"""Figures, their targets, and the series of runs that they are taken from."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.bench import Bench

Values = dict[str, float]
"""What one run of a contestant gave, by name."""

Verdict = Literal["pass", "FAIL", "printed", "not judged"]

CELERY = "celery"
"""The contestant that is missing where Celery or Redis is."""


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a figure's value, or on its ratio to the base."""

    of: Literal["value", "ratio"]
    bound: Literal["at least", "at most", "below"]
    limit: float

    def is_met(self, number: float) -> bool:
        """By `number`."""
        if self.bound == "at least":
            return number >= self.limit
        return number <= self.limit if self.bound == "at most" else number < self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table."""

    name: str
    """For `--only`."""
    what: str
    unit: str
    better: Literal["more", "less"]
    value: Callable[[Medians], float]
    base: Callable[[Medians], float] | None = None
    base_name: str = "Celery"
    beside: Callable[[Medians], str] = lambda _: ""
    """More that is worth printing next to it."""
    needs: tuple[str, ...]
    """Contestants without which there is no value."""
    compares: tuple[str, ...] = (CELERY,)
    """Contestants without which there is no base."""
    targets: tuple[Target, ...] = ()


Medians = dict[str, Values]
"""For each contestant the median of its runs, value by value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Runs that belong together: each repetition runs every contestant once, in order, so that drift hits all alike."""

    name: str
    contestants: Mapping[str, Callable[[Bench], Values]]
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A figure as it came out."""

    figure: Figure
    value: float | None = None
    base: float | None = None
    beside: str = ""
    trouble: str = ""
    """Why a contestant has no run, or fewer than it should."""

    @property
    def ratio(self) -> float | None:
        """How many times better than the base: above 1 is better, whichever way the unit runs."""
        if self.value is None or self.base is None:
            return None
        upper, lower = (self.value, self.base) if self.figure.better == "more" else (self.base, self.value)
        return upper / lower if lower else float("inf")

    @property
    def verdict(self) -> Verdict:
        """`FAIL` when any target is missed, `not judged` when one cannot be told, `printed` when there is none."""
        numbers = {"value": self.value, "ratio": self.ratio}
        met = [None if (n := numbers[target.of]) is None else target.is_met(n) for target in self.figure.targets]
        if self.value is None:
            return "not judged"
        if not met:
            return "printed"
        if False in met:
            return "FAIL"
        return "not judged" if None in met else "pass"


def medians(runs: Mapping[str, Sequence[Values]]) -> Medians:
    """Of each contestant's runs; a contestant without a run is left out."""
    return {name: {key: median(run[key] for run in each) for key in each[0]} for name, each in runs.items() if each}


def read(figure: Figure, found: Medians, troubles: Mapping[str, str]) -> Reading:
    """Take a figure from the medians; `troubles` says of contestants why they stopped."""
    concerned = (*figure.needs, *figure.compares) if figure.base is not None else figure.needs
    trouble = "; ".join(f"{name}: {troubles[name]}" for name in concerned if name in troubles)
    base = None
    if figure.base is not None and all(name in found for name in figure.compares):
        base = figure.base(found)
    if not all(name in found for name in figure.needs):
        return Reading(figure=figure, base=base, trouble=trouble)
    return Reading(figure=figure, value=figure.value(found), base=base, beside=figure.beside(found), trouble=trouble)
