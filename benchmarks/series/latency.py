"""From the call that sends a task to its first statement, when nothing else is to be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figure import CELERY, Figure, Series, Target, Values
from benchmarks.record import RecordError

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.sides import Side

_WARM_UP = 20


def quantile(ordered: list[float], share: float) -> float:
    """The smallest of `ordered` that at least `share` of them do not exceed."""
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)]


def waits(bench: Bench, side: Side, *options: str) -> Values:
    """Send tasks one at a time to a worker that has nothing else to do."""
    count = bench.size(300)
    with side.worker(*options) as worker:
        side.produce("noop", "one", _WARM_UP)
        bench.wait_for(worker, _WARM_UP)
        calls = side.produce("noop", "latency", count)["calls"]
    ran = {entry.number - _WARM_UP: entry.at for entry in bench.record.complete(_WARM_UP + count)}
    took = sorted(ran[number] - before for number, (before, _) in enumerate(calls))
    if took[0] < 0:
        raise RecordError(f"a task ran {-took[0] * 1000:.3f} ms before it was sent: the clocks of the processes differ")
    sending = sorted(after - before for before, after in calls)
    return {
        "p50": quantile(took, 0.50) * 1000,
        "p99": quantile(took, 0.99) * 1000,
        "call_p50": quantile(sending, 0.50) * 1000,
    }


def _ours(bench: Bench) -> Values:
    return waits(bench, bench.ours(), "-c", "2")


def _celery(bench: Bench) -> Values:
    return waits(bench, bench.celery(), "-P", "prefork", "-c", "2")


def _figure(name: str, quantile_name: str, limit_ms: float) -> Figure:
    return Figure(
        name=name,
        what=f"idle latency, enqueue to start, {quantile_name}",
        unit="ms",
        better="less",
        value=lambda found: found["ours"][quantile_name],
        base=lambda found: found[CELERY][quantile_name],
        beside=lambda found: f"of which the call itself {found['ours']['call_p50']:.2f} ms (p50)",
        needs=("ours",),
        targets=(Target("value", "at most", limit_ms), Target("ratio", "at least", 3)),
    )


LATENCY = Series(
    name="latency",
    contestants={"ours": _ours, CELERY: _celery},
    figures=(_figure("latency-p50", "p50", 1.0), _figure("latency-p99", "p99", 4.0)),
)
