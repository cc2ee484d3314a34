"""Queues and exchanges, as applications declare them; celeriac's routing reads their attributes."""

from __future__ import annotations

from typing import Any

__all__ = ["Exchange", "Queue", "binding"]

TRANSIENT_DELIVERY_MODE = 1
PERSISTENT_DELIVERY_MODE = 2


class Exchange:
    """What queues are bound to."""

    def __init__(self, name: str = "", type: str = "", channel: Any = None, **kwargs: Any) -> None:
        self.name = name
        self.type = type or "direct"
        self.durable = True
        self.delivery_mode = PERSISTENT_DELIVERY_MODE
        vars(self).update(kwargs)

    def __call__(self, channel: Any = None) -> Exchange:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exchange) and (self.name, self.type) == (other.name, other.type)

    def __hash__(self) -> int:
        return hash((self.name, self.type))

    def __repr__(self) -> str:
        return f"Exchange {self.name!r}({self.type})"

    def __str__(self) -> str:
        return self.name


class binding:
    """One way from an exchange to a queue."""

    def __init__(self, exchange: Any = None, routing_key: str = "", arguments: Any = None, **kwargs: Any) -> None:
        self.exchange = exchange
        self.routing_key = routing_key


class Queue:
    """A queue."""

    def __init__(
        self, name: str = "", exchange: Any = None, routing_key: str = "", channel: Any = None, bindings: Any = None,
        on_declared: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        self.name = name
        self.exchange = exchange
        self.routing_key = routing_key
        self.bindings = list(bindings or ())
        if self.bindings and exchange is None:
            self.exchange, self.routing_key = self.bindings[0].exchange, self.bindings[0].routing_key
        self.durable, self.exclusive, self.auto_delete = True, False, False
        self.max_priority: Any = kwargs.get("max_priority")
        self.queue_arguments: Any = kwargs.get("queue_arguments")
        vars(self).update(kwargs)
        if self.max_priority is None and self.queue_arguments:
            self.max_priority = self.queue_arguments.get("x-max-priority")

    def __call__(self, channel: Any = None) -> Queue:
        return self

    bind = __call__

    def declare(self, *args: Any, **kwargs: Any) -> str:
        """Queues are made when they are used."""
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<Queue {self.name} -> {self.exchange!r} -> {self.routing_key}>"
