"""Queues and exchanges, as applications declare them; celeriac's routing reads their attributes."""

from __future__ import annotations

from typing import Any

__all__ = ["Exchange", "Queue", "binding"]

TRANSIENT_DELIVERY_MODE = 1
PERSISTENT_DELIVERY_MODE = 2
DELIVERY_MODES = {"transient": TRANSIENT_DELIVERY_MODE, "persistent": PERSISTENT_DELIVERY_MODE}


class _Entity:
    """Attributes by name, in the order of `attrs`; what is not given has its class's value."""

    attrs: tuple[tuple[str, Any], ...] = ()

    def __call__(self, channel: Any = None) -> Any:
        return self

    bind = maybe_bind = __call__

    def _take(self, given: dict[str, Any]) -> None:
        for name, kind in self.attrs:
            if (value := given.get(name)) is not None:
                setattr(self, name, value if kind is None else kind(value))

    def as_dict(self, recurse: bool = False) -> dict[str, Any]:
        """The attributes; with `recurse`, those of what is in it, too."""
        found: dict[str, Any] = {}
        for name, kind in self.attrs:
            value = getattr(self, name)
            if recurse and isinstance(value, _Entity):
                value = value.as_dict(recurse=True)
            found[name] = kind(value) if kind is not None and value is not None else value
        return found

    def declare(self, *args: Any, **kwargs: Any) -> Any:
        """Queues and exchanges are made when they are used."""


class Exchange(_Entity):
    """What queues are bound to."""

    TRANSIENT_DELIVERY_MODE = TRANSIENT_DELIVERY_MODE
    PERSISTENT_DELIVERY_MODE = PERSISTENT_DELIVERY_MODE

    name = ""
    type = "direct"
    arguments: Any = None
    durable = True
    passive = False
    auto_delete = False
    delivery_mode: Any = None
    no_declare = False
    attrs = (
        ("name", None), ("type", None), ("arguments", None), ("durable", bool), ("passive", bool),
        ("auto_delete", bool), ("delivery_mode", lambda mode: DELIVERY_MODES.get(mode) or mode), ("no_declare", bool),
    )  # fmt: skip

    def __init__(self, name: str = "", type: str = "", channel: Any = None, **kwargs: Any) -> None:
        self._take(kwargs)
        self.name = name or self.name
        self.type = type or self.type

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exchange) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Exchange {self.name!r}({self.type})"

    def __str__(self) -> str:
        return self.__repr__()


class binding(_Entity):
    """One way from an exchange to a queue."""

    attrs = (("exchange", None), ("routing_key", None), ("arguments", None), ("unbind_arguments", None))

    def __init__(
        self, exchange: Any = None, routing_key: str = "", arguments: Any = None, unbind_arguments: Any = None
    ) -> None:
        self.exchange = Exchange(exchange) if isinstance(exchange, str) else exchange
        self.routing_key = routing_key
        self.arguments = arguments
        self.unbind_arguments = unbind_arguments

    def __repr__(self) -> str:
        return f"<binding: {self}>"

    def __str__(self) -> str:
        return f"{getattr(self.exchange, 'name', '')}->{self.routing_key}"


class Queue(_Entity):
    """A queue."""

    name = ""
    exchange: Any = Exchange("")
    routing_key = ""
    queue_arguments: Any = None
    binding_arguments: Any = None
    consumer_arguments: Any = None
    durable = True
    exclusive = False
    auto_delete = False
    no_ack = False
    alias: Any = None
    no_declare: Any = None
    expires: Any = None
    message_ttl: Any = None
    max_length: Any = None
    max_length_bytes: Any = None
    max_priority: Any = None
    attrs: tuple[tuple[str, Any], ...] = (
        ("name", None), ("exchange", None), ("routing_key", None), ("queue_arguments", None),
        ("binding_arguments", None), ("consumer_arguments", None), ("durable", bool), ("exclusive", bool),
        ("auto_delete", bool), ("no_ack", None), ("alias", None), ("bindings", list), ("no_declare", bool),
        ("expires", float), ("message_ttl", float), ("max_length", int), ("max_length_bytes", int),
        ("max_priority", int),
    )  # fmt: skip

    def __init__(
        self, name: str = "", exchange: Any = None, routing_key: str = "", channel: Any = None, bindings: Any = None,
        on_declared: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        self._take(kwargs)
        self.name = name or self.name
        self.bindings = set(bindings or ())
        if isinstance(exchange, (list, tuple, set)):  # the short form of `bindings`
            self.bindings |= set(exchange)
        elif exchange is not None:
            self.exchange = Exchange(exchange) if isinstance(exchange, str) else exchange
        if self.bindings:
            self.exchange = None
        self.routing_key = routing_key or self.routing_key
        self.on_declared = on_declared
        self.auto_delete = self.auto_delete or self.exclusive

    def declare(self, *args: Any, **kwargs: Any) -> str:
        """Queues are made when they are used."""
        return self.name

    @classmethod
    def from_dict(cls, queue: str, **options: Any) -> Queue:
        """A queue of Celery's options by name, those of its exchange among them."""
        from celeriac.app.queues import queue_from_options

        made = queue_from_options(queue, options)
        given = {name: getattr(made, name) for name, _ in cls.attrs if name not in ("name", "exchange", "bindings")}
        way: Any = made.exchange
        exchange = None
        if way is not None:
            fields = ("durable", "auto_delete", "arguments", "no_declare")
            exchange = Exchange(way.name, way.type, **{name: getattr(way, name) for name in fields})
        return cls(made.name, exchange, **{**given, "routing_key": made.routing_key or ""})

    def as_dict(self, recurse: bool = False) -> dict[str, Any]:
        found = super().as_dict(recurse)
        if recurse:
            found["bindings"] = [one.as_dict(recurse=True) for one in found["bindings"]]
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and all(getattr(self, name) == getattr(other, name) for name in _SAME)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        if self.bindings:
            return f"<Queue {self.name} -> [{', '.join(map(str, self.bindings))}]>"
        return f"<Queue {self.name} -> {self.exchange!r} -> {self.routing_key}>"


_SAME = (
    "name", "exchange", "routing_key", "queue_arguments", "binding_arguments", "consumer_arguments", "durable",
    "exclusive", "auto_delete",
)  # fmt: skip
