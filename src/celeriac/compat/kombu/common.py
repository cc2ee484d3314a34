"""What many messages have in common."""

from __future__ import annotations

from typing import Any

from celeriac.compat.kombu.entity import Exchange, Queue
from celeriac.compat.kombu.utils.uuid import uuid

__all__ = ["Broadcast", "maybe_declare", "uuid"]


class Broadcast(Queue):
    """A queue whose every message goes to every worker, on RabbitMQ; with `queue`, to one of those who share that."""

    attrs = (*Queue.attrs, ("queue", None))

    def __init__(
        self, name: str | None = None, queue: str | None = None, unique: bool = False, auto_delete: bool = True,
        exchange: Any = None, alias: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        self.queue = f"{queue or 'bcast'}.{uuid()}" if unique or not queue else queue
        super().__init__(
            self.queue,
            Exchange(name or "", "fanout") if exchange is None else exchange,
            alias=alias or name,
            auto_delete=auto_delete,
            **kwargs,
        )


def maybe_declare(entity: Any, channel: Any = None, retry: bool = False, **retry_policy: Any) -> bool:
    """Queues are made when they are used."""
    return False
