"""No-op tasks: all are sent first, then a worker with two processes runs them; results are in Redis, or nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figure import CELERY, Figure, Series, Values
from benchmarks.series.drain import drained
from benchmarks.series.rabbitmq.contest import QUORUM, beside_quorum, processor, side_of
from benchmarks.series.redis.contest import OURS, against

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench

_COUNT = {OURS: 60_000, QUORUM: 60_000, CELERY: 6_000, "dramatiq": 20_000}
"""So many that each runs for three seconds or more."""


def _drain(name: str, *, results: bool) -> Callable[[Bench], Values]:
    def run(bench: Bench) -> Values:
        count = bench.size(_COUNT[name])
        side = side_of(bench, name, results=results)
        sent = side.fill("noop", count)
        values = drained(bench, side, count)
        if results:
            side.check_results(count, sent)
        return values

    return run


def _series(name: str, what: str, *, results: bool, celery: float, dramatiq: float) -> Series:
    def figure(other: str, at_least: float) -> Figure:
        return against(
            other, name=f"{name}-{other}", what=what, unit="/s", better="more", key="rate", at_least=at_least,
            beside=lambda found: processor(found, OURS, other),
        )  # fmt: skip

    return Series(
        name=name,
        contestants={each: _drain(each, results=results) for each in (OURS, CELERY, "dramatiq", QUORUM)},
        figures=(
            figure(CELERY, celery),
            figure("dramatiq", dramatiq),
            beside_quorum(
                name=f"{name}-quorum", what=f"{what}, from a quorum queue", unit="/s", better="more", key="rate",
                beside=lambda found: processor(found, QUORUM, OURS),
            ),
        ),
    )  # fmt: skip


IGNORED = _series("ignored", "drain no-op tasks, results ignored", results=False, celery=6, dramatiq=1.3)
DRAIN = _series("drain", "drain no-op tasks, results stored in Redis", results=True, celery=8, dramatiq=1.8)
