"""Flows of 10,000 steps: what they take of a worker's memory, at most, while they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from benchmarks.figure import Figure, Medians, Series, Target, Values

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench

Shape = Literal["wide", "layered"]

_WARM_UP = 20_000
_COLUMN = 99


def _grown(shape: Shape) -> Callable[[Bench], Values]:
    def run(bench: Bench) -> Values:
        # with the step that adds up, and for the wide one the step that it fans out over, 10,000 in all
        size = bench.size(9_998) if shape == "wide" else max(1, round(101 * bench.scale)) * _COLUMN
        count = bench.size(_WARM_UP)
        side = bench.ours()
        side.module = "benchmarks.apps.celeriac_flow_app"
        with side.worker() as worker:
            # tasks and a small flow first: a worker that has run nothing yet grows by whatever it runs
            side.produce("noop", "many", count)
            bench.wait_for(worker, count)
            side.produce("noop", shape, _COLUMN)
            with worker.watched() as seen:
                (flow,) = side.produce("noop", shape, size)["runs"]
            worker.check()
        bench.record.complete(count + _COLUMN + 1 + size + 1)
        return {"grown_mb": max(seen) - seen[0], "before_mb": seen[0], "seconds": flow["end"] - flow["begin"]}

    return run


def _beside(found: Medians, shape: Shape) -> str:
    values = found[shape]
    return f"{values['before_mb']:.0f} MB before, after 20,000 tasks and a small flow; it ran {values['seconds']:.1f} s"


def _figure(shape: Shape, what: str) -> Figure:
    return Figure(
        name=f"flow-{shape}-memory",
        what=f"a flow of 10,000 steps, {what}: growth of the worker's memory (PSS) at most",
        unit="MB",
        better="less",
        value=lambda found: found[shape]["grown_mb"],
        beside=lambda found: _beside(found, shape),
        needs=(shape,),
        compares=(),
        targets=(Target("value", "below", 50),),
    )


FLOWS: tuple[Series, ...] = (
    Series(
        name="flows",
        contestants={"wide": _grown("wide"), "layered": _grown("layered")},
        figures=(
            _figure("wide", "one for each element of a result"),
            _figure("layered", "101 columns of 99 and their sum"),
        ),
    ),
)
"""On either engine."""
