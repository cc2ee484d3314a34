"""Queues and exchanges as an engine with exchanges of its own must declare them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class ExchangePlan(msgspec.Struct, frozen=True, kw_only=True):
    """An exchange."""

    name: str
    type: str = "direct"
    durable: bool = True
    auto_delete: bool = False
    arguments: dict[str, Any] = {}
    declare: bool = True
    """False: somebody else declares it; it is only bound to."""


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """What leads from an exchange to a queue."""

    exchange: ExchangePlan
    routing_key: str = ""
    arguments: dict[str, Any] = {}


class QueuePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A queue. One that exists already is used as it is, whatever its plan."""

    name: str
    form: Literal["own", "celery", "broadcast"] = "own"
    """`own`: as this package makes its queues (quorum, with levels for priorities and a queue of dead letters).
    `celery`: with exactly these arguments and flags, as Celery's processes would. `broadcast`: none of that name; each
    worker has a queue of its own, bound to the exchange of the queue's name, and gets a copy of all."""
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    arguments: dict[str, Any] = {}
    """Of the declaration: `x-queue-type`, `x-max-priority`, `x-expires` and so on."""
    consumer_arguments: dict[str, Any] = {}
    """Of `basic.consume`: `x-priority` and so on."""
    bindings: tuple[Binding, ...] = ()
    declare: bool = True
    """False: somebody else declares it, and binds it; it is only used."""
