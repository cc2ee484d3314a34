"""Chords, chains and groups on a worker that runs and has nothing else to do; the sender waits for what comes out."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Literal

from benchmarks.figure import Figure, Medians, Series, Values

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.sides import Side

Form = Literal["chord", "chain", "group"]

OURS = "ours"
_WARM_UP = 20

SIZES: dict[Form, int] = {"chord": 1_000, "chain": 100, "group": 10_000}
"""How many tasks each has: a chord's body comes on top."""

WORDS: dict[Form, str] = {
    "chord": "chord of 1,000 no-op tasks, `apply_async` to its body's result",
    "chain": "chain of 100 no-op tasks, `apply_async` to the last result",
    "group": "group of 10,000 no-op tasks, `apply_async` and `join()`",
}


def worked(bench: Bench, side: Side, form: Form) -> Values:
    """Let a producer run some workflows of a form, each of whose tasks must run exactly once.

    `seconds` is from the call that sends one to its result, `call` what that call takes, `last` the time from it to the
    first statement of the task that ends the workflow.
    """
    size = bench.size(SIZES[form], least=10)
    with side.worker() as worker:
        side.produce("noop", "one", _WARM_UP)
        bench.wait_for(worker, _WARM_UP)
        runs = side.produce("noop", form, size)["runs"]
        worker.check()
    bodies = int(form == "chord")
    sent = _WARM_UP + max(2, size // 100) + bodies + len(runs) * (size + bodies)
    ran = {entry.number: entry.at for entry in bench.record.complete(sent)}
    return {
        "ms": median(run["end"] - run["begin"] for run in runs) * 1000,
        "call_ms": median(run["sent"] - run["begin"] for run in runs) * 1000,
        "last_ms": median(ran[run["last"]] - run["begin"] for run in runs) * 1000,
    }


def calls(found: Medians, other: str | None = None) -> str:
    """How much of it the call takes that sends a workflow."""
    spent = [found[name]["call_ms"] for name in (OURS, other) if name in found]
    return f"of which the call itself {', theirs '.join(f'{each:.1f} ms' for each in spent)}"


def _alone(form: Form) -> Series:
    def ours(bench: Bench) -> Values:
        return worked(bench, bench.ours(), form)

    return Series(
        name=f"{form}s",
        contestants={OURS: ours},
        figures=(
            Figure(
                name=f"{form}-get" if form == "chord" else form,
                what=f"{WORDS[form]}, durability process",
                unit="ms",
                better="less",
                value=lambda found: found[OURS]["ms"],
                beside=calls,
                needs=(OURS,),
                compares=(),
            ),
        ),
    )


WORKFLOWS: tuple[Series, ...] = tuple(_alone(form) for form in SIZES)
"""Ours alone: recorded, without a target."""
