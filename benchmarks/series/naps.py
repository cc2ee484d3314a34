"""Async tasks that sleep for 100 ms, in one worker process with 1,000 slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figure import CELERY, Figure, Series, Target, Values

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.sides import Side

_NAP_S = 0.1


def _napped(bench: Bench, side: Side, *options: str) -> Values:
    count = bench.size(2_000)
    side.produce("nap", "one", count)
    with side.worker(*options) as worker:
        bench.wait_for(worker, count)
    ends = bench.record.complete(count)
    return {"seconds": ends[-1].at - ends[0].at + _NAP_S}


def _ours(bench: Bench) -> Values:
    return _napped(bench, bench.ours(), "-c", "1", "--async-slots", "1000")


def _celery(bench: Bench) -> Values:
    # its threads: two processes would take 100 s for this
    return _napped(bench, bench.celery(), "-P", "threads", "-c", "1000")


NAPS = Series(
    name="naps",
    contestants={"ours": _ours, CELERY: _celery},
    figures=(
        Figure(
            name="async",
            what="2,000 async tasks sleeping 100 ms, one process with 1,000 slots (Celery: 1,000 threads)",
            unit="s",
            better="less",
            value=lambda found: found["ours"]["seconds"],
            base=lambda found: found[CELERY]["seconds"],
            needs=("ours",),
            targets=(Target("value", "at most", 0.5),),
        ),
    ),
)
