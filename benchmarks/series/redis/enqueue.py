"""What one producer process sends. Server and producer each have a processor of their own, so that all are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figure import CELERY, Figure, Series, Target, Values
from benchmarks.processes import on_core
from benchmarks.rivals import RIVALS
from benchmarks.series.enqueue import sent
from benchmarks.series.redis.contest import BARE, OURS, against, side_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench

_COUNT = {OURS: 20_000, BARE: 20_000, CELERY: 4_000, "huey": 20_000, "sidekiq": 12_000}


def _send(name: str, mode: str, count: int) -> Callable[[Bench], Values]:
    def run(bench: Bench) -> Values:
        side = side_of(bench, name, results=name == OURS)
        with bench.redis.on_core(0), on_core(1):
            return sent(side, mode, bench.size(count))

    return run


def _one(other: str, at_least: float, base_name: str = "") -> Figure:
    return against(
        other, name=f"delay-{other}", what="`delay()` one by one", unit="/s", better="more", key="rate",
        at_least=at_least, base_name=base_name,
        beside=lambda found: f"processor time in the producer {found[OURS]['processor_us']:.1f} us a task",
    )  # fmt: skip


DELAY = Series(
    name="delay",
    contestants={name: _send(name, "one", _COUNT.get(name, 10_000)) for name in (OURS, BARE, *RIVALS)},
    figures=(
        _one(BARE, 0.85, "a bare round trip"),
        # huey's message is a tenth of the size
        *(_one(name, 0.9 if name == "huey" else 1) for name in RIVALS),
    ),
)

DELAY_MANY = Series(
    name="bulk",
    contestants={OURS: _send(OURS, "many", 200_000), CELERY: _send(CELERY, "many", 10_000)},
    figures=(
        Figure(
            name="delay-many",
            what="`delay_many` (Celery: groups of 1,000)",
            unit="/s",
            better="more",
            value=lambda found: found[OURS]["rate"],
            base=lambda found: found[CELERY]["rate"],
            beside=lambda found: f"processor time in the producer {found[OURS]['processor_us']:.1f} us a task",
            needs=(OURS,),
            targets=(Target("value", "at least", 100_000),),
        ),
    ),
)
