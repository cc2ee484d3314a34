"""Contestants by name, and the figure that sets ours beside another's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Medians, Target
from benchmarks.rivals import RIVALS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from benchmarks.bench import Bench
    from benchmarks.sides import Side

OURS = "ours"
BARE = "bare"


def side_of(bench: Bench, name: str, *, results: bool = False) -> Side:
    """A contestant's side, with an empty store."""
    if name == OURS:
        return bench.ours(results=results)
    return bench.bare() if name == BARE else bench.rival(name, results=results)


def against(
    other: str,
    *,
    name: str,
    what: str,
    unit: str,
    better: Literal["more", "less"],
    key: str,
    at_least: float | None = None,
    at_most: float | None = None,
    base_name: str = "",
    beside: Callable[[Medians], str] = lambda _: "",
) -> Figure:
    """Ours beside another's.

    Args:
        other: The contestant to compare with.
        name: Of the figure.
        what: In words.
        unit: Of the value.
        better: Which way.
        key: The value's name in the runs of both.
        at_least: Target for the ratio.
        at_most: Target for the value.
        base_name: What the other one is called; a rival's own name by default.
        beside: More that is worth printing.
    """
    targets = []
    if at_most is not None:
        targets.append(Target("value", "at most", at_most))
    if at_least is not None:
        targets.append(Target("ratio", "at least", at_least))
    return Figure(
        name=name,
        what=what,
        unit=unit,
        better=better,
        value=lambda found: found[OURS][key],
        base=lambda found: found[other][key],
        base_name=base_name or RIVALS[other].title,
        beside=beside,
        needs=(OURS,),
        compares=(other,),
        targets=tuple(targets),
    )
