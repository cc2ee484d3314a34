"""Queues, exchanges and bindings in Celery's words, as values, and how they are read from all their forms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from celeriac.errors import ConfigError
from celeriac.model.readable import learn

_TYPES = ("direct", "topic", "fanout", "headers")
_DIRECT_NAME = ".dq2"
_DIRECT_EXCHANGE = "C.dq2"
_GENERATED = re.compile(r"\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
"""Ends the names that kombu makes up for the queues of its `Broadcast`."""


class Exchange(msgspec.Struct, frozen=True):
    """What a queue is bound to, in AMQP's words. Engines without exchanges use it only to choose the queue."""

    name: str = ""
    type: str = "direct"
    """`direct`, `topic`, `fanout`, `headers`, or what a plugin of the server adds (`x-…`)."""
    durable: bool = True
    """It is there again after the server was restarted."""
    auto_delete: bool = False
    """It goes when nothing is bound to it any more."""
    arguments: dict[str, Any] | None = None
    """Arguments of the declaration, such as `alternate-exchange`."""
    no_declare: bool = False
    """Somebody else declares it."""

    def __post_init__(self) -> None:
        name: object = self.name
        if not isinstance(name, str) or len(name.encode()) > 255:
            raise ConfigError(f"an exchange's name must be text of at most 255 bytes, found {name!r}")
        if self.type not in _TYPES and not str(self.type).startswith("x-"):
            raise ConfigError(
                f"exchange {self.name!r} has the unknown type {self.type!r}; known: {', '.join(_TYPES)}, x-… of plugins"
            )
        _check_fields(self, f"exchange {self.name!r}", _OF_EXCHANGES)


class Binding(msgspec.Struct, frozen=True):
    """One more way from an exchange to a queue: `Queue("audit", bindings=(Binding(orders, "order.*.paid"), …))`."""

    exchange: Exchange
    routing_key: str = ""
    arguments: dict[str, Any] | None = None
    """For exchanges of type `headers`: what the headers must be."""


class Queue(msgspec.Struct, frozen=True):
    """A queue of this application.

    `Queue("media", Exchange("media", type="topic"), routing_key="media.#")` as in Celery; mostly `Queue("media")`.
    What follows `max_priority` is for RabbitMQ. A queue that says how it is to be declared (`queue_arguments`,
    `max_priority`, `expires`, …) is declared exactly so, as Celery would; the others are declared as celeriac has them.
    """

    name: str
    exchange: Exchange | str | None = None
    """None: the default exchange, where a message's routing key is the name of its queue."""
    routing_key: str | None = None
    """None: the queue's name."""
    priority: int | None = None
    """For messages that ask for none; 0 to 9, higher sooner."""
    max_priority: int | None = None
    """Messages that ask for more get this. On RabbitMQ also its `x-max-priority`."""
    queue_arguments: dict[str, Any] | None = None
    """Arguments of the declaration, for engines that have them (`x-…` of RabbitMQ)."""
    bindings: tuple[Binding, ...] = ()
    """What leads to it beside `exchange` and `routing_key`."""
    binding_arguments: dict[str, Any] | None = None
    """Of the binding to `exchange`."""
    consumer_arguments: dict[str, Any] | None = None
    """Of those who consume from it, such as `x-priority`."""
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    """It goes, with all that is in it, when nobody consumes from it any more."""
    no_declare: bool = False
    """Somebody else declares and binds it."""
    no_ack: bool = False
    expires: float | None = None
    """Seconds without use after which it goes."""
    message_ttl: float | None = None
    """Seconds after which a message in it goes."""
    max_length: int | None = None
    """Messages."""
    max_length_bytes: int | None = None
    alias: str | None = None
    """Another name for `queue=` and `-Q`."""
    broadcast: bool = False
    """Each worker that serves it gets a copy of every message; see `Broadcast`."""

    def __post_init__(self) -> None:
        check_queue_name(self.name)
        for field in ("priority", "max_priority"):
            value = getattr(self, field)
            if value is not None and (type(value) is not int or not 0 <= value <= 255):
                raise ConfigError(f"queue {self.name!r}: {field} must be an integer from 0 to 9, found {value!r}")
        _check_fields(self, f"queue {self.name!r}", _OF_QUEUES)

    @property
    def key(self) -> str:
        """The routing key that leads to this queue."""
        return self.routing_key or self.name

    @property
    def exchange_name(self) -> str:
        """The name of its exchange; empty for the default one."""
        exchange = self.exchange
        return exchange.name if isinstance(exchange, Exchange) else exchange or ""

    @property
    def exchange_type(self) -> str:
        """The type of its exchange."""
        return self.exchange.type if isinstance(self.exchange, Exchange) else "direct"

    def takes(self, routing_key: str) -> bool:
        """Whether a message with this routing key, on this queue's exchange, reaches this queue."""
        return _leads(self.exchange_type, self.key, routing_key)

    def reached(self, exchange: str, routing_key: str) -> str | None:
        """The type of the exchange of that name, if a message with this key reaches this queue from it.

        An empty key is any key; of exchanges that ask for headers, all messages are taken to.
        """
        ways = [(self.exchange_name, self.exchange_type, self.key)]
        ways += [(one.exchange.name, one.exchange.type, one.routing_key) for one in self.bindings]
        for name, kind, key in ways:
            if name == exchange and (not routing_key or _leads(kind, key, routing_key)):
                return kind
        return None


def Broadcast(name: str, exchange: Exchange | str | None = None, **options: Any) -> Queue:  # noqa: N802 - Celery's name
    """A queue whose every message goes to every worker that serves it; only on RabbitMQ.

    Args:
        name: For `queue=`, routes and `-Q`.
        exchange: Where messages are published to; a fanout exchange of this name unless given.
        options: Of `Queue`, such as `message_ttl`.
    """
    return Queue(name, exchange if exchange is not None else Exchange(name, "fanout"), broadcast=True, **options)


def worker_direct(node: str) -> Queue:
    """The queue that one worker has for itself with `worker_direct` on.

    Args:
        node: Its full name, such as `celery@host1`.
    """
    return Queue(f"{node}{_DIRECT_NAME}", Exchange(_DIRECT_EXCHANGE), node)


def is_direct(queue: Queue) -> bool:
    """Whether it belongs to one worker."""
    return queue.exchange_name == _DIRECT_EXCHANGE and queue.name.endswith(_DIRECT_NAME)


def node_of(name: str) -> str | None:
    """Whose queue it is by its name; None where it is no worker's."""
    return name.removesuffix(_DIRECT_NAME) if name.endswith(_DIRECT_NAME) and "@" in name else None


def _leads(kind: str, bound: str, routing_key: str) -> bool:
    if kind == "direct":
        return bound == routing_key
    return kind != "topic" or _topic(bound).fullmatch(routing_key) is not None


def _topic(pattern: str) -> re.Pattern[str]:
    """AMQP's topic pattern: `*` is one word, `#` any number of words, words are separated by dots."""
    text = re.escape(pattern).replace(r"\*", r"[^.]+")
    text = text.replace(r"\.\#", r"(?:\..*)?").replace(r"\#\.", r"(?:.*\.)?").replace(r"\#", ".*")
    return re.compile(text)


_FLAG = ("True or False", lambda value: type(value) is bool)
_SECONDS = ("a number of seconds above 0", lambda value: type(value) in (int, float) and 0 < value < 1e9)
_COUNT = ("an integer from 0", lambda value: type(value) is int and value >= 0)
_TABLE = ("a dict by name", lambda value: isinstance(value, Mapping) and all(isinstance(key, str) for key in value))
_TEXT = ("text", lambda value: isinstance(value, str))

_OF_EXCHANGES = {"durable": _FLAG, "auto_delete": _FLAG, "no_declare": _FLAG, "arguments": _TABLE}
_OF_QUEUES = {
    "routing_key": _TEXT,
    "queue_arguments": _TABLE,
    "binding_arguments": _TABLE,
    "consumer_arguments": _TABLE,
    "durable": _FLAG,
    "exclusive": _FLAG,
    "auto_delete": _FLAG,
    "no_declare": _FLAG,
    "no_ack": _FLAG,
    "broadcast": _FLAG,
    "expires": _SECONDS,
    "message_ttl": _SECONDS,
    "max_length": _COUNT,
    "max_length_bytes": _COUNT,
    "alias": _TEXT,
}


def _check_fields(value: msgspec.Struct, what: str, checks: Mapping[str, tuple[str, Any]]) -> None:
    for field, (expected, is_right) in checks.items():
        found = getattr(value, field)
        if found is not None and not is_right(found):
            raise ConfigError(f"{what}: {field} must be {expected}, found {found!r}")


def check_queue_name(name: object) -> str:
    """Refuse what cannot be a queue's name: it must be text of 1 to 255 characters without control characters."""
    if not isinstance(name, str) or not 0 < len(name) <= 255 or not name.isprintable():
        raise ConfigError(f"a queue's name must be text of 1 to 255 printable characters, found {name!r}")
    return name


def as_exchange(value: object) -> Exchange | None:
    """Make an `Exchange` of a name, an `Exchange`, or an object with kombu's attributes; None for the default one."""
    if isinstance(value, Exchange):
        return value if value.name else None
    if value is None or isinstance(value, str):
        return Exchange(value) if value else None
    if isinstance(value, Mapping):
        return as_exchange(_converted(value, Exchange, f"exchange {value.get('name')!r}"))
    name = getattr(value, "name", None)
    if not name:
        return None
    durable = getattr(value, "durable", None)
    return Exchange(
        name,
        getattr(value, "type", None) or "direct",
        durable=durable is None or bool(durable),
        auto_delete=bool(getattr(value, "auto_delete", None)),
        arguments=getattr(value, "arguments", None) or None,
        no_declare=bool(getattr(value, "no_declare", None) or getattr(value, "passive", None)),
    )


def _as_bindings(value: Iterable[Any], queue: str) -> tuple[Binding, ...]:
    bindings: list[Binding] = []
    for one in value:
        exchange = as_exchange(getattr(one, "exchange", None))
        if exchange is None:
            raise ConfigError(f"queue {queue!r}: a binding needs an exchange with a name, found {one!r}")
        bindings.append(Binding(exchange, getattr(one, "routing_key", None) or "", getattr(one, "arguments", None)))
    # kombu keeps them in a set
    return tuple(sorted(bindings, key=lambda one: (one.exchange.name, one.routing_key)))


def as_queue(value: object) -> Queue:
    """Make a `Queue` of a name, of a `Queue`, or of an object with kombu's attributes."""
    if isinstance(value, Queue):
        exchange = value.exchange
        # one form of the same: a name alone is a direct exchange, as in the other forms of `task_queues`
        return msgspec.structs.replace(value, exchange=Exchange(exchange)) if isinstance(exchange, str) else value
    if isinstance(value, str):
        return Queue(value)
    if isinstance(value, Mapping) and "name" in value:  # a Queue as plain data, as the supervisor is told its settings
        return as_queue(_converted(value, Queue, f"queue {value['name']!r}"))
    name = getattr(value, "name", None)
    if name is None or isinstance(value, type):
        raise ConfigError(f"a queue must be a name or a Queue, found {value!r}")
    made = {field: found for field in _PLAIN if (found := getattr(value, field, None)) is not None}
    flags: dict[str, Any] = {
        field: True for field in ("exclusive", "auto_delete", "no_declare", "no_ack") if getattr(value, field, 0)
    }
    durable = getattr(value, "durable", None)
    queue = Queue(
        name,
        as_exchange(getattr(value, "exchange", None)),
        getattr(value, "routing_key", None) or None,
        bindings=_as_bindings(getattr(value, "bindings", None) or (), name),
        alias=getattr(value, "alias", None) or None,
        durable=durable is None or bool(durable),
        **made,
        **flags,
    )
    return _as_broadcast(queue) if any(kind.__name__ == "Broadcast" for kind in type(value).__mro__) else queue


_PLAIN = (
    "priority", "max_priority", "queue_arguments", "binding_arguments", "consumer_arguments", "expires", "message_ttl",
    "max_length", "max_length_bytes",
)  # fmt: skip


def _as_broadcast(queue: Queue) -> Queue:
    """What kombu's `Broadcast` means: a name of its own making is a copy for each; a given one is one queue for all."""
    name = queue.alias or queue.exchange_name
    if not name:
        raise ConfigError(f"{queue!r}: a Broadcast needs a name")
    if not _GENERATED.search(queue.name):
        return queue
    return msgspec.structs.replace(queue, name=name, alias=None, broadcast=True, auto_delete=False)


def _converted(value: Mapping[Any, Any], kind: type[Any], what: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{what}: {exc}") from None


def queue_from_options(name: str, options: Mapping[str, Any] | None) -> Queue:
    """Make a `Queue` of Celery's options of it: those of `Queue`, with `exchange_type` and others of the exchange's.

    Raises:
        ConfigError: An option is unknown or has a wrong value.
    """
    check_queue_name(name)
    given = {key: value for key, value in (options or {}).items() if value is not None}
    given.pop("name", None)
    if given.get("exchange_type", "direct") != "direct":
        given.setdefault("exchange", name)
    if "binding_key" in given:  # Celery's older word
        given.setdefault("routing_key", given.pop("binding_key"))
    if "exchange" in given:  # here, as with Celery, the key is not one for all queues
        given.setdefault("routing_key", name)
    of_exchange = {field: given.pop(key) for field, key in _EXCHANGE_OPTIONS.items() if key in given}
    given.pop("delivery_mode", None)  # every message is stored
    for field in ("durable", "auto_delete"):
        if field in given:
            of_exchange.setdefault(field, given[field])
        if f"queue_{field}" in given:
            given[field] = given.pop(f"queue_{field}")
    known = Queue.__struct_fields__
    if unknown := [key for key in given if key not in known]:
        raise ConfigError(f"queue {name!r} has the unknown option {unknown[0]!r}; known: {', '.join(known)}")
    exchange = as_exchange(given.pop("exchange", None))
    if exchange is not None and of_exchange:
        exchange = msgspec.structs.replace(exchange, **of_exchange)
    if "bindings" in given:
        given["bindings"] = tuple(_binding(one, name) for one in given["bindings"])
    return Queue(name, exchange, **given)


_EXCHANGE_OPTIONS = {
    field: f"exchange_{field}" for field in ("type", "durable", "auto_delete", "arguments", "no_declare")
}


def _binding(value: object, queue: str) -> Binding:
    if isinstance(value, Mapping):
        exchange = as_exchange(value.get("exchange"))
        if exchange is None:
            raise ConfigError(f"queue {queue!r}: a binding needs an exchange with a name, found {value!r}")
        return Binding(exchange, value.get("routing_key") or "", value.get("arguments"))
    return _as_bindings((value,), queue)[0]


def as_queues(value: object) -> tuple[Queue, ...]:
    """Read `task_queues`: names or `Queue`s in a list, or `{name: {option: value}}`.

    Raises:
        ConfigError: Something in it is neither, or two queues have one name.
    """
    queues: list[Queue] = []
    if isinstance(value, Mapping):
        for name, options in value.items():
            if options is None or isinstance(options, Mapping):
                queues.append(queue_from_options(name, options))
            elif hasattr(options, "name"):
                queues.append(as_queue(options))
            else:
                raise ConfigError(f"queue {name!r}: its options must be a dict, found {options!r}")
    elif isinstance(value, (list, tuple, set, frozenset)):
        queues = [as_queue(item) for item in value]
    else:
        raise ConfigError(f"queues must be a list of names or Queues, or a dict by name, found {value!r}")
    names = [queue.name for queue in queues]
    names += [queue.alias for queue in queues if queue.alias not in (None, queue.name)]
    if doubles := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"queue {doubles[0]!r} is defined twice")
    return tuple(queues)


learn(Exchange, Queue)
