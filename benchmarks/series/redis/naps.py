"""Async tasks that sleep for a second, all at once in one worker process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Series, Target, Values
from benchmarks.series.redis.contest import OURS

if TYPE_CHECKING:
    from benchmarks.bench import Bench

_NAP_S = 1.0


def _napped(bench: Bench) -> Values:
    count = bench.size(10_000)
    side = bench.ours(environment={"BENCH_NAP_S": str(_NAP_S)})
    side.fill("nap", count)
    with side.worker("-c", "1", "--async-slots", "10000") as worker:
        bench.wait_for(worker, count)
    ends = bench.record.complete(count)
    return {"seconds": ends[-1].at - ends[0].at + _NAP_S}


NAPS = Series(
    name="naps",
    contestants={OURS: _napped},
    figures=(
        Figure(
            name="sleepers",
            what="10,000 async tasks sleeping 1 s, one worker process, from the first start to the last end",
            unit="s",
            better="less",
            value=lambda found: found[OURS]["seconds"],
            needs=(OURS,),
            compares=(),
            targets=(Target("value", "at most", 2),),
        ),
    ),
)
