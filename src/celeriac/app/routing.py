"""Which queue a task goes to, and on engines with exchanges, by which of them: the router that reads `task_routes`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.app.queues import Exchange, Queue, as_exchange, as_queue, check_queue_name, node_of, worker_direct
from celeriac.errors import ConfigError, NotSupportedError, QueueNotFoundError

if TYPE_CHECKING:
    from celeriac.app.settings import Settings

_GLOB = re.compile(r"[*?\[]")
_KEPT = 4096  # task names whose route is remembered; `send_task` may be given any name, so there must be an end


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
        exchanges: Whether the engine has exchanges; asked when the first message meets one.

    Raises:
        QueueNotFoundError: `task_create_missing_queues` is off and the default queue is not in `task_queues`.
    """

    def __init__(self, settings: Settings, *, exchanges: Callable[[], bool] = lambda: False) -> None:
        self._create_missing = settings.task_create_missing_queues
        self._missing_type = settings.task_create_missing_queue_exchange_type or "direct"
        self._default_priority = settings.task_default_priority
        self._max_priority = settings.task_queue_max_priority
        self.has_exchanges = exchanges
        self._known: dict[str, dict[str, Any]] = {}
        default = settings.task_default_queue
        shared, key = default_exchange(settings), default_key(settings)
        self._queues: dict[str, Queue] = {}
        self._aliases: dict[str, str] = {}
        for queue in settings.task_queues or ():
            self.add(_on_default(queue, shared, key, for_all=in_celerys_words(settings)))
        if default not in self._queues and (self._create_missing or settings.task_queues is None):
            self._queues[default] = Queue(default, shared, settings.task_default_routing_key)
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

    @property
    def queues(self) -> Mapping[str, Queue]:
        """The queues known so far: those of `task_queues`, the default one, and those made when asked for."""
        return self._queues

    def add(self, queue: Queue) -> None:
        """Know one more queue, or one otherwise."""
        self._known.clear()
        self._queues[queue.name] = queue
        if queue.alias:
            self._aliases[queue.alias] = queue.name

    def queue(self, name: str) -> Queue:
        """Look a queue up by its name or alias, and make it where that is allowed.

        Raises:
            QueueNotFoundError: It is not in `task_queues` and `task_create_missing_queues` is off.
        """
        queue = self._queues.get(name)
        if queue is None and (alias := self._aliases.get(name)) is not None:
            queue = self._queues[alias]
        if queue is None:
            if not self._create_missing:
                raise QueueNotFoundError(
                    f"queue {name!r} is not in task_queues and task_create_missing_queues is off; "
                    f"known: {', '.join(sorted(self._queues)) or 'none'}"
                )
            queue = self.missing(name)
            if len(self._queues) < _KEPT:  # names can come from data; this is a memory, not a register
                self._queues[name] = queue
        return queue

    def missing(self, name: str) -> Queue:
        """A queue that nobody has described."""
        if (node := node_of(name)) is not None:
            return worker_direct(node)
        if self._missing_type != "direct":
            return Queue(name, Exchange(name, self._missing_type))
        return Queue(name)

    def select(self, only: Sequence[str] = (), exclude: Sequence[str] = ()) -> tuple[str, ...]:
        """The queues that a worker serves: `only`, else those of `task_queues`, else the default; without `exclude`.

        Raises:
            QueueNotFoundError: One of `only` does not exist and may not be made.
            NotSupportedError: One is a broadcast queue, which the engine does not have.
            ConfigError: Nothing is left.
        """
        names = [self.queue(name).name for name in only] or list(self._declared)
        exclude = [self._aliases.get(name, name) for name in exclude]
        left = tuple(dict.fromkeys(name for name in names if name not in exclude))
        if not left:
            raise ConfigError(f"no queue is left to serve: {', '.join(names)} without {', '.join(exclude)}")
        for name in left:
            if self._queues[name].broadcast:
                self._check_broadcast(name)
        return left

    def _check_broadcast(self, name: str) -> None:
        if not self.has_exchanges():
            raise NotSupportedError(
                f"Broadcast({name!r}): on this engine a task goes to one worker; RabbitMQ has broadcast queues. For "
                "something that every worker shall do, use a remote-control command (@control_command and "
                "app.control.broadcast)"
            )

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
        exchange = as_exchange(answer.get("exchange")) if "exchange" in answer else None
        key: str = answer.get("routing_key") or ""
        address: tuple[str, str] | None = None
        if named is None and (exchange is not None or key):
            queue, address = self._bound(exchange.name if exchange is not None else "", key)
        elif named is None:
            queue = self._default
        elif isinstance(named, str):
            queue = self.queue(named)
        else:
            queue = as_queue(named)
            if self._queues.setdefault(queue.name, queue) is queue and queue.alias:
                self._aliases[queue.alias] = queue.name
        answer["queue"] = queue.name
        if address is None:
            address = self._address(queue, exchange, key, answer.get("exchange_type"))
        if queue.routing_key is not None and (queue.routing_key != queue.name or queue.exchange_name):
            answer.setdefault("routing_key", queue.routing_key)
        if queue.exchange_name:
            answer.setdefault("exchange", queue.exchange_name)
        if address is not None:
            answer["address"] = address
        priority = answer.get("priority")
        if priority is None:
            priority = queue.priority if queue.priority is not None else self._default_priority
        if priority is not None:
            most = queue.max_priority if queue.max_priority is not None else self._max_priority
            answer["priority"] = priority if most is None else min(priority, most)
        return answer

    def _address(self, queue: Queue, exchange: Exchange | None, key: str, kind: str | None) -> tuple[str, str] | None:
        """Where a message for a queue is published, if not to the queue itself.

        Celery's rule: to the queue itself where its exchange is a direct one, unless exchange and key are both given.
        """
        if queue.broadcast:
            self._check_broadcast(queue.name)
        elif (kind or queue.exchange_type) == "direct" and not (exchange is not None and key):
            return None
        if not self.has_exchanges():
            return None
        return exchange.name if exchange is not None else queue.exchange_name, key or queue.key

    def _bound(self, exchange: str, key: str) -> tuple[Queue, tuple[str, str] | None]:
        """The queue that an exchange and routing key lead to, and where else than to it a message is published.

        Where the engine has exchanges, it says itself where a message goes, and who else listens is not known here.
        """
        bound: list[Queue] = []
        kind: str | None = None
        for queue in self._queues.values():
            if (found := queue.reached(exchange, key)) is not None:
                bound.append(queue)
                kind = kind or found
        if not exchange:
            if bound:
                return bound[0], None
            if self._default.exchange_type != "direct":
                return self._bound(self._default.exchange_name, key) if key else (self._default, None)
            # Celery publishes where nobody listens, and the task is lost; ours goes to the default queue
            return self._default, None
        if bound and kind == "direct" and not key and len(bound) == 1:
            return bound[0], None
        where = f"exchange {exchange!r} with routing key {key!r}"
        if (kind is None or kind != "direct" or key) and self.has_exchanges():
            return (bound[0] if bound else self._default), (exchange, key)
        if len(bound) == 1:
            return bound[0], None
        if bound:
            names = ", ".join(queue.name for queue in bound)
            raise ConfigError(f"{where} leads to several queues ({names}); a task goes to one: give queue=")
        known = ", ".join(f"{queue.exchange_name or '(default)'}/{queue.key}" for queue in self._queues.values())
        raise QueueNotFoundError(f"no queue is bound to {where}; known: {known}")


def in_celerys_words(settings: Settings) -> bool:
    """Whether queues are Celery's unless they say otherwise: an application of Celery's, or one that shares queues."""
    return settings.task_default_queue_type is not None


def default_exchange(settings: Settings) -> Exchange | None:
    """The exchange of queues in `task_queues` that name none; None: the nameless one. Named as Celery does."""
    name, kind = settings.task_default_exchange, settings.task_default_exchange_type
    return Exchange(name or settings.task_default_queue, kind) if name or kind != "direct" else None


def default_key(settings: Settings) -> str | None:
    """The routing key of those that have none; None: each one's name. Celery has one key for all of them."""
    if settings.task_default_routing_key is None and not in_celerys_words(settings):
        return None
    return settings.task_default_routing_key or settings.task_default_queue


def _on_default(queue: Queue, shared: Exchange | None, key: str | None, *, for_all: bool) -> Queue:
    if queue.broadcast or queue.bindings:
        return queue
    if not queue.exchange_name:
        queue = msgspec.structs.replace(queue, exchange=shared)
    elif not for_all:
        return queue
    if queue.exchange_type != "direct":  # a direct one is passed by, so its key says only who else may send there
        queue = msgspec.structs.replace(queue, routing_key=queue.routing_key or key)
    return queue


def _resolve(router: str | type) -> Callable[..., Any] | Any:
    """The router behind a dotted name; a class with `route_for_task` is made an object, as in Celery."""
    from celeriac.app.finder import load_symbol

    found = load_symbol(router, "task_routes") if isinstance(router, str) else router
    if isinstance(found, type):
        found = found()
    if not (callable(found) or hasattr(found, "route_for_task")):
        raise ConfigError(f"task_routes: {router!r} is {found!r}, which is neither a function nor a router object")
    return found
