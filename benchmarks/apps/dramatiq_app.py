"""Dramatiq: two processes of eight threads, its default on two cores; the worker's prefetch is raised by the harness.

With its default prefetch of twice the threads the consumer sleeps whenever the window is full: a quarter of the rate.
"""

import logging
import os
from collections.abc import Callable
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend as Barriers
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.record import record

logging.getLogger("dramatiq").setLevel(logging.WARNING)
_url = os.environ["BENCH_URL"]
_results = os.environ["BENCH_RESULTS"] == "1"
broker: dramatiq.Broker
if _url.startswith("amqp:"):
    from dramatiq.brokers.rabbitmq import RabbitmqBroker

    logging.getLogger("pika").setLevel(logging.WARNING)
    broker = RabbitmqBroker(url=_url, confirm_delivery=os.environ.get("BENCH_CONFIRM") == "1")
else:
    broker = RedisBroker(url=_url, max_connections=1000)  # redis-py's own limit is 100
if _results:
    broker.add_middleware(Results(backend=RedisBackend(url=os.environ.get("BENCH_BACKEND", _url))))
if os.environ.get("BENCH_WORKFLOWS") == "1":
    broker.add_middleware(GroupCallbacks(Barriers(url=_url)))
dramatiq.set_broker(broker)
_PATIENCE_MS = 120_000


@dramatiq.actor(**({"store_results": True} if _results else {}))  # only the middleware knows the option
def noop(number: int) -> int | None:
    """Nothing but the record."""
    record(number)
    return number if _results else None  # a value that nobody stores is logged as a mistake


@dramatiq.actor(**({"store_results": True} if _results else {}))
def step(number: int) -> int:
    """A step of a pipeline: the next one's number."""
    record(number)
    return number + 1


@dramatiq.actor(**({"store_results": True} if _results else {}))
def ended(number: int, total: int) -> int:
    """What follows a group. It is not given the group's results, so the sender says what to return."""
    record(number)
    return total


class Producer:
    """What `benchmarks.produce` drives."""

    def __init__(self, task: str) -> None:
        self._send = {"noop": noop}[task].send

    def one(self, number: int) -> str:
        """The ordinary call; the message's id."""
        return str(self._send(number).message_id)

    def chord(self, numbers: range) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """How to send it, and how to wait for the callback's result."""
        whole = dramatiq.group([noop.message(number) for number in numbers])
        callback = ended.message(numbers.stop, sum(numbers))
        whole.add_completion_callback(callback)
        return whole.run, lambda _: callback.get_result(block=True, timeout=_PATIENCE_MS)

    def chain(self, numbers: range) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """Each step is given its number by the one before."""
        whole = dramatiq.pipeline([step.message(numbers.start), *[step.message() for _ in numbers[1:]]])
        return whole.run, lambda handle: handle.get_result(block=True, timeout=_PATIENCE_MS)

    def group(self, numbers: range) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
        """And all results."""
        whole = dramatiq.group([noop.message(number) for number in numbers])
        return whole.run, lambda handle: list(handle.get_results(block=True, timeout=_PATIENCE_MS))
