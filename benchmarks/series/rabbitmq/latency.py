"""One task at a time on an idle worker: from the call to the first statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figure import CELERY, Figure, Medians, Series, Values
from benchmarks.series.latency import waits
from benchmarks.series.rabbitmq.contest import QUORUM, beside_quorum, side_of
from benchmarks.series.redis.contest import OURS, against

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench


def _idle(name: str) -> Callable[[Bench], Values]:
    return lambda bench: waits(bench, side_of(bench, name))


def _more(found: Medians, *names: str) -> str:
    both = (found[name] for name in names if name in found)
    return "; theirs ".join(
        f"p99 {values['p99']:.2f} ms, of which the call itself {values['call_p50']:.2f} ms (p50)" for values in both
    )


def _latency(other: str, key: str, *, at_most: float | None = None, at_least: float | None = None) -> Figure:
    return against(
        other, name=f"latency-{other}" if key == "p50" else f"latency-{key}-{other}",
        what=f"idle latency, call to start, {key}", unit="ms", better="less", key=key,
        at_most=at_most, at_least=at_least, beside=lambda found: _more(found, OURS, other),
    )  # fmt: skip


LATENCY = Series(
    name="latency",
    contestants={name: _idle(name) for name in (OURS, CELERY, "dramatiq", QUORUM)},
    figures=(
        _latency(CELERY, "p50", at_most=1.5, at_least=1),
        _latency("dramatiq", "p50", at_least=1),
        _latency(CELERY, "p99"),
        _latency("dramatiq", "p99"),
        beside_quorum(
            name="latency-quorum", what="idle latency, call to start, p50, by a quorum queue", unit="ms",
            better="less", key="p50", beside=lambda found: _more(found, QUORUM, OURS),
        ),
    ),
)  # fmt: skip
