"""Celery's side: the same tasks. Imported by Celery's own environment, where celeriac is not installed.

Settings are the fast ones: results only where they are measured, no events, no remote control, no rate limits; the
command line adds the prefetch multiplier and leaves out gossip, mingle and heartbeat.
"""

import os
import time
from collections.abc import Callable
from typing import Any

from celery import Celery, chain, chord, group

from benchmarks.record import record

NAP_S = 0.1
_PATIENCE_S = 120

_url = os.environ["BENCH_URL"]
_results = os.environ["BENCH_RESULTS"] == "1"

app = Celery("benchmarks", broker=_url, backend=os.environ.get("BENCH_BACKEND", _url) if _results else None)
if os.environ.get("BENCH_CONFIRM") == "1":
    app.conf.broker_transport_options = {"confirm_publish": True}
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
