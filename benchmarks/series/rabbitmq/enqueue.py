"""What one producer process sends: with and without waiting for confirms, one by one and in bulk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figure import CELERY, Figure, Medians, Series, Target, Values
from benchmarks.series.enqueue import sent
from benchmarks.series.rabbitmq.contest import QUORUM, beside_quorum, side_of
from benchmarks.series.redis.contest import OURS, against

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench

_CONFIRMED_COUNT = {OURS: 5_000, QUORUM: 5_000, CELERY: 3_000, "dramatiq": 5_000}
_UNCONFIRMED_COUNT = {OURS: 20_000, CELERY: 5_000, "dramatiq": 20_000}


def _send(name: str, mode: str, count: int, *, confirm: bool) -> Callable[[Bench], Values]:
    def run(bench: Bench) -> Values:
        side = side_of(bench, name, confirm=confirm)
        number = bench.size(count)
        begin = side.servers_spent()
        values = sent(side, mode, number)
        values["server_us"] = side.servers_spent().since(begin).processor_s / number * 1e6
        return values

    return run


def _processor(found: Medians, *names: str) -> str:
    both = (found[name] for name in names if name in found)
    spent = (f"{values['processor_us']:.1f} + {values['server_us']:.1f}" for values in both)
    return f"processor time of producer + server, us a task: {', theirs '.join(spent)}"


def _figure(name: str, what: str, other: str, at_least: float) -> Figure:
    return against(
        other, name=name, what=what, unit="/s", better="more", key="rate", at_least=at_least,
        beside=lambda found: _processor(found, OURS, other),
    )  # fmt: skip


_CONFIRMED = "`delay()` one by one, each confirmed"
_UNCONFIRMED = "`delay()` one by one, without confirms"

CONFIRMED = Series(
    name="confirmed",
    contestants={name: _send(name, "one", count, confirm=True) for name, count in _CONFIRMED_COUNT.items()},
    figures=(
        _figure("confirmed-celery", _CONFIRMED, CELERY, 1.5),
        against(
            "dramatiq", name="confirmed-dramatiq", what=_CONFIRMED, unit="/s", better="more", key="rate",
            beside=lambda found: _processor(found, OURS, "dramatiq"),
        ),
        beside_quorum(
            name="confirmed-quorum", what=f"{_CONFIRMED}, to a quorum queue", unit="/s", better="more", key="rate",
            beside=lambda found: _processor(found, QUORUM, OURS),
        ),
    ),
)  # fmt: skip

UNCONFIRMED = Series(
    name="unconfirmed",
    contestants={name: _send(name, "one", count, confirm=False) for name, count in _UNCONFIRMED_COUNT.items()},
    figures=(
        _figure("unconfirmed-dramatiq", _UNCONFIRMED, "dramatiq", 0.9),
        against(
            CELERY, name="unconfirmed-celery", what=_UNCONFIRMED, unit="/s", better="more", key="rate",
            beside=lambda found: _processor(found, OURS, CELERY),
        ),
    ),
)  # fmt: skip

BULK = Series(
    name="bulk",
    contestants={
        OURS: _send(OURS, "many", 100_000, confirm=True),
        CELERY: _send(CELERY, "many", 5_000, confirm=False),
        QUORUM: _send(QUORUM, "many", 100_000, confirm=True),
    },
    figures=(
        Figure(
            name="bulk-many",
            what="`delay_many`, all confirmed, to a queue as ours are by default (quorum)",
            unit="/s",
            better="more",
            value=lambda found: found[QUORUM]["rate"],
            base=lambda found: found[OURS]["rate"],
            base_name="a classic queue",
            beside=lambda found: _processor(found, QUORUM, OURS),
            needs=(QUORUM,),
            compares=(OURS,),
            targets=(Target("value", "at least", 25_000),),
        ),
        against(
            CELERY, name="bulk-celery", what="`delay_many`, all confirmed, to a classic queue (Celery: groups of "
            "1,000, not confirmed)", unit="/s", better="more", key="rate",
            beside=lambda found: _processor(found, OURS, CELERY),
        ),
    ),
)  # fmt: skip
