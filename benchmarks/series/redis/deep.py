"""The same number of tasks drained from a queue of 10,000 and from one of a million.

A drain of 10,000 takes a fraction of a second, in which two processes start one after the other; so the rate is that of
the middle 80 %, and each repetition takes the median of several drains. The million is filled once in a repetition:
what the drains take from it is little.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from benchmarks.record import middle, rate
from benchmarks.series.deep import DRAINS, deep_series

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.figure import Values


def _first_of(bench: Bench, depth: int) -> Values:
    count = bench.size(10_000)
    depth = max(count, bench.size(depth))
    rates = []
    left = 0
    side = bench.ours()
    for _ in range(DRAINS):
        if left < count:
            side.empty()
            side.fill("noop", depth)
            left = depth
        bench.record.clear()
        with side.worker() as worker:
            bench.wait_for(worker, count)
        left -= len(bench.record)
        rates.append(rate(middle(bench.record.first(count))))
    return {"rate": median(rates)}


DEEP = deep_series(_first_of)
