"""arq: 100 jobs at a time and a poll every 10 ms; with its default of 500 ms it runs 200 jobs a second at most."""

import logging
import os
from collections.abc import Awaitable
from typing import Any

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings

from benchmarks.record import record

_settings = RedisSettings.from_dsn(os.environ["BENCH_URL"])


async def noop(context: dict[str, Any], number: int) -> int:
    """Nothing but the record."""
    record(number)
    return number


async def _quiet(context: dict[str, Any]) -> None:
    logging.getLogger("arq").setLevel(logging.WARNING)  # its command line sets it to INFO


class WorkerSettings:
    """What `arq` runs."""

    functions = (noop,)
    redis_settings = _settings
    on_startup = _quiet
    keep_result = 3600 if os.environ["BENCH_RESULTS"] == "1" else 0
    max_jobs = 100
    poll_delay = 0.01


class Producer:
    """What `benchmarks.produce` drives; its calls are coroutines."""

    _pool: ArqRedis

    def __init__(self, task: str) -> None:
        self._task = {"noop": "noop", "anoop": "noop"}[task]

    async def open(self) -> None:
        """Before the first call."""
        self._pool = await create_pool(_settings)

    def one(self, number: int) -> Awaitable[object]:
        """The ordinary call."""
        return self._pool.enqueue_job(self._task, number)

    async def close(self) -> None:
        """After the last one."""
        await self._pool.aclose()
