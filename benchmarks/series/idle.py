"""A worker with two processes that has run a few tasks and now has nothing to do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.figure import CELERY, Figure, Series, Target, Values

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.sides import Side

_WARM_UP = 100
_CALM_S = 2.0


def _idle(bench: Bench, side: Side, *options: str) -> Values:
    with side.worker(*options) as worker:
        side.produce("noop", "one", _WARM_UP)
        bench.wait_for(worker, _WARM_UP)
        time.sleep(max(0.5, _CALM_S * min(1.0, bench.scale)))
        spent, begin = worker.processor_s(), time.monotonic()
        time.sleep(max(1.0, 20.0 * bench.scale))
        percent = (worker.processor_s() - spent) / (time.monotonic() - begin) * 100
        return {"pss_mb": worker.pss_mb(), "percent": percent, "processes": len(worker.pids())}


def _ours(bench: Bench) -> Values:
    return _idle(bench, bench.ours(), "-c", "2")


def _celery(bench: Bench) -> Values:
    return _idle(bench, bench.celery(), "-P", "prefork", "-c", "2")


IDLE = Series(
    name="idle",
    contestants={"ours": _ours, CELERY: _celery},
    figures=(
        Figure(
            name="idle-memory",
            what="worker with 2 processes, idle: memory of the whole tree (PSS)",
            unit="MB",
            better="less",
            value=lambda found: found["ours"]["pss_mb"],
            base=lambda found: found[CELERY]["pss_mb"],
            beside=lambda found: f"{found['ours']['processes']:.0f} processes in all",
            needs=("ours",),
            targets=(Target("value", "at most", 45),),
        ),
        Figure(
            name="idle-processor",
            what="the same worker: share of one core over 20 s",
            unit="%",
            better="less",
            value=lambda found: found["ours"]["percent"],
            base=lambda found: found[CELERY]["percent"],
            needs=("ours",),
            targets=(Target("value", "below", 0.5),),
        ),
    ),
)
