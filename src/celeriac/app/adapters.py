"""The only place that knows which adapter serves which URL; adapters are imported when their URL is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeriac.app.urls import NO_RESULTS, parse

if TYPE_CHECKING:
    from celeriac.app.settings import Settings
    from celeriac.clock import Clock
    from celeriac.interfaces import Broker, ControlChannel, EventChannel, ResultStore


def open_broker(url: str, settings: Settings, clock: Clock) -> Broker:
    """Make the adapter for `url`; nothing is connected or created yet.

    Raises:
        ConfigError: No adapter serves the URL; the message names those that exist.
    """
    location = parse(url, "broker")
    if location.adapter == "memory":
        from celeriac.brokers.memory import MemoryBroker

        return MemoryBroker(url, clock=clock)
    from celeriac.brokers.sqlite import SqliteBroker

    return SqliteBroker(url, clock=clock, **_sqlite_options(settings))


def open_results(url: str, settings: Settings, clock: Clock) -> ResultStore | None:
    """Make the result store for `url`; None where results are disabled. Raises as `open_broker`."""
    location = parse(url, "result store")
    if location.adapter == NO_RESULTS:
        return None
    if location.adapter == "memory":
        from celeriac.results.memory import MemoryResultStore

        return MemoryResultStore(url, clock=clock)
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

        return RedisControl(url, namespace=settings.control_exchange, clock=clock, **_redis_options(settings))
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

        return RedisEvents(url, exchange=settings.event_exchange, **_redis_options(settings))
    return None


def _sqlite_options(settings: Settings) -> dict[str, Any]:
    return {"durability": settings.sqlite_durability, "timeout_s": settings.task_publish_timeout}


def _redis_options(settings: Settings) -> dict[str, Any]:
    return {"timeout_s": settings.task_publish_timeout, "options": settings.broker_transport_options}
