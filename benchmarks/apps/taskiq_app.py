"""TaskIQ on a Redis list, its fastest broker there: at most once, what a worker holds is lost with it."""

import os
from collections.abc import Awaitable

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from benchmarks.record import record

_url = os.environ["BENCH_URL"]
_results = os.environ["BENCH_RESULTS"] == "1"
broker = ListQueueBroker(_url)
if _results:
    broker = broker.with_result_backend(RedisAsyncResultBackend(_url, result_ex_time=3600))


@broker.task(task_name="noop")
async def noop(number: int) -> int | None:
    """Nothing but the record."""
    record(number)
    return number if _results else None


class Producer:
    """What `benchmarks.produce` drives; its calls are coroutines."""

    def __init__(self, task: str) -> None:
        self._task = {"noop": noop, "anoop": noop}[task]

    async def open(self) -> None:
        """Before the first call."""
        await broker.startup()

    def one(self, number: int) -> Awaitable[object]:
        """The ordinary call."""
        return self._task.kiq(number)

    async def close(self) -> None:
        """After the last one."""
        await broker.shutdown()
