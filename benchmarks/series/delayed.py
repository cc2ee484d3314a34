"""A million tasks that are due tomorrow lie in the store while ready ones are drained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Series, Target, Values
from benchmarks.record import rate

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.sides import OursOnSqlite


def _drained(bench: Bench, side: OursOnSqlite) -> Values:
    count = bench.size(100_000)
    side.produce("noop", "many", count)
    with side.worker("-c", "2") as worker:
        bench.wait_for(worker, count)
        memory = worker.pss_mb()
    return {"rate": rate(bench.record.complete(count)), "pss_mb": memory}


def _none(bench: Bench) -> Values:
    return _drained(bench, bench.sqlite())


def _million(bench: Bench) -> Values:
    side = bench.sqlite()
    saved = bench.room("delayed")
    if not saved.exists():
        side.produce("noop", "delayed", bench.size(1_000_000))
        side.save(saved)
    side.load(saved)
    return _drained(bench, side)


DELAYED = Series(
    name="delayed",
    contestants={"none": _none, "million": _million},
    figures=(
        Figure(
            name="delayed-memory",
            what="1,000,000 delayed tasks in the store: growth of the worker's memory (PSS) against none",
            unit="MB",
            better="less",
            value=lambda found: found["million"]["pss_mb"] - found["none"]["pss_mb"],
            beside=lambda found: f"{found['none']['pss_mb']:.0f} MB with none, after 100,000 tasks",
            needs=("none", "million"),
            compares=(),
            targets=(Target("value", "below", 50),),
        ),
        Figure(
            name="delayed-rate",
            what="the same: drain rate of 100,000 ready tasks",
            unit="/s",
            better="more",
            value=lambda found: found["million"]["rate"],
            base=lambda found: found["none"]["rate"],
            base_name="none delayed",
            needs=("million",),
            compares=("none",),
            targets=(Target("ratio", "at least", 0.9),),
        ),
    ),
)
