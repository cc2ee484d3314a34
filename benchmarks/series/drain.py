"""No-op tasks with results: all are sent first, then a worker with two processes runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from benchmarks.figure import CELERY, Figure, Medians, Series, Target, Values
from benchmarks.record import rate

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.sides import Side


def drained(bench: Bench, side: Side, count: int, *options: str) -> Values:
    """Start a worker on a filled store and let it run all `count` tasks, each of which must run exactly once."""
    with side.worker(*options) as worker:
        bench.wait_for(worker, 1)
        begun = len(bench.record)
        server = side.servers_spent()
        begin = worker.processor_s()
        bench.wait_for(worker, count)
        spent = worker.processor_s() - begin
        used = side.servers_spent().since(server)
    tasks = max(1, count - begun)
    values = {"rate": rate(bench.record.complete(count)), "processor_us": spent / tasks * 1e6}
    values["server_us"] = used.processor_s / tasks * 1e6
    values["commands"] = used.commands / tasks
    values["bytes"] = (used.received + used.sent) / tasks
    return values


def _ours(bench: Bench, durability: Literal["full", "process"], count: int) -> Values:
    side = bench.sqlite(durability)
    sent = side.fill("noop", count)
    values = drained(bench, side, count)
    side.check_results(count, sent)
    return values


def _process(bench: Bench) -> Values:
    return _ours(bench, "process", bench.size(200_000))


def _full(bench: Bench) -> Values:
    return _ours(bench, "full", bench.size(100_000))


def _celery(bench: Bench) -> Values:
    count = bench.size(8_000)
    side = bench.celery(results=True)
    sent = side.fill("noop", count)
    values = drained(bench, side, count)
    side.check_results(count, sent)
    return values


def _processor(found: Medians, contestant: str) -> str:
    """Moves less with what else the machine does than the rate."""
    spent = f"processor time in the worker {found[contestant]['processor_us']:.1f} us a task"
    return spent + (f", Celery's {found[CELERY]['processor_us']:.0f} us" if CELERY in found else "")


def _figure(name: str, what: str, contestant: str, *targets: Target) -> Figure:
    return Figure(
        name=name,
        what=what,
        unit="/s",
        better="more",
        value=lambda found: found[contestant]["rate"],
        base=lambda found: found[CELERY]["rate"],
        beside=lambda found: _processor(found, contestant),
        needs=(contestant,),
        targets=targets,
    )


DRAIN = Series(
    name="drain",
    contestants={"process": _process, CELERY: _celery, "full": _full},
    figures=(
        _figure(
            "drain-process", "drain no-op tasks with results, 2 processes, durability process", "process",
            Target("ratio", "at least", 20),
        ),
        _figure("drain-full", "the same, durability full", "full"),
    ),
)  # fmt: skip
