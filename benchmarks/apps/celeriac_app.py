"""Our side: started by the harness, which says in the environment where its store is and whether results are kept."""

from __future__ import annotations

import asyncio
import os

from benchmarks.record import record
from celeriac import Celeriac

NAP_S = float(os.environ.get("BENCH_NAP_S", "0.1"))

_ignore = os.environ.get("BENCH_RESULTS") == "0"

app = Celeriac("benchmarks", broker=os.environ.get("BENCH_URL"))


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
