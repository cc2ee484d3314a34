"""The only place that knows which adapter serves which URL; adapters are imported when their URL is asked for."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from celeriac.app.urls import NO_RESULTS, RPC, parse
from celeriac.errors import ConfigError
from celeriac.masking import masked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from celeriac.app.settings import Settings
    from celeriac.app.topology import Topology
    from celeriac.app.urls import Location
    from celeriac.clock import Clock
    from celeriac.codec import Codec
    from celeriac.interfaces import Broker, ControlChannel, EventChannel, ResultStore

_KEEPERS: Final = frozenset({"redis", "sqlite"})
_MARKS_FILE: Final = "sqlite:///celeriac-beat.db"


def open_broker(
    url: str,
    settings: Settings,
    clock: Clock,
    codec: Codec,
    *,
    reply_to: Callable[[], str | None] | None = None,
    topology: Callable[[], Topology] | None = None,
) -> Broker:
    """Make the adapter for `url`; nothing is connected or created yet.

    Args:
        url: Where messages are kept.
        settings: The application's.
        clock: For due times.
        codec: The application's.
        topology: How queues are declared, where they are; asked for each of them. By the settings unless given.
        reply_to: The address that messages name for their results, where these travel over the broker, too.

    Raises:
        ConfigError: No adapter serves the URL; the message names those that exist.
    """
    location = parse(url, "broker")
    if location.adapter == "memory":
        from celeriac.brokers.memory import MemoryBroker

        return MemoryBroker(url, clock=clock)
    if location.adapter == "redis":
        from zoneinfo import ZoneInfo

        from celeriac.brokers.redis import RedisBroker
        from celeriac.codec.kombu import KombuForm

        options = _redis_options(settings.broker_transport_options, settings.broker_use_ssl)
        results = settings.result_backend or url
        return RedisBroker(
            url,
            timeout_s=settings.task_publish_timeout,
            clock=clock,
            key_prefix=str(options.get("global_keyprefix", "")),
            result_prefix=_result_prefix(settings) if parse(results, "result store").url == location.url else "",
            options=options,
            foreign=KombuForm(codec, timezone=ZoneInfo(settings.timezone), clock=clock),
            is_foreign=_matcher(settings.task_celery_queues),
            consume_foreign=settings.worker_consume_celery,
        )
    if location.adapter == "amqp":
        return _open_amqp(url, settings, clock, codec, reply_to, topology)
    from celeriac.brokers.sqlite import SqliteBroker

    return SqliteBroker(url, clock=clock, **_sqlite_options(settings))


def marks_location(settings: Settings) -> Location:
    """Where marks of schedules are that the broker does not keep: as said, with the results, or in a file.

    Raises:
        ConfigError: `beat_store` names something that keeps no schedules.
    """
    if settings.beat_store is not None:
        location = parse(settings.beat_store, "broker")
        if location.adapter in _KEEPERS:
            return location
        raise ConfigError(
            f"beat_store={masked(settings.beat_store)!r}: schedules are kept by Redis and by SQLite: redis://…, "
            "sqlite:///…"
        )
    if settings.result_backend is not None:
        location = parse(settings.result_backend, "result store")
        if location.adapter in _KEEPERS:
            return location
    return parse(_MARKS_FILE, "broker")


def open_marks(location: Location, settings: Settings, clock: Clock) -> Broker:
    """Make the adapter that keeps the marks; what the result store's connections need, these need."""
    if location.adapter == "redis":
        from celeriac.brokers.redis import RedisBroker

        options = _redis_options(settings.result_backend_transport_options, settings.redis_backend_use_ssl)
        return RedisBroker(
            location.url,
            timeout_s=settings.task_publish_timeout,
            clock=clock,
            key_prefix=str(options.get("global_keyprefix", "")),
            result_prefix="",
            options=options,
        )
    from celeriac.brokers.sqlite import SqliteBroker

    return SqliteBroker(location.url, clock=clock, **_sqlite_options(settings))


def open_results(url: str, settings: Settings, clock: Clock, codec: Codec) -> ResultStore | None:
    """Make the result store for `url`; None where there are none. Raises as `open_broker`.

    Results are kept with the broker unless `result_backend` says else. RabbitMQ keeps none: there, saying nothing means
    that there are none, as with Celery.
    """
    location = parse(url, "result store")
    if location.adapter == NO_RESULTS:
        return None
    if location.adapter == "amqp":
        if settings.result_backend is None:
            return None
        raise ConfigError(
            f"result_backend={masked(url)!r}: RabbitMQ keeps no results; write rpc:// to have them sent to the process "
            "that sends the task, or name a store: redis://…, sqlite:///…"
        )
    if location.adapter == RPC:
        return _open_rpc(location.url, settings, clock, codec)
    if location.adapter == "memory":
        from celeriac.results.memory import MemoryResultStore

        return MemoryResultStore(url, clock=clock)
    if location.adapter == "redis":
        from celeriac.results.redis import RedisResultStore

        options = _redis_options(settings.result_backend_transport_options, settings.redis_backend_use_ssl)
        if settings.result_backend is None:  # with the broker: what its connections need, these need
            options = {**_redis_options(settings.broker_transport_options, settings.broker_use_ssl), **options}
        return RedisResultStore(
            url,
            timeout_s=settings.task_publish_timeout,
            prefix=_result_prefix(settings),
            options=options,
            read_state=lambda raw: codec.decode_result(raw, verify=False).status,
        )
    from celeriac.results.sqlite import SqliteResultStore

    return SqliteResultStore(url, clock=clock, **_sqlite_options(settings))


def open_control(url: str, settings: Settings, clock: Clock) -> ControlChannel:
    """Make the control channel that goes with the broker at `url`. Raises as `open_broker`."""
    location = parse(url, "broker")
    if location.adapter == "memory":
        from celeriac.brokers.memory import MemoryControl

        return MemoryControl(url)
    if location.adapter == "redis":
        from celeriac.brokers.redis import RedisControl

        return RedisControl(
            url,
            namespace=settings.control_exchange,
            clock=clock,
            timeout_s=settings.task_publish_timeout,
            options=_redis_options(settings.broker_transport_options, settings.broker_use_ssl),
        )
    if location.adapter == "amqp":
        from celeriac.brokers.amqp.control import AmqpControl

        return AmqpControl(
            url,
            namespace=settings.control_exchange,
            queue_ttl_s=settings.control_queue_ttl,
            queue_expires_s=settings.control_queue_expires,
            queue_exclusive=settings.control_queue_exclusive,
            queue_durable=settings.control_queue_durable,
            clock=clock,
            timeout_s=settings.task_publish_timeout,
            options=_amqp_options(settings),
        )
    from celeriac.brokers.sqlite import SqliteControl

    return SqliteControl(url, **_sqlite_options(settings))


def open_events(url: str, settings: Settings, clock: Clock) -> EventChannel | None:
    """Make the event channel that goes with the broker at `url`; None where the engine carries none."""
    location = parse(url, "broker")
    if location.adapter == "memory":
        from celeriac.brokers.memory import MemoryEvents

        return MemoryEvents(url)
    if location.adapter == "redis":
        from celeriac.brokers.redis import RedisEvents

        return RedisEvents(
            url,
            exchange=settings.event_exchange,
            timeout_s=settings.task_publish_timeout,
            options=_redis_options(settings.broker_transport_options, settings.broker_use_ssl),
        )
    if location.adapter == "amqp":
        from celeriac.brokers.amqp.events import AmqpEvents

        return AmqpEvents(
            url,
            exchange=settings.event_exchange,
            queue_prefix=settings.event_queue_prefix,
            queue_ttl_s=settings.event_queue_ttl,
            queue_expires_s=settings.event_queue_expires,
            queue_exclusive=settings.event_queue_exclusive,
            queue_durable=settings.event_queue_durable,
            clock=clock,
            timeout_s=settings.task_publish_timeout,
            options=_amqp_options(settings),
        )
    return None


def _open_amqp(
    url: str,
    settings: Settings,
    clock: Clock,
    codec: Codec,
    reply_to: Callable[[], str | None] | None,
    topology: Callable[[], Topology] | None,
) -> Broker:
    from zoneinfo import ZoneInfo

    from celeriac.app.routing import Router
    from celeriac.app.topology import Topology

    if topology is None:
        plans = Topology(Router(settings, exchanges=lambda: True), settings)

        def topology() -> Topology:
            return plans

    topology()  # contradictions are told before anything is sent
    from celeriac.brokers.amqp import AmqpBroker
    from celeriac.codec.amqp import AmqpForm

    return AmqpBroker(
        url,
        timeout_s=settings.task_publish_timeout,
        clock=clock,
        form=AmqpForm(
            codec,
            timezone=ZoneInfo(settings.timezone),
            clock=clock,
            reply_to=reply_to,
            delivery_mode=settings.task_default_delivery_mode,
        ),
        plan_of=lambda queue: topology().plan_of(queue),
        known_queues=lambda: topology().known(),
        options=_amqp_options(settings),
        delay_queue_type=settings.broker_native_delayed_delivery_queue_type,
    )


def _open_rpc(url: str, settings: Settings, clock: Clock, codec: Codec) -> ResultStore:
    if url == "rpc://":
        url = settings.broker_url
        if parse(url).adapter != "amqp":
            raise ConfigError(
                f"result_backend='rpc://' sends results over the broker, which has to be RabbitMQ, and broker_url is "
                f"{masked(url)!r}; leave result_backend out to keep them with the broker"
            )
    from celeriac.results.rpc import RpcResultStore

    options = {**_amqp_options(settings), **settings.result_backend_transport_options}

    def read_meta(raw: bytes) -> tuple[str, str]:
        meta = codec.decode_result(raw, verify=False)
        return meta.task_id, meta.status

    return RpcResultStore(
        url,
        timeout_s=settings.task_publish_timeout,
        clock=clock,
        options=options,
        read_meta=read_meta,
        expires_s=settings.result_expires,
        persistent=bool(settings.result_persistent),
    )


def _amqp_options(settings: Settings) -> dict[str, Any]:
    """Transport options, with those among them that have settings of their own."""
    use_ssl = settings.broker_use_ssl
    tls = {} if isinstance(use_ssl, bool) else dict(use_ssl)
    login = settings.broker_login_method
    return {
        "heartbeat": settings.broker_heartbeat,
        **({} if login is None else {"login_method": login}),
        **settings.broker_transport_options,
        **tls,
        **({"tls": True} if use_ssl else {}),
    }


def _sqlite_options(settings: Settings) -> dict[str, Any]:
    return {"durability": settings.sqlite_durability, "timeout_s": settings.task_publish_timeout}


def _redis_options(transport: Mapping[str, Any], use_ssl: bool | Mapping[str, Any] | None) -> dict[str, Any]:
    """Transport options, with those of TLS among them."""
    tls = {} if use_ssl is None or isinstance(use_ssl, bool) else dict(use_ssl)
    return {**transport, **tls, **({"tls": True} if use_ssl else {})}


def _result_prefix(settings: Settings) -> str:
    """What result keys begin with; Celery sets a prefix off by `_` unless it ends in a separator of its own."""
    prefix = str(settings.result_backend_transport_options.get("global_keyprefix", ""))
    if prefix and prefix[-1] not in ":_-.":
        prefix += "_"
    return f"{prefix}celery-task-meta-"


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool] | None:
    """Whether a queue's name fits one of these globs; None where none could."""
    if not patterns:
        return None
    known: dict[str, bool] = {}

    def matches(queue: str) -> bool:
        found = known.get(queue)
        if found is None:
            found = any(fnmatchcase(queue, pattern) for pattern in patterns)
            if len(known) < 1000:  # names can come from data
                known[queue] = found
        return found

    return matches
