"""Which queue a task goes to: queues as values, and the router that reads `task_routes`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.errors import ConfigError, QueueNotFoundError

if TYPE_CHECKING:
    from celeriac.app.settings import Settings

_GLOB = re.compile(r"[*?\[]")
_KEPT = 4096  # task names whose route is remembered; `send_task` may be given any name, so there must be an end


class Exchange(msgspec.Struct, frozen=True):
    """What a queue is bound to, in AMQP's words. Engines without exchanges use it only to choose the queue."""

    name: str = ""
    type: str = "direct"
    """`direct`, `topic` or `fanout`."""


class Queue(msgspec.Struct, frozen=True):
    """A queue of this application.

    `Queue("media", Exchange("media", type="topic"), routing_key="media.#")` as in Celery; mostly `Queue("media")`.
    """

    name: str
    exchange: Exchange | str | None = None
    """None: the default exchange, where a message's routing key is the name of its queue."""
    routing_key: str | None = None
    """None: the queue's name."""
    priority: int | None = None
    """For messages that ask for none; 0 to 9, higher sooner."""
    max_priority: int | None = None
    """Messages that ask for more get this."""
    queue_arguments: dict[str, Any] | None = None
    """Arguments of the declaration, for engines that have them (`x-…` of RabbitMQ)."""

    def __post_init__(self) -> None:
        check_queue_name(self.name)
        for field in ("priority", "max_priority"):
            value = getattr(self, field)
            if value is not None and (type(value) is not int or not 0 <= value <= 255):
                raise ConfigError(f"queue {self.name!r}: {field} must be an integer from 0 to 9, found {value!r}")

    @property
    def key(self) -> str:
        """The routing key that leads to this queue."""
        return self.routing_key or self.name

    @property
    def exchange_name(self) -> str:
        """The name of its exchange; empty for the default one."""
        exchange = self.exchange
        return exchange.name if isinstance(exchange, Exchange) else exchange or ""

    def takes(self, routing_key: str) -> bool:
        """Whether a message with this routing key, on this queue's exchange, reaches this queue."""
        kind = self.exchange.type if isinstance(self.exchange, Exchange) else "direct"
        if kind == "fanout":
            return True
        if kind == "topic":
            return _topic(self.key).fullmatch(routing_key) is not None
        return self.key == routing_key


def _topic(pattern: str) -> re.Pattern[str]:
    """AMQP's topic pattern: `*` is one word, `#` any number of words, words are separated by dots."""
    text = re.escape(pattern).replace(r"\*", r"[^.]+")
    text = text.replace(r"\.\#", r"(?:\..*)?").replace(r"\#\.", r"(?:.*\.)?").replace(r"\#", ".*")
    return re.compile(text)


def check_queue_name(name: object) -> str:
    """Refuse what cannot be a queue's name: it must be text of 1 to 255 characters without control characters."""
    if not isinstance(name, str) or not 0 < len(name) <= 255 or not name.isprintable():
        raise ConfigError(f"a queue's name must be text of 1 to 255 printable characters, found {name!r}")
    return name


def as_queue(value: object) -> Queue:
    """Make a `Queue` of a name, of a `Queue`, or of an object with kombu's attributes."""
    if isinstance(value, Queue):
        exchange = value.exchange
        # one form of the same: a name alone is a direct exchange, as in the other forms of `task_queues`
        return msgspec.structs.replace(value, exchange=Exchange(exchange)) if isinstance(exchange, str) else value
    if isinstance(value, str):
        return Queue(value)
    if isinstance(value, Mapping) and "name" in value:  # a Queue as plain data, as the supervisor is told its settings
        try:
            return as_queue(msgspec.convert(value, Queue))
        except msgspec.ValidationError as exc:
            raise ConfigError(f"queue {value['name']!r}: {exc}") from None
    name = getattr(value, "name", None)
    if name is None or isinstance(value, type):
        raise ConfigError(f"a queue must be a name or a Queue, found {value!r}")
    exchange = getattr(value, "exchange", None)
    exchange_name = getattr(exchange, "name", exchange) or ""
    return Queue(
        name,
        Exchange(exchange_name, getattr(exchange, "type", None) or "direct") if exchange_name else None,
        getattr(value, "routing_key", None) or None,
        max_priority=getattr(value, "max_priority", None),
        queue_arguments=getattr(value, "queue_arguments", None),
    )


def as_queues(value: object) -> tuple[Queue, ...]:
    """Read `task_queues`: names or `Queue`s in a list, or `{name: {option: value}}`.

    Raises:
        ConfigError: Something in it is neither, or two queues have one name.
    """
    queues: list[Queue] = []
    if isinstance(value, Mapping):
        for name, options in value.items():
            if isinstance(options, Mapping):
                options = dict(options)
                exchange, kind = options.pop("exchange", None), options.pop("exchange_type", None)
                if isinstance(exchange, str):
                    exchange = Exchange(exchange, kind or "direct")
                if "binding_key" in options:  # Celery's older word
                    options.setdefault("routing_key", options.pop("binding_key"))
                known = Queue.__struct_fields__
                if unknown := [key for key in options if key not in known]:
                    raise ConfigError(
                        f"queue {name!r} has the unknown option {unknown[0]!r}; known: {', '.join(known)}"
                    )
                options.pop("name", None)
                queues.append(Queue(check_queue_name(name), exchange, **options))
            elif options is None:
                queues.append(Queue(check_queue_name(name)))
            else:
                raise ConfigError(f"queue {name!r}: its options must be a dict, found {options!r}")
    elif isinstance(value, (list, tuple, set, frozenset)):
        queues = [as_queue(item) for item in value]
    else:
        raise ConfigError(f"queues must be a list of names or Queues, or a dict by name, found {value!r}")
    names = [queue.name for queue in queues]
    if doubles := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"queue {doubles[0]!r} is defined twice")
    return tuple(queues)


def check_routes(routes: object) -> None:
    """Refuse a `task_routes` that no task could be routed by; callables and dotted names are taken as they are.

    Raises:
        ConfigError: A part of it has the wrong shape; the message shows the part.
    """
    for entry in routes if isinstance(routes, (list, tuple)) else (routes,):
        if isinstance(entry, (Mapping, list, tuple)):
            _RouteMap(entry)
        elif not (isinstance(entry, str) or callable(entry) or hasattr(entry, "route_for_task")):
            raise ConfigError(
                f"a route must be a dict, a list of pairs, a function or the dotted name of one, found {entry!r}"
            )


def _as_route(target: object, where: str) -> dict[str, Any]:
    """Make the options of what a route says: a queue's name, a Queue, or a dict of options."""
    if isinstance(target, str):
        return {"queue": check_queue_name(target)}
    if isinstance(target, Mapping):
        route = dict(target)
        queue = route.get("queue")
        if queue is not None and not isinstance(queue, str):
            route["queue"] = as_queue(queue)
        return route
    if hasattr(target, "name"):
        return {"queue": as_queue(target)}
    raise ConfigError(f"{where} must say a queue's name or a dict of options such as {{'queue': …}}, found {target!r}")


class _RouteMap:
    """One dict (or list of pairs) of `task_routes`: exact names first, then patterns in their order."""

    def __init__(self, routes: Mapping[Any, Any] | Sequence[Any]) -> None:
        self.exact: dict[str, dict[str, Any]] = {}
        self.patterns: list[tuple[re.Pattern[str], dict[str, Any]]] = []
        pairs = routes.items() if isinstance(routes, Mapping) else routes
        for pair in pairs:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise ConfigError(
                    f"task_routes: expected a (pattern, route) pair, found {pair!r}; "
                    "pairs stand in a list of their own: task_routes = [[('feed.*', 'feeds'), …]]"
                )
            pattern, target = pair
            route = _as_route(target, f"the route of {pattern!r}")
            if isinstance(pattern, re.Pattern):
                self.patterns.append((pattern, route))
            elif not isinstance(pattern, str):
                raise ConfigError(f"a route's key must be a task name, a glob or a compiled regex, found {pattern!r}")
            elif _GLOB.search(pattern):
                self.patterns.append((re.compile(fnmatch.translate(pattern)), route))
            else:
                self.exact[pattern] = route

    def find(self, name: str) -> dict[str, Any] | None:
        if (route := self.exact.get(name)) is not None:
            return route
        for pattern, route in self.patterns:
            if pattern.match(name):
                return route
        return None


class Router:
    """Finds the queue, and what else a route says, for each message.

    Where only names decide (no function in `task_routes`, no option in the call), the answer for a task is worked
    out once and then one dict lookup.

    Args:
        settings: `task_routes`, `task_queues`, `task_default_queue` and their kin are read once, here.

    Raises:
        QueueNotFoundError: `task_create_missing_queues` is off and the default queue is not in `task_queues`.
    """

    def __init__(self, settings: Settings) -> None:
        self._create_missing = settings.task_create_missing_queues
        self._default_priority = settings.task_default_priority
        self._max_priority = settings.task_queue_max_priority
        self._queues: dict[str, Queue] = {queue.name: queue for queue in settings.task_queues or ()}
        default = settings.task_default_queue
        if default not in self._queues and (self._create_missing or settings.task_queues is None):
            exchange = settings.task_default_exchange
            self._queues[default] = Queue(
                default,
                Exchange(exchange, settings.task_default_exchange_type) if exchange else None,
                settings.task_default_routing_key,
            )
        self._default = self.queue(default)
        self._declared = tuple(queue.name for queue in settings.task_queues or ()) or (default,)
        routes = settings.task_routes
        if routes is None:
            routes = ()
        elif not isinstance(routes, (list, tuple)):
            routes = (routes,)
        self._routers: list[_RouteMap | str | Any] = [
            _RouteMap(entry) if isinstance(entry, (Mapping, list, tuple)) else entry for entry in routes
        ]
        self._by_name_only = all(isinstance(router, _RouteMap) for router in self._routers)
        self._known: dict[str, dict[str, Any]] = {}

    @property
    def queues(self) -> Mapping[str, Queue]:
        """The queues known so far: those of `task_queues`, the default one, and those made when asked for."""
        return self._queues

    def queue(self, name: str) -> Queue:
        """Look a queue up, and make it where that is allowed.

        Raises:
            QueueNotFoundError: It is not in `task_queues` and `task_create_missing_queues` is off.
        """
        queue = self._queues.get(name)
        if queue is None:
            if not self._create_missing:
                raise QueueNotFoundError(
                    f"queue {name!r} is not in task_queues and task_create_missing_queues is off; "
                    f"known: {', '.join(sorted(self._queues)) or 'none'}"
                )
            queue = Queue(name)
            if len(self._queues) < _KEPT:  # names can come from data; this is a memory, not a register
                self._queues[name] = queue
        return queue

    def select(self, only: Sequence[str] = (), exclude: Sequence[str] = ()) -> tuple[str, ...]:
        """The queues that a worker serves: `only`, else those of `task_queues`, else the default; without `exclude`.

        Raises:
            QueueNotFoundError: One of `only` does not exist and may not be made.
            ConfigError: Nothing is left.
        """
        names = [self.queue(name).name for name in only] or list(self._declared)
        left = tuple(dict.fromkeys(name for name in names if name not in exclude))
        if not left:
            raise ConfigError(f"no queue is left to serve: {', '.join(names)} without {', '.join(exclude)}")
        return left

    def route(
        self,
        options: Mapping[str, Any],
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        task: object = None,
    ) -> Mapping[str, Any]:
        """Where a message goes.

        Args:
            options: What the caller (or the task) asks for; it wins over every route, key by key.
            name: The task's name.
            args: Handed to routing functions.
            kwargs: The same.
            task: The task object where there is one; handed to routing functions.

        Returns:
            The options and the route's together, with `queue` a name, and `priority` (0 to 9) where anything set one.
            Not to be changed: it may be shared between calls.

        Raises:
            QueueNotFoundError: The queue, or the exchange and routing key, lead nowhere.
            ConfigError: A routing function returned something that is no route.
        """
        if not options:
            if (known := self._known.get(name)) is not None:
                return known
            if self._by_name_only:
                answer = self._settle(self._lookup(name, (), {}, {}, None), {})
                if len(self._known) >= _KEPT:
                    self._known.clear()
                self._known[name] = answer
                return answer
        found = self._lookup(name, args, kwargs or {}, options, task) if self._routers else None
        return self._settle(found, options)

    def _lookup(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any], task: object
    ) -> dict[str, Any] | None:
        for position, router in enumerate(self._routers):
            if isinstance(router, _RouteMap):
                if (route := router.find(name)) is not None:
                    return route
                continue
            if isinstance(router, (str, type)):
                router = self._routers[position] = _resolve(router)
            if hasattr(router, "route_for_task"):
                target = router.route_for_task(name, args, kwargs)
            else:
                target = router(name, args, kwargs, options, task=task)
            if target is not None:
                return _as_route(target, f"the routing function {router!r}, asked for {name!r},")
        return None

    def _settle(self, route: Mapping[str, Any] | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """Put route and options together and find the queue they mean."""
        answer: dict[str, Any] = dict(route) if route else {}
        if options:
            asked = {key: value for key, value in options.items() if value is not None}
            if "queue" in asked:  # the route's own way to its queue does not apply to another queue
                answer.pop("exchange", None)
                answer.pop("routing_key", None)
            answer |= asked
        named = answer.get("queue")
        if named is None:
            queue = self._bound(answer) if "routing_key" in answer or answer.get("exchange") else self._default
        elif isinstance(named, str):
            queue = self.queue(named)
        else:
            queue = as_queue(named)
            self._queues.setdefault(queue.name, queue)
        answer["queue"] = queue.name
        if queue.routing_key is not None:
            answer.setdefault("routing_key", queue.routing_key)
        if queue.exchange_name:
            answer.setdefault("exchange", queue.exchange_name)
        priority = answer.get("priority")
        if priority is None:
            priority = queue.priority if queue.priority is not None else self._default_priority
        if priority is not None:
            most = queue.max_priority if queue.max_priority is not None else self._max_priority
            answer["priority"] = priority if most is None else min(priority, most)
        return answer

    def _bound(self, answer: Mapping[str, Any]) -> Queue:
        """The queue that an exchange and routing key lead to."""
        exchange = answer.get("exchange")
        exchange = getattr(exchange, "name", exchange) or ""
        key = answer.get("routing_key") or ""
        bound = [
            queue
            for queue in self._queues.values()
            if queue.exchange_name == exchange and (queue.takes(key) if key else True)
        ]
        if len(bound) == 1 or (bound and not exchange):
            return bound[0]
        where = f"exchange {exchange!r} with routing key {key!r}"
        if bound:
            names = ", ".join(queue.name for queue in bound)
            raise ConfigError(f"{where} leads to several queues ({names}); a task goes to one: give queue=")
        if not exchange:  # Celery publishes where nobody listens, and the task is lost; ours goes to the default queue
            return self._default
        known = ", ".join(f"{queue.exchange_name or '(default)'}/{queue.key}" for queue in self._queues.values())
        raise QueueNotFoundError(f"no queue is bound to {where}; known: {known}")


def _resolve(router: str | type) -> Callable[..., Any] | Any:
    """The router behind a dotted name; a class with `route_for_task` is made an object, as in Celery."""
    from celeriac.app.finder import load_symbol

    found = load_symbol(router, "task_routes") if isinstance(router, str) else router
    if isinstance(found, type):
        found = found()
    if not (callable(found) or hasattr(found, "route_for_task")):
        raise ConfigError(f"task_routes: {router!r} is {found!r}, which is neither a function nor a router object")
    return found
