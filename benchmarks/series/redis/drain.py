"""No-op tasks: all are sent first, then a worker with two processes runs them. What a task costs is read on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figure import CELERY, Figure, Medians, Series, Target, Values
from benchmarks.series.drain import drained
from benchmarks.series.redis.contest import BARE, OURS, against, side_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench

_COUNT = {
    OURS: 200_000, BARE: 200_000, CELERY: 5_000, "dramatiq": 20_000, "huey": 20_000, "taskiq": 16_000, "arq": 6_000,
    "bullmq": 40_000, "sidekiq": 60_000,
}  # fmt: skip
"""So many that each runs for three seconds or more."""


def _drain(name: str, *, task: str = "noop", results: bool = True) -> Callable[[Bench], Values]:
    def run(bench: Bench) -> Values:
        count = bench.size(_COUNT[name])
        side = side_of(bench, name, results=results)
        sent = side.fill(task, count)
        values = drained(bench, side, count)
        if results:
            side.check_results(count, sent)
        return values

    return run


def _celery_noop(bench: Bench) -> Values:
    return _drain(CELERY)(bench)


def _processor(found: Medians, other: str) -> str:
    """Moves less with what else the machine does than the rate."""
    both = {name: found[name] for name in (OURS, other) if name in found}
    spent = (f"{values['processor_us']:.1f} + {values['server_us']:.1f}" for values in both.values())
    return f"processor time of worker + server, us a task: {', theirs '.join(spent)}"


def _rate(name: str, what: str, other: str, at_least: float, base_name: str = "") -> Figure:
    return against(
        other, name=name, what=what, unit="/s", better="more", key="rate", at_least=at_least, base_name=base_name,
        beside=lambda found: _processor(found, other),
    )  # fmt: skip


def _whole(values: Values) -> float:
    return values["processor_us"] + values["server_us"]


def _cost(name: str, what: str, unit: str, key: str) -> Figure:
    return against(CELERY, name=name, what=what, unit=unit, better="less", key=key)


_RESULTS = "drain no-op tasks, results stored"

DRAIN = Series(
    name="drain",
    contestants={name: _drain(name) for name in (OURS, CELERY, BARE, "dramatiq", "huey", "bullmq")},
    figures=(
        _rate("drain-celery", _RESULTS, CELERY, 35),
        _rate("drain-dramatiq", _RESULTS, "dramatiq", 8),
        _rate("drain-huey", _RESULTS, "huey", 6),
        _rate("drain-bullmq", _RESULTS, "bullmq", 2.5),
        _rate("drain-bare", "the same as a share of the bare loop's rate", BARE, 0.4, "a bare loop"),
        Figure(
            name="cost-processor",
            what="processor time of one of these tasks, worker and server",
            unit="us",
            better="less",
            value=lambda found: _whole(found[OURS]),
            base=lambda found: _whole(found[CELERY]),
            beside=lambda found: f"of which the server {found[OURS]['server_us']:.1f} us",
            needs=(OURS,),
            compares=(CELERY,),
            targets=(Target("ratio", "at least", 20),),
        ),
        _cost(
            "cost-commands", "Redis commands for one of these tasks, those inside scripts too", "commands", "commands"
        ),
        _cost("cost-bytes", "bytes between worker and Redis for one of these tasks, both ways", "B", "bytes"),
    ),
)

_IGNORED = "drain no-op tasks, results ignored"

IGNORED = Series(
    name="ignored",
    contestants={name: _drain(name, results=False) for name in (OURS, CELERY, "dramatiq", "sidekiq")},
    figures=(
        _rate("ignored-celery", _IGNORED, CELERY, 50),
        _rate("ignored-dramatiq", _IGNORED, "dramatiq", 6),
        _rate("ignored-sidekiq", _IGNORED, "sidekiq", 3),
    ),
)

_ASYNC = "drain no-op async tasks, results stored"

ASYNC = Series(
    name="async",
    # Celery has no async tasks; its ordinary ones are what one compares with
    contestants={**{name: _drain(name, task="anoop") for name in (OURS, "taskiq", "arq")}, CELERY: _celery_noop},
    figures=(
        _rate("async-celery", _ASYNC, CELERY, 30),
        _rate("async-taskiq", _ASYNC, "taskiq", 6),
        _rate("async-arq", _ASYNC, "arq", 15),
    ),
)
