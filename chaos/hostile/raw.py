"""Puts bytes where an engine keeps its messages, past everything that a producer of ours does."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec
import redis

from celeriac.errors import BrokerError
from celeriac.storage.amqp import AmqpUrl, Line
from celeriac.storage.amqp.frames import Publication

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.hostile.messages import Form

FORMS: Final[dict[str, Form]] = {"sqlite": "native", "redis": "native", "redis-celery": "kombu", "rabbitmq": "amqp"}
"""In which form each engine takes messages of others."""


class Place(Protocol):
    """One engine's."""

    def put(self, task_id: str, queue: str, parts: tuple[bytes, ...]) -> bool:
        """Put a message there; False: the server itself refused it."""

    def close(self) -> None: ...


class SqlitePlace:
    """Rows, with the text where the blob should be now and then."""

    def __init__(self, url: str) -> None:
        self._database = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30.0, isolation_level=None)

    def put(self, task_id: str, queue: str, parts: tuple[bytes, ...]) -> bool:
        try:
            self._database.execute(
                "INSERT INTO message (id, task, queue, priority, state, enqueued_at, headers, body)"
                " VALUES (?, '?', ?, 0, 0, ?, ?, ?)",
                (task_id, queue, time.time(), *parts),
            )
        except sqlite3.IntegrityError:  # an id that is there already
            return False
        return True

    def close(self) -> None:
        self._database.close()


class RedisPlace:
    """The native store: its hash, its sorted set, its bell."""

    def __init__(self, url: str) -> None:
        self._redis: Any = redis.Redis.from_url(url)

    def put(self, task_id: str, queue: str, parts: tuple[bytes, ...]) -> bool:
        base = f"celeriac:{{{queue}}}"
        headers, body = parts
        name = task_id.encode("utf-8", "surrogatepass")
        if not self._redis.hsetnx(
            f"{base}:m", name, msgspec.msgpack.encode((0, time.time(), None, None, "?", headers, body))
        ):
            return False
        self._redis.sadd("celeriac:queues", queue)
        self._redis.zadd(f"{base}:r", {name: 9e14 + self._redis.incr(f"{base}:n")})
        self._redis.zadd(f"{base}:w", {"0": 0})
        return True

    def close(self) -> None:
        self._redis.close()


class KombuPlace(RedisPlace):
    """Kombu's lists."""

    def put(self, task_id: str, queue: str, parts: tuple[bytes, ...]) -> bool:
        self._redis.lpush(queue, *parts)
        return True


class RabbitPlace:
    """The properties as they are, in a frame; a server that does not like them ends the connection."""

    def __init__(self, url: str) -> None:
        self._where = AmqpUrl.parse(url)
        self._runner = asyncio.Runner()
        self._line: Line | None = None
        self._channel: Any = None

    def put(self, task_id: str, queue: str, parts: tuple[bytes, ...]) -> bool:
        return self._runner.run(self._put(queue, *parts))

    async def _put(self, queue: str, properties: bytes, body: bytes) -> bool:
        try:
            if self._line is None:
                self._line = Line(self._where, purpose="hostile", timeout_s=10.0)
                await self._line.connect()
                self._channel = await self._line.open_channel(confirms=True)
            publication = Publication(exchange="", routing_key=queue, properties=properties, body=body)
            return not any(await self._channel.publish([publication]))
        except (BrokerError, OSError):
            await self._hang_up()
            return False

    async def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    def close(self) -> None:
        self._runner.run(self._hang_up())
        self._runner.close()


PLACES: Final[dict[str, Callable[[str], Place]]] = {
    "sqlite": SqlitePlace,
    "redis": RedisPlace,
    "redis-celery": KombuPlace,
    "rabbitmq": RabbitPlace,
}


def place(engine: str, url: str) -> Place:
    """Where to put messages on an engine, by its name in the report and its URL."""
    return PLACES[engine](url if urlsplit(url).query == "" or engine == "rabbitmq" else url.partition("?")[0])
