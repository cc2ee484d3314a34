"""Celery's side: the same tasks. Imported by Celery's own environment, where celeriac is not installed.

Settings are the fast ones: results only where they are measured, no events, no remote control, no rate limits; the
command line adds the prefetch multiplier and leaves out gossip, mingle and heartbeat.
"""

import os
import time

from celery import Celery, group

from benchmarks.record import record

NAP_S = 0.1

_url = os.environ["BENCH_URL"]
_results = os.environ["BENCH_RESULTS"] == "1"

app = Celery("benchmarks", broker=_url, backend=_url if _results else None)
app.conf.update(
    task_ignore_result=not _results,
    result_expires=3600,
    worker_disable_rate_limits=True,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="benchmarks.noop")
def noop(number: int) -> int:
    """Nothing but the record."""
    record(number)
    return number


@app.task(name="benchmarks.nap")
def nap(number: int) -> int:
    """A tenth of a second of waiting."""
    time.sleep(NAP_S)
    record(number)
    return number


class Producer:
    """What `benchmarks.produce` drives."""

    def __init__(self, task: str) -> None:
        self._task = {"noop": noop, "nap": nap}[task]

    def one(self, number: int) -> str:
        """The ordinary call; the task's id."""
        return str(self._task.delay(number).id)

    def wait(self, number: int) -> int:
        """The ordinary call and its result."""
        return int(self._task.delay(number).get(timeout=30))

    def many(self, numbers: range) -> list[str]:
        """Celery has no bulk call; a group shares one connection over its members."""
        ids: list[str] = []
        for start in range(numbers.start, numbers.stop, 1000):
            some = range(start, min(numbers.stop, start + 1000))
            ids += [part.id for part in group([self._task.s(number) for number in some]).apply_async()]
        return ids
