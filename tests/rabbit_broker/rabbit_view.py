"""What lies on a server, seen by somebody who knows nothing of the broker: by plain AMQP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pamqp import commands

from celeriac.brokers.amqp.methods import ExchangeDeclare, QueueDeclare
from celeriac.clock import SYSTEM_CLOCK
from celeriac.storage.amqp import AmqpUrl, Arrived, ChannelClosed, Publication
from celeriac.storage.amqp.socketline import SocketLine

DEADLINE_S = 20.0
PLAIN = b"\x10\x00\x02"
"""Persistent, and nothing else."""


class View:
    def __init__(self, url: str) -> None:
        self.line = SocketLine(AmqpUrl.parse(url), purpose="view")

    def count(self, queue: str) -> int | None:
        """Ready messages; None: there is no such queue."""
        found = self._look(QueueDeclare(queue=queue, passive=True))
        return None if found is None else int(found.message_count)

    def has_exchange(self, name: str) -> bool:
        return self._look(ExchangeDeclare(exchange=name, passive=True)) is not None

    def _look(self, method: Any) -> Any:
        try:
            return self.line.call(method)
        except ChannelClosed as exc:
            if exc.code != 404:
                raise
            return None

    def call(self, method: Any) -> Any:
        return self.line.call(method)

    def make_queue(self, name: str, **arguments: Any) -> None:
        arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
        self.line.call(QueueDeclare(queue=name, durable=True, arguments=arguments))

    def delete_queue(self, name: str) -> None:
        self.line.call(commands.Queue.Delete(queue=name))

    def put(self, queue: str, body: bytes, properties: bytes = PLAIN) -> None:
        assert self.line.publish([Publication("", queue, properties, body)]) == [None]

    def take(self, queue: str) -> list[Arrived]:
        """All that is ready, for good."""
        with self.line.channel() as channel:
            found: list[Arrived] = []
            while (arrived := channel.get(queue)) is not None:
                found.append(arrived)
            channel.ack([each.delivery_tag for each in found])
            channel.call(commands.Basic.Qos())  # an answer: the acknowledgement has been read
        return found

    def bodies(self, queue: str) -> list[bytes]:
        return [each.body for each in self.take(queue)]

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        until = SYSTEM_CLOCK.monotonic() + DEADLINE_S
        while not condition():
            assert SYSTEM_CLOCK.monotonic() < until, what
            SYSTEM_CLOCK.pause(0.01)


@contextmanager
def viewing(url: str) -> Iterator[View]:
    view = View(url)
    try:
        yield view
    finally:
        view.line.close()
