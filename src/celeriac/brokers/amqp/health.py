"""What a RabbitMQ server lets a client find out about itself: is it fit to keep this application's tasks?

Nothing is changed by asking. What a user may do is learnt from requests that cannot succeed: RabbitMQ looks at the
permissions first, so the reason of the refusal tells. Each of these leaves a line in the server's log.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from celeriac.brokers.amqp import notes, topology
from celeriac.brokers.amqp.layout import (
    DEAD_ARGUMENTS,
    DUE,
    LEVELS,
    TOP,
    UNCLAIMED,
    broadcast_name,
    companion_name,
    dead_name,
    level_name,
    own_arguments,
    rung_name,
)
from celeriac.brokers.amqp.methods import ExchangeDeclare, QueueDeclare, QueueUnbind
from celeriac.brokers.amqp.parking import EXCHANGE, own_name
from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import BackPressureError
from celeriac.storage.amqp import SocketLine
from celeriac.storage.amqp.faults import ChannelClosed, translate
from celeriac.storage.amqp.frames import Publication

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from celeriac.model import QueuePlan
    from celeriac.storage.amqp import AmqpUrl

OLDEST: Final = (3, 10)
"""The first version whose quorum queues lose nothing on the way to a queue of dead letters."""
_PINGS: Final = 20
_NO_PROPERTIES: Final = b"\x00\x00"
_BLOCKED_S: Final = 1.0
"""How long a message that nobody gets may take before the server counts as blocked."""

Right = Literal["configure", "write", "read"]
State = Literal["missing", "as planned", "other", "unknown"]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What there is under a queue's name."""

    name: str
    form: str
    """Of its plan: `own`, `celery` or `broadcast`."""
    state: State
    """`unknown`: the user may not find out."""
    is_classic: bool = False
    """It is, or is planned to be, one that lives on one node."""
    said: str = ""
    """How it differs, in the server's words."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """A server's answers, for the doctor."""

    product: str
    version: tuple[int, ...]
    cluster: str
    lacks: tuple[str, ...]
    """Capabilities that are needed."""
    vhost: str
    user: str
    tls: bool
    is_remote: bool
    """One of the hosts is not this one."""
    heartbeat_s: float
    consumer_timeout_s: float | None
    """As the application says; None: it says nothing."""
    confirms: bool
    blocked: str | None
    """Why the server takes no messages at present."""
    refused: dict[Right, tuple[str, ...]]
    """What the user may not do, with which names."""
    queues: tuple[Found, ...]
    stream: State
    """`celeriac.notes`."""
    has_ladder: bool
    latency_ms: float
    """The median of some round trips."""
    slowest_ms: float


def examine(
    line: SocketLine, plans: Sequence[QueuePlan], *, others: Sequence[str] = (), confirms: bool = True
) -> Health:
    """Ask one server all of it.

    Args:
        line: To the server.
        plans: Of the application's queues.
        others: More names of queues and exchanges that the application uses.
        confirms: Whether publishing waits for the server.

    Raises:
        BrokerUnavailableError: It cannot be reached.
        StorageError: It does not let us in.
    """
    where, server = line.where, line.server
    times = sorted(_ping(line) for _ in range(_PINGS))
    blocked, default_refused = _publish_nowhere(where)
    refused: dict[Right, tuple[str, ...]] = _refused(line, tuple(dict.fromkeys([*_names(plans), *others])))
    if default_refused:
        refused["write"] = ("amq.default", *refused.get("write", ()))
    timeout_s = where.options.get("consumer_timeout")
    return Health(
        product=server.product or "?",
        version=server.version,
        cluster=server.cluster,
        lacks=tuple(
            name
            for name in ("publisher_confirms", "basic.nack", "consumer_cancel_notify", "per_consumer_qos")
            if server.capabilities.get(name) is False
        ),
        vhost=where.vhost,
        user=where.user,
        tls=where.tls,
        is_remote=any(not _is_here(host) for host, _ in where.addresses),
        heartbeat_s=_seconds(where),
        consumer_timeout_s=None if timeout_s is None else float(timeout_s),
        confirms=confirms,
        blocked=blocked,
        refused=refused,
        queues=tuple(_look_at(line, plan) for plan in plans if plan.form != "broadcast"),
        stream=_compare(line, notes.STREAM, dict(notes.ARGUMENTS))[0],
        has_ladder=_is_there(line, ExchangeDeclare(exchange=DUE, passive=True))
        and _is_there(line, ExchangeDeclare(exchange=TOP, passive=True)),
        latency_ms=times[_PINGS // 2],
        slowest_ms=times[-1],
    )


def _seconds(where: AmqpUrl) -> float:
    value = where.options.get("heartbeat")
    return 10.0 if value is None else float(value)


def _is_here(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _ping(line: SocketLine) -> float:
    began = SYSTEM_CLOCK.monotonic()
    _is_there(line, ExchangeDeclare(exchange="amq.direct", passive=True))
    return (SYSTEM_CLOCK.monotonic() - began) * 1000.0


def _is_there(line: SocketLine, method: Any) -> bool:
    try:
        line.call(method)
    except ChannelClosed as exc:
        if exc.code == 404:
            return False
        if exc.code not in (403, 405):
            raise translate(exc, "look at", line.where.shown) from exc
    return True


# -- whether it takes messages ----------------------------------------------------------------------------------------


def _publish_nowhere(where: AmqpUrl) -> tuple[str | None, bool]:
    """Why messages are not taken, and whether the user may not publish to queues. On a connection of its own: one that
    has published is not read any more by a server that takes nothing.
    """
    line = SocketLine(where, purpose="doctor", timeout_s=_BLOCKED_S)
    try:
        with line.channel(confirms=True) as channel:
            nowhere = Publication("", f"doctor-{secrets.token_hex(8)}", _NO_PROPERTIES, b"")
            # Mandatory, so it comes back: there is no such queue. The first one is what makes the server stop reading.
            for _ in range(2):
                channel.publish([nowhere], timeout_s=_BLOCKED_S)
    except BackPressureError:
        return line.blocked or "no reason given", False
    except Exception as exc:
        if isinstance(exc.__cause__, ChannelClosed) and exc.__cause__.code == 403:
            return None, True
        raise
    finally:
        line.close()
    return None, False


# -- what the user may do ---------------------------------------------------------------------------------------------


def _names(plans: Iterable[QueuePlan]) -> Iterator[str]:
    for plan in plans:
        for binding in plan.bindings:
            yield binding.exchange.name
        if plan.form == "broadcast":
            yield topology.exchange_of(plan).name
            yield broadcast_name(plan.name, "celery@doctor")
            continue
        yield plan.name
        yield dead_name(plan.name)
        if plan.form == "own":
            yield from (level_name(plan.name, level) for level in LEVELS[1:])
        else:
            yield companion_name(plan.name)
    yield from (notes.STREAM, rung_name(0), DUE, UNCLAIMED, EXCHANGE, own_name(_NOBODY))


_NOBODY: Final[Any] = "doctor"


def _refused(line: SocketLine, names: Sequence[str]) -> dict[Right, tuple[str, ...]]:
    """What the user may not do."""
    anything = f"doctor-{secrets.token_hex(8)}"
    if _may_configure(line, anything) and _may_bind(line, anything, anything) is None:
        return {}  # with any name at all
    configure, write, read = [], [], []
    writable = ""
    for name in filter(None, names):
        if not _may_configure(line, name):
            configure.append(name)
        if (missing := _may_bind(line, name, name)) == "write":
            write.append(name)
        else:
            writable = name
            if missing == "read":
                read.append(name)
    if writable:  # of the others it is only known that writing was refused
        read += [name for name in write if _may_bind(line, writable, name) == "read"]
    found: dict[Right, list[str]] = {"configure": configure, "write": write, "read": read}
    return {right: tuple(each) for right, each in found.items() if each}


def _may_configure(line: SocketLine, name: str) -> bool:
    try:
        line.call(QueueDeclare(queue=name, durable=True, arguments={"x-expires": -1}))  # which no queue has
    except ChannelClosed as exc:
        return exc.code != 403 or "refused" not in exc.text
    return True


def _may_bind(line: SocketLine, queue: str, exchange: str) -> Right | None:
    """Which right is missing for it: to write to the queue, or to read from the exchange. A pattern is for both."""
    try:
        line.call(QueueUnbind(queue=queue, exchange=exchange, routing_key=f"doctor-{secrets.token_hex(8)}"))
    except ChannelClosed as exc:
        if exc.code == 403 and "refused" in exc.text:
            return "write" if "to queue" in exc.text else "read"
    return None


# -- queues -----------------------------------------------------------------------------------------------------------


def _look_at(line: SocketLine, plan: QueuePlan) -> Found:
    arguments = own_arguments(plan.name) if plan.form == "own" else plan.arguments
    is_classic = arguments.get("x-queue-type", "classic") == "classic"
    state, said = _compare(line, plan.name, arguments, durable=plan.durable, auto_delete=plan.auto_delete)
    if state == "other":
        is_classic = "current is 'classic'" in said or _compare(line, plan.name, {"x-queue-type": "classic"})[0] == (
            "as planned"
        )
    elif state == "as planned" and plan.form == "own":
        dead, said = _compare(line, dead_name(plan.name), DEAD_ARGUMENTS)
        state = "other" if dead == "other" else state
    return Found(name=plan.name, form=plan.form, state=state, is_classic=is_classic, said=said)


def _compare(line: SocketLine, name: str, arguments: Any, **flags: bool) -> tuple[State, str]:
    """Declare what exists: nothing happens if it is the same, and the server says what is not."""
    if not _is_there(line, QueueDeclare(queue=name, passive=True)):
        return "missing", ""
    try:
        line.call(QueueDeclare(queue=name, **{"durable": True, **flags}, arguments=dict(arguments)))
    except ChannelClosed as exc:
        if exc.code in (403, 405):
            return "unknown", exc.text
        return "other", exc.text.removeprefix("PRECONDITION_FAILED - ")
    return "as planned", ""
