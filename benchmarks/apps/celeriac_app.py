"""Our side: started by the harness, which says in the environment where its store is and whether results are kept."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from benchmarks.record import record
from celeriac import Celeriac, chain, chord, group

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE_S = 120
NAP_S = float(os.environ.get("BENCH_NAP_S", "0.1"))

_ignore = os.environ.get("BENCH_RESULTS") == "0"

app = Celeriac("benchmarks", broker=os.environ.get("BENCH_URL"), backend=os.environ.get("BENCH_BACKEND"))
if kind := os.environ.get("BENCH_QUEUE_TYPE"):
    app.conf.task_default_queue_type = kind
if os.environ.get("BENCH_CONFIRM") == "0":
    app.conf.broker_transport_options = {"confirm_publish": False}


@app.task(name="benchmarks.noop", ignore_result=_ignore)
def noop(number: int) -> int:
    """Nothing but the record."""
    record(number)
    return number


@app.task(name="benchmarks.anoop", ignore_result=_ignore)
async def anoop(number: int) -> int:
    """The same on the event loop."""
    record(number)
    return number


@app.task(name="benchmarks.nap", ignore_result=_ignore)
async def nap(number: int) -> int:
    """Some waiting, as a call over the network would do."""
    await asyncio.sleep(NAP_S)
    record(number)
    return number


@app.task(name="benchmarks.step")
def step(number: int) -> int:
    """A step of a chain: the next one's number."""
    record(number)
    return number + 1


@app.task(name="benchmarks.total")
def total(numbers: list[int], number: int) -> int:
    """The body of a chord."""
    record(number)
    return sum(numbers)


class Producer:
    """What `benchmarks.produce` drives."""

    def __init__(self, task: str) -> None:
        self._task = {"noop": noop, "anoop": anoop, "nap": nap}[task]

    def one(self, number: int) -> str:
        """The ordinary call; the task's id."""
        return self._task.delay(number).id

    def wait(self, number: int) -> int:
        """The ordinary call and its result."""
        return self._task.delay(number).get(timeout=30)

    def many(self, numbers: range) -> list[str]:
        """The bulk call; the tasks' ids."""
        return [handle.id for handle in self._task.delay_many(numbers)]

    def delayed(self, numbers: range) -> list[str]:
        """Bulk, due tomorrow."""
        return [handle.id for handle in self._task.options(countdown=86_400).delay_many(numbers)]

    def chord(self, numbers: range) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """How to send it, and how to wait for its body's result."""
        whole = chord([noop.s(number) for number in numbers], total.s(numbers.stop))
        return whole.apply_async, lambda handle: handle.get(timeout=_PATIENCE_S)

    def chain(self, numbers: range) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """Each step is given its number by the one before."""
        whole = chain(step.s(numbers.start), *[step.s() for _ in numbers[1:]])
        return whole.apply_async, lambda handle: handle.get(timeout=_PATIENCE_S)

    def group(self, numbers: range) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """And its results by `join`."""
        whole = group([noop.s(number) for number in numbers])
        return whole.apply_async, lambda handle: handle.join(timeout=_PATIENCE_S)
