"""Our side's application: started by the harness, which says in the environment where its store is."""

from __future__ import annotations

import asyncio
import os

from benchmarks.record import record
from celeriac import Celeriac

NAP_S = 0.1

app = Celeriac("benchmarks", broker=os.environ.get("BENCH_URL"))


@app.task(name="benchmarks.noop")
def noop(number: int) -> int:
    """Nothing but the record."""
    record(number)
    return number


@app.task(name="benchmarks.nap")
async def nap(number: int) -> int:
    """A tenth of a second of waiting, as a call over the network would."""
    await asyncio.sleep(NAP_S)
    record(number)
    return number


class Producer:
    """What `benchmarks.produce` drives."""

    def __init__(self, task: str) -> None:
        self._task = {"noop": noop, "nap": nap}[task]

    def one(self, number: int) -> str:
        """The ordinary call; the task's id."""
        return self._task.delay(number).id

    def many(self, numbers: range) -> list[str]:
        """The bulk call; the tasks' ids."""
        return [handle.id for handle in self._task.delay_many(numbers)]

    def delayed(self, numbers: range) -> list[str]:
        """Bulk, due tomorrow."""
        return [handle.id for handle in self._task.options(countdown=86_400).delay_many(numbers)]
