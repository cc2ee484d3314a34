"""One task at a time: from the call to the first statement on an idle worker, and from the call to the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figure import CELERY, Figure, Medians, Series, Values
from benchmarks.rivals import RIVALS
from benchmarks.series.latency import quantile, waits
from benchmarks.series.redis.contest import BARE, OURS, against, side_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench


def _idle(name: str) -> Callable[[Bench], Values]:
    def run(bench: Bench) -> Values:
        return waits(bench, side_of(bench, name, results=name == OURS), *(("block",) if name == BARE else ()))

    return run


def _more(found: Medians, other: str) -> str:
    text = f"p99 {found[OURS]['p99']:.2f} ms; of which the call itself {found[OURS]['call_p50']:.2f} ms (p50)"
    return text + (
        f"; theirs p99 {found[other]['p99']:.2f}, call {found[other]['call_p50']:.2f} ms" if other in found else ""
    )


def _latency(
    other: str, name: str, key: str, *, at_least: float | None = None, at_most: float | None = None, base_name: str = ""
) -> Figure:
    return against(
        other, name=name, what=f"idle latency, call to start, {key}", unit="ms", better="less", key=key,
        at_least=at_least, at_most=at_most, base_name=base_name,
        beside=lambda found: _more(found, other),
    )  # fmt: skip


_BLOCKING_READ = "a bare blocking read"

LATENCY = Series(
    name="latency",
    contestants={name: _idle(name) for name in (OURS, BARE, *RIVALS)},
    figures=(
        _latency(BARE, "latency-p50", "p50", at_least=0.714, base_name=_BLOCKING_READ),  # 1 / 1.4
        _latency(BARE, "latency-p99", "p99", at_most=3, base_name=_BLOCKING_READ),
        *(_latency(name, f"latency-{name}", "p50", at_least=1) for name in RIVALS),
    ),
)

_WARM_UP = 20


def _there_and_back(name: str, count: int) -> Callable[[Bench], Values]:
    def run(bench: Bench) -> Values:
        side = side_of(bench, name, results=True)
        number = bench.size(count)
        with side.worker() as worker:
            side.produce("noop", "wait", _WARM_UP)
            took = sorted(side.produce("noop", "wait", number)["seconds_each"])
            bench.wait_for(worker, _WARM_UP + number)
        bench.record.complete(_WARM_UP + number)
        return {"p50": quantile(took, 0.50) * 1000, "p99": quantile(took, 0.99) * 1000}

    return run


ROUND_TRIP = Series(
    name="round-trip",
    contestants={OURS: _there_and_back(OURS, 1_000), CELERY: _there_and_back(CELERY, 300)},
    figures=(
        against(
            CELERY, name="get", what="round trip, `delay().get()`, p50", unit="ms", better="less", key="p50",
            at_least=5,
            beside=lambda found: f"p99 {found[OURS]['p99']:.2f} ms",
        ),
    ),
)  # fmt: skip
