"""The doctor's words about a RabbitMQ server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from celeriac.brokers.amqp.health import Health

Line = tuple[str, str, str, str]
"""Check, level, what was found, advice."""

_SLOW_MS: Final = 5.0
_HALF_AN_HOUR_S: Final = 1800.0
_SHOWN: Final = 6
_LIMITED: Final = (3, 8, 17)
"""The first version with a consumer timeout, at first of 15 minutes."""


def names(control_exchange: str, event_exchange: str, *, rpc: bool = False) -> tuple[str, ...]:
    """What remote control and events use, and results that are sent."""
    return (
        *(("00000000-0000-0000-0000-000000000000",) if rpc else ()),
        f"{control_exchange}.pidbox",
        f"reply.{control_exchange}.pidbox",
        f"celery@doctor.{control_exchange}.pidbox",
        f"doctor.reply.{control_exchange}.pidbox",
        event_exchange,
        f"{event_exchange}.doctor",
    )


def lines(health: Health, *, results: str | None) -> Iterator[Line]:
    """What to say, worst things included.

    Args:
        health: What was found.
        results: The kind of result store; None: there is none.
    """
    yield from _server(health)
    yield from _rights(health)
    if health.blocked is not None:
        yield (
            "alarm",
            "wrong",
            f"the server takes no messages: {health.blocked}",
            "free its memory or disk (rabbitmqctl status shows the limits); until then sending tasks is an error",
        )
    yield from _queues(health)
    yield from _own_parts(health)
    yield _publishing(health)
    yield from _way(health)
    yield _long_tasks(health)
    if results is None:
        yield (
            "doubles",
            "note",
            "nobody can look up whether a task has ended",
            (
                "one that is handed out again after a lost connection runs again: give a result_backend "
                "(docs/how-to/results.md)"
            ),
        )
    elif results == "rpc":
        yield (
            "doubles",
            "note",
            "sent to the process that sent the task",
            "chords and flows need a store, and a task that is handed out again after a lost connection runs again",
        )


def _server(health: Health) -> Iterator[Line]:
    from celeriac.brokers.amqp.health import OLDEST

    version = ".".join(map(str, health.version)) or "of unknown version"
    cluster = f", cluster {health.cluster}" if health.cluster else ""
    found = f"{health.product} {version}, vhost {health.vhost!r}{cluster}"
    if health.product != "RabbitMQ":
        yield "rabbitmq", "note", found, "only RabbitMQ is tried: quorum queues and a stream are needed"
    elif health.version and health.version < OLDEST:
        yield "rabbitmq", "wrong", found, "3.10 or newer is needed: upgrade the server"
    else:
        yield "rabbitmq", "ok", found, ""
    if health.lacks:
        yield "rabbitmq", "wrong", f"the server cannot do {', '.join(health.lacks)}", "use RabbitMQ 3.10 or newer"
    found = f"median {health.latency_ms:.2f} ms, slowest {health.slowest_ms:.2f} ms"
    if health.latency_ms > _SLOW_MS:
        yield "latency", "note", found, "each call waits that long: run workers and server in one network"
    else:
        yield "latency", "ok", found, ""


def _rights(health: Health) -> Iterator[Line]:
    if not health.refused:
        yield "rights", "ok", f"{health.user!r} may do all that is needed in {health.vhost!r}", ""
        return
    found = [f"{health.user!r} may not {right} {_some(names_, 24)}" for right, names_ in health.refused.items()]
    for each in found[:-1]:
        yield "rights", "wrong", each, ""
    yield (
        "rights",
        "wrong",
        found[-1],
        (
            f"rabbitmqctl set_permissions -p {health.vhost} {health.user} '.*' '.*' '.*', or patterns (configure, "
            "write, read) that match all of these"
        ),
    )


def _queues(health: Health) -> Iterator[Line]:
    missing = [each.name for each in health.queues if each.state == "missing"]
    others = [each for each in health.queues if each.state == "other"]
    classic = [each.name for each in health.queues if each.is_classic and each.state != "missing"]
    alike = [each.name for each in health.queues if each.state == "as planned"]
    if alike:
        yield "declarations", "ok", f"as planned: {_some(alike)}", ""
    if missing:
        yield "declarations", "ok", f"not there yet: {_some(missing)}; made when first used", ""
    for each in others:
        if each.form == "own":
            advice = (
                "it is used as it is, as one that Celery shares: dead letters and our own tasks lie beside it; "
                "to have it as planned, delete it while it is empty"
            )
        else:
            advice = (
                "it is used as it is; Celery's programs with the same settings stop with PRECONDITION_FAILED: "
                "make settings and queue agree"
            )
        yield "declarations", "note", f"{each.name} exists otherwise: {each.said}", advice
    if classic:
        yield (
            "declarations",
            "note",
            f"classic: {_some(classic)}",
            (
                "such a queue lives on one node and counts no returns; new ones are quorum queues unless "
                "task_default_queue_type or task_create_missing_queue_type says classic"
            ),
        )
    for each in health.queues:
        if each.state == "unknown":
            yield "declarations", "note", f"{each.name} cannot be compared: {each.said}", ""


def _own_parts(health: Health) -> Iterator[Line]:
    if health.stream == "other":
        yield (
            "notes",
            "wrong",
            "celeriac.notes is not the stream that it should be",
            (
                "revoked tasks run all the same, and nobody learns which task killed its process: stop all workers, "
                "then rabbitmqctl delete_queue celeriac.notes"
            ),
        )
    elif health.stream == "missing":
        yield "notes", "ok", "no stream celeriac.notes yet; the first worker makes it", ""
    else:
        yield "notes", "ok", "the stream celeriac.notes is there: revocations and deaths of processes", ""
    found = "the ladder is there" if health.has_ladder else "no ladder yet; made with the first delayed task"
    yield "delays", "ok", found, ""


def _publishing(health: Health) -> Line:
    if health.confirms:
        return "publishing", "ok", "each task is confirmed by the server", ""
    return (
        "publishing",
        "note",
        "without confirmation (confirm_publish)",
        "what is under way when the connection or the server is lost is gone, and nobody is told",
    )


def _way(health: Health) -> Iterator[Line]:
    if health.tls:
        yield "connection", "ok", "TLS", ""
    elif health.is_remote:
        yield (
            "connection",
            "wrong",
            "user, password and tasks travel in plain text",
            "use amqps://, unless the network is yours alone",
        )
    else:
        yield "connection", "ok", "without TLS, on this host", ""
    if health.heartbeat_s <= 0:
        yield (
            "heartbeat",
            "note",
            "none (broker_heartbeat)",
            "a worker notices a network that is silently gone after 20 s at the earliest, and one that idles may not",
        )
    else:
        yield "heartbeat", "ok", f"workers and server hear of each other every {health.heartbeat_s / 2:g} s", ""


def _long_tasks(health: Health) -> Line:
    said = health.consumer_timeout_s
    limit = f"{said or _HALF_AN_HOUR_S:g} s" if said else "half an hour"
    found = f"taken to be {limit}; what runs longer than 80 % of it renews its hold"
    if said is None:
        advice = "if rabbitmq.conf has a lower consumer_timeout, say so: docs/how-to/rabbitmq.md, long tasks"
        return "consumer_timeout", "note" if _LIMITED <= health.version < (3, 9) else "ok", found, advice
    return "consumer_timeout", "ok", found, ""


def _some(found: Sequence[str], most: int = _SHOWN) -> str:
    more = len(found) - most
    return ", ".join(found[:most]) + (f" and {more} more" if more > 0 else "")
