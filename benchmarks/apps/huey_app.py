"""Huey on Redis: two worker processes, no scheduler.

For workflows results are announced (`notify_result`): who waits would look again every tenth of a second or less else.
"""

import os
from collections.abc import Callable
from typing import Any

from huey import RedisHuey, chord, group

from benchmarks.record import record

_results = os.environ["BENCH_RESULTS"] == "1"
_workflows = os.environ.get("BENCH_WORKFLOWS") == "1"
_PATIENCE_S = 120
huey = RedisHuey("benchmarks", url=os.environ["BENCH_URL"], results=_results, notify_result=_workflows)


@huey.task()
def noop(number: int) -> int | None:
    """Nothing but the record."""
    record(number)
    return number if _results else None


@huey.task()
def step(number: int) -> int:
    """A step of a chain: the next one's number."""
    record(number)
    return number + 1


@huey.task()
def total(number: int, numbers: list[int]) -> int:
    """The body of a chord; what comes from the members stands behind its own arguments."""
    record(number)
    return sum(numbers)


class Producer:
    """What `benchmarks.produce` drives."""

    def __init__(self, task: str) -> None:
        self._call = {"noop": noop}[task]

    def one(self, number: int) -> str:
        """The ordinary call; the task's id, which huey gives out only where results are kept."""
        handle = self._call(number)
        return str(handle.id) if _results else ""

    def chord(self, numbers: range) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """How to send it, and how to wait for its body's result."""
        whole = chord([noop.s(number) for number in numbers], total.s(numbers.stop))
        return lambda: huey.enqueue(whole), lambda handle: handle.get(blocking=True, timeout=_PATIENCE_S)

    def chain(self, numbers: range) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """Each step is given its number by the one before."""
        whole = step.s(numbers.start)
        for _ in numbers[1:]:
            whole.then(step)
        return lambda: huey.enqueue(whole), lambda handle: handle.get(blocking=True, timeout=_PATIENCE_S)[-1]

    def group(self, numbers: range) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """And all results."""
        whole = group([noop.s(number) for number in numbers])
        return lambda: huey.enqueue(whole), lambda handle: handle.get(blocking=True, timeout=_PATIENCE_S)
