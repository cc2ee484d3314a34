"""The same number of tasks drained from a store with 10,000 ready ones and from one with a million.

10,000 tasks take a fraction of a second, in which two processes start one after the other; so the rate is that of the
middle 80 %, and each repetition takes the median of several drains.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Series, Target, Values
from benchmarks.record import middle, rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench

DRAINS = 3


def _first_of(bench: Bench, depth: int) -> Values:
    count = bench.size(10_000)
    depth = max(count, bench.size(depth))
    side = bench.sqlite()
    saved = bench.room(f"ready-{depth}")
    if not saved.exists():
        side.produce("noop", "many", depth)
        side.save(saved)
    rates = []
    for _ in range(DRAINS):
        side.load(saved)
        with side.worker("-c", "2") as worker:
            bench.wait_for(worker, count)
        rates.append(rate(middle(bench.record.first(count))))
    return {"rate": median(rates)}


def deep_series(first_of: Callable[[Bench, int], Values]) -> Series:
    """The series, by what drains the first 10,000 of so many tasks and says the rate."""
    return Series(
        name="deep",
        contestants={
            "shallow": lambda bench: first_of(bench, 10_000),
            "million": lambda bench: first_of(bench, 1_000_000),
        },
        figures=(
            Figure(
                name="deep-rate",
                what="1,000,000 ready tasks: drain rate of the first 10,000",
                unit="/s",
                better="more",
                value=lambda found: found["million"]["rate"],
                base=lambda found: found["shallow"]["rate"],
                base_name="10,000 ready",
                needs=("million",),
                compares=("shallow",),
                targets=(Target("ratio", "at least", 0.9),),
            ),
        ),
    )


DEEP = deep_series(_first_of)
