"""Events in Celery's form (protocol section 10): published as kombu's fanout on Redis does it, stored nowhere.

What is published: channel `/<db>.celeryev/<routing key>`, where the key is the event's type with a dot for its dash;
several task events in a row go as one array under `task.multi`.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any

from redis import exceptions

from celeriac.brokers.redis.fanout import Names, pack, unpack
from celeriac.storage.redis import Deployment, Line, faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import redis

    Event = Mapping[str, Any]


class RedisEvents:
    """The event channel of one Redis database.

    Args:
        url: The broker's URL.
        timeout_s: How long one call may take.
        options: Celery's transport options.
        exchange: Celery's `event_exchange`.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        options: Mapping[str, Any] | None = None,
        exchange: str = "celeryev",
    ) -> None:
        self._deployment = Deployment(url, timeout_s=timeout_s, options=options)
        self._names = Names(self._deployment.where.db, options)
        self._exchange = exchange
        self._lines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Line] = weakref.WeakKeyDictionary()

    def publish(self, events: Sequence[Event], /) -> None:
        for channel, payload in self._messages(events):
            self._deployment.call("send events by", "PUBLISH", channel, payload)

    async def apublish(self, events: Sequence[Event], /) -> None:
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            line = self._lines[loop] = Line(self._deployment, self._names.channel(self._exchange))
        await line.pipe([("PUBLISH", *message) for message in self._messages(events)], "send events by")

    def _messages(self, events: Sequence[Event]) -> Iterator[tuple[str, bytes]]:
        waiting: list[Event] = []
        for event in events:
            if str(event["type"]).startswith("task-"):
                waiting.append(event)
                continue
            if waiting:
                yield self._message(waiting)
                waiting = []
            yield self._message([event])
        if waiting:
            yield self._message(waiting)

    def _message(self, events: Sequence[Event]) -> tuple[str, bytes]:
        key = str(events[0]["type"]).replace("-", ".") if len(events) == 1 else "task.multi"
        payload = pack(
            events[0] if len(events) == 1 else events,
            headers={"hostname": events[0]["hostname"]},
            exchange=self._exchange,
            routing_key=key,
        )
        return self._names.channel(self._exchange, key), payload

    def listen(self) -> RedisEventReceiver:
        return RedisEventReceiver(self._deployment, self._names.pattern(self._exchange))

    async def aclose(self) -> None:
        line = self._lines.pop(asyncio.get_running_loop(), None)
        if line is not None:
            await line.drop()

    def close(self) -> None:
        self._deployment.close()


class RedisEventReceiver:
    """One monitor. Events that are not in Celery's form are left out."""

    def __init__(self, deployment: Deployment, pattern: str) -> None:
        self._deployment = deployment
        self._pattern = pattern
        self._link: redis.Connection | None = None
        self._connect()

    def _connect(self) -> redis.Connection:
        deployment = self._deployment
        try:
            link = self._link = deployment.connect(deployment.address(self._pattern))
            link.send_command("PSUBSCRIBE", self._pattern)
            link.read_response(disable_decoding=True)
        except (exceptions.RedisError, OSError) as exc:
            self.close()
            deployment.look_again()
            raise faults.translate(exc, "listen to", deployment.url, deployment.timeout_s) from exc
        return link

    def receive(self, /, *, timeout_s: float) -> Sequence[Event]:
        link = self._link or self._connect()
        found: list[Event] = []
        try:
            while link.can_read(timeout_s if not found else 0.0):
                message = link.read_response(disable_decoding=True)
                if message[0] == b"pmessage":
                    found.extend(_events(message[3]))
        except (exceptions.RedisError, OSError) as exc:
            self.close()
            self._deployment.look_again()
            reason = faults.translate(exc, "listen to", self._deployment.url, self._deployment.timeout_s)
            raise reason from exc
        return found

    def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.disconnect()


def _events(payload: bytes) -> list[Event]:
    try:
        _, body = unpack(payload)
    except ValueError:
        return []
    return [event for event in (body if isinstance(body, list) else [body]) if isinstance(event, dict)]
