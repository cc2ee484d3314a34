"""What is declared on an engine with exchanges: from the queues of an application to plans that its adapter follows."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from celeriac.app.queues import Exchange, Queue, as_queue, is_direct, queue_from_options
from celeriac.app.routing import default_exchange, default_key, in_celerys_words
from celeriac.errors import ConfigError
from celeriac.model import Binding, ExchangePlan, QueuePlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celeriac.app.routing import Router
    from celeriac.app.settings import Settings

_KEPT = 4096
_UNSHAPED = Queue("any")
_SHAPES = (
    "queue_arguments", "max_priority", "expires", "message_ttl", "max_length", "max_length_bytes", "durable",
    "exclusive", "auto_delete", "no_declare",
)  # fmt: skip
"""What says how a queue is declared; one that has any of it is declared so."""


class Topology:
    """The plans of an application's queues.

    Celery's queues share servers with Celery's programs, so they must be declared as these do it: an argument more is
    an error there. A queue is Celery's where the application is (`task_default_queue_type` is set), where it is among
    `task_celery_queues`, or where it says how it is to be declared.

    Args:
        router: Knows the queues.
        settings: Of the same application.

    Raises:
        ConfigError: Two queues contradict each other, or one cannot be declared or consumed from.
    """

    def __init__(self, router: Router, settings: Settings) -> None:
        self._router = router
        self._settings = settings
        self._plans: dict[str, QueuePlan] = {}
        self._declared = {queue.name for queue in settings.task_queues or ()}
        exchanges: dict[str, tuple[ExchangePlan, str]] = {}
        for name in self.known():
            for one in self.plan_of(name).bindings:
                known, other = exchanges.setdefault(one.exchange.name, (one.exchange, name))
                if known != one.exchange:
                    raise ConfigError(
                        f"exchange {known.name!r} is {_shown(known)} for queue {other!r} and "
                        f"{_shown(one.exchange)} for queue {name!r}; there is one exchange of a name"
                    )

    def known(self) -> list[str]:
        """The queues of the application: those of its settings, and those it has met."""
        return list(self._router.queues)

    def plan_of(self, name: str) -> QueuePlan:
        """How the queue of this name is declared where there is none.

        Raises:
            ConfigError: What was asked for it cannot be.
        """
        plan = self._plans.get(name)
        if plan is None:
            plan = self._make(self._router.queues.get(name) or self._router.missing(name))
            # a queue may be described later: `apply_async(queue=Queue(…))`, `add_consumer`
            if name in self._router.queues and len(self._plans) < _KEPT:
                self._plans[name] = plan
        return plan

    def add(self, queue: Queue) -> None:
        """Know one more queue, or one otherwise.

        Raises:
            ConfigError: It cannot be declared.
        """
        queue = as_queue(queue)
        plan = self._make(queue)
        self._router.add(queue)
        self._plans[queue.name] = plan

    def define(self, name: str, options: Mapping[str, Any]) -> None:
        """Know a queue by Celery's options of it, unless it is one of the application's; as `add`."""
        if name not in self._declared and options:
            self.add(queue_from_options(name, options))

    def _make(self, queue: Queue) -> QueuePlan:
        _check(queue)
        settings, name = self._settings, queue.name
        arguments = dict(queue.queue_arguments or {})
        limits = {
            "x-expires": _ms(queue.expires),
            "x-message-ttl": _ms(queue.message_ttl),
            "x-max-length": queue.max_length,
            "x-max-length-bytes": queue.max_length_bytes,
        }
        arguments |= {key: value for key, value in limits.items() if value is not None}
        if queue.broadcast:
            return QueuePlan(
                name=name,
                form="broadcast",
                durable=False,
                arguments=arguments,
                bindings=_bindings(queue, "" if queue.exchange_type == "fanout" else queue.key),
                consumer_arguments=dict(queue.consumer_arguments or {}),
            )
        if queue.max_priority is not None:
            arguments["x-max-priority"] = queue.max_priority
        elif settings.task_queue_max_priority is not None:
            arguments.setdefault("x-max-priority", settings.task_queue_max_priority)
        kind = None if name in self._declared else self._type_of(name)
        if kind == "quorum":
            arguments.setdefault("x-queue-type", kind)
        shaped = any(getattr(queue, field) != getattr(_UNSHAPED, field) for field in _SHAPES)
        is_celerys = kind is not None or shaped or bool(arguments) or is_direct(queue)
        is_celerys = is_celerys or any(fnmatchcase(name, pattern) for pattern in settings.task_celery_queues)
        if not is_celerys and name in self._declared:
            is_celerys = in_celerys_words(settings)
        if is_celerys:
            queue = self._on_exchange(queue)
        plan = QueuePlan(
            name=name,
            form="celery" if is_celerys else "own",
            durable=queue.durable,
            auto_delete=queue.auto_delete,
            arguments=arguments,
            consumer_arguments=dict(queue.consumer_arguments or {}),
            bindings=_bindings(queue, queue.key),
            declare=not queue.no_declare,
        )
        if arguments.get("x-queue-type") == "quorum":
            _check_quorum(plan)
        return plan

    def _type_of(self, name: str) -> str | None:
        settings = self._settings
        if name == settings.task_default_queue:
            return settings.task_default_queue_type
        return settings.task_create_missing_queue_type

    def _on_exchange(self, queue: Queue) -> Queue:
        """A queue of Celery's, bound as Celery binds it."""
        settings, name = self._settings, queue.name
        if queue.bindings and not queue.exchange_name:
            return queue
        if name in self._declared or name == settings.task_default_queue:
            exchange = queue.exchange if queue.exchange_name else default_exchange(settings)
            key = queue.routing_key or default_key(settings)
            return replace(queue, exchange=exchange or Exchange(settings.task_default_queue), routing_key=key)
        return queue if queue.exchange_name else replace(queue, exchange=Exchange(name))

    def describe(self, name: str) -> dict[str, Any]:
        """A queue as `inspect active_queues` shows it, in Celery's words."""
        queue = self._router.queues.get(name) or self._router.missing(name)
        has_exchanges = self._router.has_exchanges()
        plan = self.plan_of(name) if has_exchanges else QueuePlan(name=name)
        first = plan.bindings[0] if plan.bindings else None
        exchange = first.exchange if first is not None else ExchangePlan(name="" if has_exchanges else name)
        return {
            "name": name,
            "exchange": {
                "name": exchange.name,
                "type": exchange.type,
                "arguments": exchange.arguments or None,
                "durable": exchange.durable,
                "passive": False,
                "auto_delete": exchange.auto_delete,
                "delivery_mode": None,
                "no_declare": not exchange.declare,
            },
            "routing_key": name if first is None else first.routing_key,
            "queue_arguments": plan.arguments or None,
            "binding_arguments": first.arguments or None if first is not None else None,
            "consumer_arguments": plan.consumer_arguments or None,
            "durable": plan.durable,
            "exclusive": plan.exclusive,
            "auto_delete": plan.auto_delete,
            "no_ack": False,
            "alias": queue.alias,
            "bindings": [
                {
                    "exchange": one.exchange.name,
                    "routing_key": one.routing_key,
                    "arguments": one.arguments or None,
                    "unbind_arguments": None,
                }
                for one in plan.bindings[1:]
            ],
            "no_declare": True if not plan.declare else None,
            "expires": queue.expires,
            "message_ttl": queue.message_ttl,
            "max_length": queue.max_length,
            "max_length_bytes": queue.max_length_bytes,
            "max_priority": queue.max_priority,
        }


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)


def _bindings(queue: Queue, key: str) -> tuple[Binding, ...]:
    ways: list[Binding] = []
    if isinstance(queue.exchange, Exchange) and queue.exchange.name:
        plan = _exchange(queue.exchange)
        ways.append(Binding(exchange=plan, routing_key=key, arguments=dict(queue.binding_arguments or {})))
    ways += [
        Binding(exchange=_exchange(one.exchange), routing_key=one.routing_key, arguments=dict(one.arguments or {}))
        for one in queue.bindings
    ]
    return tuple(ways)


def _exchange(exchange: Exchange) -> ExchangePlan:
    return ExchangePlan(
        name=exchange.name,
        type=exchange.type,
        durable=exchange.durable,
        auto_delete=exchange.auto_delete,
        arguments=dict(exchange.arguments or {}),
        declare=not exchange.no_declare and not exchange.name.startswith("amq."),
    )


def _shown(plan: ExchangePlan) -> str:
    rest = [word for word, said in (("transient", not plan.durable), ("auto_delete", plan.auto_delete)) if said]
    return " ".join([plan.type, *rest, *([f"with {plan.arguments}"] if plan.arguments else [])])


def _check(queue: Queue) -> None:
    where = f"queue {queue.name!r}"
    if queue.exclusive:
        raise ConfigError(
            f"{where}: exclusive=True is for one connection, and a worker has one in each of its processes; for a "
            "queue of one worker's own there are worker_direct and Broadcast"
        )
    if queue.no_ack:
        raise ConfigError(
            f"{where}: no_ack=True loses what a worker holds when it dies; a task with acks_late=False is taken out of "
            "its queue when it starts"
        )
    arguments = queue.queue_arguments or {}
    if arguments.get("x-queue-type") == "stream":
        raise ConfigError(f"{where}: tasks cannot be taken out of a stream; x-queue-type is classic or quorum")


def _check_quorum(plan: QueuePlan) -> None:
    where = f"queue {plan.name!r} is a quorum queue, which"
    if "x-max-priority" in plan.arguments:
        raise ConfigError(
            f"{where} has no x-max-priority: leave out max_priority (task_queue_max_priority), or make it classic; "
            "quorum queues as celeriac declares them by itself have four levels of priority"
        )
    if not plan.durable or plan.auto_delete:
        raise ConfigError(f"{where} is always durable and never auto_delete; it says otherwise")
