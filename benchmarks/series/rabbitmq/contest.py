"""Contestants on RabbitMQ: ours on a classic queue and on the quorum queue of its defaults, and the rivals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Medians
from benchmarks.series.redis.contest import OURS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from benchmarks.bench import Bench
    from benchmarks.sides import Side

QUORUM = "quorum"
"""Ours with its default settings: a quorum queue with its levels for priorities."""


def side_of(bench: Bench, name: str, *, results: bool = False, confirm: bool | None = None) -> Side:
    """A contestant's side on an empty server.

    Args:
        bench: The run.
        name: Of the contestant.
        results: Whether tasks keep results, in Redis.
        confirm: Whether the producer waits for each confirm; None: as is its default.
    """
    more = {} if confirm is None else {"BENCH_CONFIRM": "1" if confirm else "0"}
    if name in (OURS, QUORUM):
        kind = {"BENCH_QUEUE_TYPE": "classic"} if name == OURS else {}
        return bench.ours(results=results, environment={**kind, **more})
    return bench.rival(name, results=results, environment=more)


def beside_quorum(
    *,
    name: str,
    what: str,
    unit: str,
    better: Literal["more", "less"],
    key: str,
    beside: Callable[[Medians], str] = lambda _: "",
) -> Figure:
    """Ours on a quorum queue beside ours on a classic one; printed."""
    return Figure(
        name=name,
        what=what,
        unit=unit,
        better=better,
        value=lambda found: found[QUORUM][key],
        base=lambda found: found[OURS][key],
        base_name="a classic queue",
        beside=beside,
        needs=(QUORUM,),
        compares=(OURS,),
    )


def processor(found: Medians, *names: str) -> str:
    """What moves less with what else the machine does than the rate."""
    both = [found[name] for name in names if name in found]
    spent = (f"{values['processor_us']:.1f} + {values['server_us']:.1f}" for values in both)
    return f"processor time of worker + servers, us a task: {', theirs '.join(spent)}"
