"""Dramatiq: two processes of eight threads, its default on two cores; the worker's prefetch is raised by the harness.

With its default prefetch of twice the threads the consumer sleeps whenever the window is full: a quarter of the rate.
"""

import logging
import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.record import record

logging.getLogger("dramatiq").setLevel(logging.WARNING)
_url = os.environ["BENCH_URL"]
_results = os.environ["BENCH_RESULTS"] == "1"
broker = RedisBroker(url=_url, max_connections=1000)  # redis-py's own limit is 100
if _results:
    broker.add_middleware(Results(backend=RedisBackend(url=_url)))
dramatiq.set_broker(broker)


@dramatiq.actor(**({"store_results": True} if _results else {}))  # only the middleware knows the option
def noop(number: int) -> int | None:
    """Nothing but the record."""
    record(number)
    return number if _results else None  # a value that nobody stores is logged as a mistake


class Producer:
    """What `benchmarks.produce` drives."""

    def __init__(self, task: str) -> None:
        self._send = {"noop": noop}[task].send

    def one(self, number: int) -> str:
        """The ordinary call; the message's id."""
        return str(self._send(number).message_id)
