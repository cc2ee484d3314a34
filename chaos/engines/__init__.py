"""The engines that a campaign runs on: each starts its server, says how it is reached, and can be hurt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from celeriac.testing import TcpProxy


class Engine(Protocol):
    """One engine, started for one or several scenarios; a context manager."""

    name: str
    """As in the report: `sqlite`, `redis`, `redis-celery`, `rabbitmq`."""
    connection_lease: bool
    keeps_doubles: bool

    def fresh(self, folder: Path) -> str:
        """The URL of an empty place for one scenario: a file, a database, a vhost."""

    def settings(self, folder: Path) -> dict[str, Any]:
        """What an application needs besides the URL, as the result store."""

    def proxied(self, url: str) -> tuple[str, TcpProxy]:
        """The same place through a proxy of its own, started; NotImplementedError where there is no network."""

    def kill(self) -> None:
        """`kill -9` to the server."""

    def stop(self) -> None:
        """End it in good order."""

    def start(self) -> None:
        """Start it again, with the data it had."""

    def close(self) -> None: ...


class MissingError(Exception):
    """The engine is not on this machine and cannot be installed; the message says why."""


def engines() -> Mapping[str, Callable[[], Engine]]:
    """By name; calling one starts its server, and raises MissingError where there is none."""
    from chaos.engines.rabbitmq import RabbitEngine
    from chaos.engines.redis import CeleryRedisEngine, RedisEngine
    from chaos.engines.sqlite import SqliteEngine

    return {"sqlite": SqliteEngine, "redis": RedisEngine, "redis-celery": CeleryRedisEngine, "rabbitmq": RabbitEngine}
