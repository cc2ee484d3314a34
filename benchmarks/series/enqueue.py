"""What one producer process sends: by the ordinary call, and by the bulk call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figure import CELERY, Figure, Medians, Series, Target, Values

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.sides import Side


def sent(side: Side, mode: str, count: int) -> Values:
    """Let a producer send no-op tasks by the call `one` or `many`."""
    measured = side.produce("noop", mode, count)
    return {"rate": count / measured["seconds"], "processor_us": measured["cpu_s"] / count * 1e6}


def _processor(found: Medians, contestant: str) -> str:
    """Moves less with what else the machine does than the rate."""
    spent = f"processor time in the producer {found[contestant]['processor_us']:.1f} us a task"
    return spent + (f", Celery's {found[CELERY]['processor_us']:.0f} us" if CELERY in found else "")


def _figure(name: str, what: str, target: Target) -> Figure:
    return Figure(
        name=name,
        what=what,
        unit="/s",
        better="more",
        value=lambda found: found["ours"]["rate"],
        base=lambda found: found[CELERY]["rate"],
        beside=lambda found: _processor(found, "ours"),
        needs=("ours",),
        targets=(target,),
    )


def _one(bench: Bench) -> Values:
    return sent(bench.ours(), "one", bench.size(50_000))


def _many(bench: Bench) -> Values:
    return sent(bench.ours(), "many", bench.size(200_000))


def _celery_one(bench: Bench) -> Values:
    # without a result backend, which would cost Celery's producer two more commands a call
    return sent(bench.celery(), "one", bench.size(5_000))


def _celery_group(bench: Bench) -> Values:
    return sent(bench.celery(), "many", bench.size(10_000))


ENQUEUE = Series(
    name="enqueue",
    contestants={"ours": _one, CELERY: _celery_one},
    figures=(
        _figure("enqueue-one", "enqueue one by one (`delay`), durability process", Target("ratio", "at least", 8)),
    ),
)

ENQUEUE_MANY = Series(
    name="enqueue-bulk",
    contestants={"ours": _many, CELERY: _celery_group},
    figures=(
        _figure(
            "enqueue-many", "enqueue in bulk (`delay_many`; Celery: groups of 1,000), durability process",
            Target("value", "at least", 80_000),
        ),
    ),
)  # fmt: skip
