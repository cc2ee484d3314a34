"""Huey on Redis: two worker processes, no scheduler."""

import os

from huey import RedisHuey

from benchmarks.record import record

_results = os.environ["BENCH_RESULTS"] == "1"
huey = RedisHuey("benchmarks", url=os.environ["BENCH_URL"], results=_results)


@huey.task()
def noop(number: int) -> int | None:
    """Nothing but the record."""
    record(number)
    return number if _results else None


class Producer:
    """What `benchmarks.produce` drives."""

    def __init__(self, task: str) -> None:
        self._call = {"noop": noop}[task]

    def one(self, number: int) -> str:
        """The ordinary call; the task's id, which huey gives out only where results are kept."""
        handle = self._call(number)
        return str(handle.id) if _results else ""
