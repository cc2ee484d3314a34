"""Events in Celery's form (protocol section 10): published to the topic exchange `celeryev`, kept by nobody.

What is declared: that exchange, durable, and for each monitor a queue `celeryev.<id>`, exclusive, whose messages live
for seconds. The routing key is the event's type with a dot for its dash; several task events in a row go as one array
under `task.multi`. They are transient: nothing of them is ever written to disk.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from celeriac.brokers.amqp.aside import Aside
from celeriac.brokers.amqp.link import Links, TemporaryQueue, declare_exchange, pack, unpack
from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import BrokerUnavailableError
from celeriac.storage.amqp.frames import Publication
from celeriac.storage.amqp.url import AmqpUrl
from celeriac.storage.pidbox import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.storage.amqp.frames import Arrived
    from celeriac.storage.amqp.line import Channel

    Event = Mapping[str, Any]

MOST_WAITING: Final = 1000
"""Messages that a monitor has not taken. More wait in its queue, where they grow old and go."""


class AmqpEvents:
    """The event channel of one virtual host.

    Args:
        url: The broker's URL.
        timeout_s: How long one call may take.
        options: Celery's transport options.
        exchange: Celery's `event_exchange`.
        queue_prefix: Celery's `event_queue_prefix`.
        queue_ttl_s: Celery's `event_queue_ttl`.
        queue_expires_s: Celery's `event_queue_expires`.
        queue_exclusive: Celery's `event_queue_exclusive`.
        queue_durable: Celery's `event_queue_durable`.
        clock: For the connections.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        options: Mapping[str, Any] | None = None,
        exchange: str = "celeryev",
        queue_prefix: str = "celeryev",
        queue_ttl_s: float = 5.0,
        queue_expires_s: float = 60.0,
        queue_exclusive: bool = True,
        queue_durable: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        where = AmqpUrl.parse(url, options)
        self._exchange = exchange
        self._queue: dict[str, Any] = {
            "exchange": exchange,
            "exchange_type": "topic",
            "exchange_durable": True,
            "binding": "#",
            "ttl_s": queue_ttl_s,
            "expires_s": queue_expires_s,
            "exclusive": queue_exclusive,
            "durable": queue_durable,
        }
        self._prefix = queue_prefix
        self._links = Links(where, purpose="events", timeout_s=timeout_s, clock=clock)
        self._monitors = Links(where, purpose="monitor", timeout_s=timeout_s, clock=clock)
        self._aside = Aside("celeriac-events")

    def publish(self, events: Sequence[Event], /) -> None:
        self._aside.run(self.apublish(events))

    async def apublish(self, events: Sequence[Event], /) -> None:
        channel = await self._links.channel(self._prepare)
        await channel.publish(list(self._messages(events)))

    async def _prepare(self, channel: Channel) -> None:
        await declare_exchange(channel, self._exchange, "topic", durable=True)

    def _messages(self, events: Sequence[Event]) -> Iterator[Publication]:
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

    def _message(self, events: Sequence[Event]) -> Publication:
        key = str(events[0]["type"]).replace("-", ".") if len(events) == 1 else "task.multi"
        body = events[0] if len(events) == 1 else events
        return Publication(self._exchange, key, *pack(body, {"hostname": events[0]["hostname"]}), mandatory=False)

    def listen(self) -> AmqpEventReceiver:
        queue = TemporaryQueue(name=f"{self._prefix}.{new_id()}", **self._queue)
        return AmqpEventReceiver(self._monitors, self._aside, queue)

    async def aclose(self) -> None:
        await self._links.aclose()

    def close(self) -> None:
        self._aside.close(self._close())

    async def _close(self) -> None:
        await self._links.aclose()
        await self._monitors.aclose()


class AmqpEventReceiver:
    """One monitor. Events that are not in Celery's form are left out."""

    def __init__(self, links: Links, aside: Aside, queue: TemporaryQueue) -> None:
        self._links = links
        self._aside = aside
        self._queue = queue
        self._changed = threading.Condition()
        self._waiting: deque[Arrived] = deque()
        self._channel: Channel | None = None
        self._is_lost = False
        aside.run(self._open())

    async def _open(self) -> None:
        self._is_lost = False
        self._waiting.clear()
        channel = await (await self._links.line()).open_channel()
        try:
            await self._queue.declare(channel)
            await self._queue.consume(channel, self._take, self._lose, prefetch=MOST_WAITING)
        except BaseException:
            await channel.close()
            raise
        self._channel = channel

    def _take(self, arrived: Arrived) -> None:
        with self._changed:
            self._waiting.append(arrived)
            self._changed.notify()

    def _lose(self) -> None:
        with self._changed:
            self._is_lost = True
            self._changed.notify()

    def receive(self, /, *, timeout_s: float) -> Sequence[Event]:
        if self._channel is None:
            self._aside.run(self._open())
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_lost, timeout_s)
            taken = list(self._waiting)
            self._waiting.clear()
            is_lost = self._is_lost
        if is_lost and not taken:
            channel, self._channel = self._channel, None
            reason = channel.lost if channel is not None else None
            raise BrokerUnavailableError(
                f"could not listen to events on {self._queue.exchange!r}: the connection is lost"
                f"{f' ({reason})' if reason else ''}; call again to connect anew"
            ) from reason
        if taken and not is_lost:
            self._aside.run(self._ack([one.delivery_tag for one in taken]))
        return [event for one in taken for event in _events(one)]

    async def _ack(self, tags: Sequence[int]) -> None:
        if self._channel is not None and self._channel.is_open:
            self._channel.ack(tags)

    def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None and channel.is_open:
            self._aside.run(channel.close())


def _events(arrived: Arrived) -> list[Event]:
    try:
        _, body = unpack(arrived)
    except ValueError:
        return []
    return [event for event in (body if isinstance(body, list) else [body]) if isinstance(event, dict)]
