"""What remote control and events need of a connection: to have it again when it was lost, and messages of JSON.

Queues here are temporary, with the flags of Celery's processes: theirs and ours may be of the same name.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pamqp import commands

from celeriac.errors import BrokerUnavailableError
from celeriac.model.tables import Properties, read_properties, write_properties
from celeriac.storage.amqp.frames import unchecked
from celeriac.storage.amqp.line import Line
from celeriac.storage.pidbox import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from celeriac.clock import Clock
    from celeriac.storage.amqp.frames import Arrived
    from celeriac.storage.amqp.line import Channel
    from celeriac.storage.amqp.url import AmqpUrl

_encode = msgspec.json.Encoder(enc_hook=repr).encode
_decode = msgspec.json.Decoder().decode

TRANSIENT: Final = 1


class Links:
    """Opens connections for one purpose: one for each event loop that asks."""

    def __init__(self, where: AmqpUrl, *, purpose: str, timeout_s: float, clock: Clock) -> None:
        self.where = where
        self._purpose = purpose
        self._timeout_s = timeout_s
        self._clock = clock
        self._links: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Link] = weakref.WeakKeyDictionary()

    async def line(self) -> Line:
        """The running loop's connection, open.

        Raises:
            BrokerUnavailableError: It cannot be opened.
        """
        loop = asyncio.get_running_loop()
        link = self._links.get(loop)
        if link is None:
            link = self._links[loop] = _Link()
        async with link.opening:
            line = link.line
            if line is None or not line.is_open:
                line = Line(self.where, purpose=self._purpose, timeout_s=self._timeout_s, clock=self._clock)
                await line.connect()
                link.line, link.channel = line, None
            return line

    async def channel(self, prepare: Callable[[Channel], Awaitable[None]]) -> Channel:
        """The running loop's channel for publishing, on which `prepare` was done once.

        Raises:
            BrokerUnavailableError: It cannot be opened, or the server takes nothing at present.
        """
        line = await self.line()
        if line.blocked:
            raise BrokerUnavailableError(f"RabbitMQ takes no messages at present: {line.blocked}")
        link = self._links[asyncio.get_running_loop()]
        async with link.opening:
            if link.channel is None or not link.channel.is_open:
                channel = await line.open_channel(confirms=True)
                await prepare(channel)
                link.channel = channel
            return link.channel

    async def aclose(self) -> None:
        """Close the running loop's connection. Safe to call twice."""
        link = self._links.pop(asyncio.get_running_loop(), None)
        if link is not None and link.line is not None:
            await link.line.close()


class _Link:
    def __init__(self) -> None:
        self.opening = asyncio.Lock()
        self.line: Line | None = None
        self.channel: Channel | None = None


class TemporaryQueue(msgspec.Struct, frozen=True, kw_only=True):
    """A queue that goes with whoever reads it."""

    name: str
    exchange: str
    exchange_type: str
    exchange_durable: bool = False
    binding: str = ""
    expires_s: float
    ttl_s: float
    exclusive: bool = True
    durable: bool = False

    async def declare(self, channel: Channel) -> None:
        """Make it, its exchange, and what binds them."""
        await declare_exchange(channel, self.exchange, self.exchange_type, durable=self.exchange_durable)
        arguments = {"x-expires": int(self.expires_s * 1000), "x-message-ttl": int(self.ttl_s * 1000)}
        await channel.call(
            unchecked(commands.Queue.Declare)(
                queue=self.name,
                durable=self.durable,
                exclusive=self.exclusive,
                auto_delete=not self.durable,
                arguments=arguments,
            )
        )
        await channel.call(
            unchecked(commands.Queue.Bind)(queue=self.name, exchange=self.exchange, routing_key=self.binding)
        )

    async def consume(
        self, channel: Channel, take: Callable[[Arrived], None], on_gone: Callable[[], None], *, prefetch: int = 0
    ) -> None:
        """Have what comes taken. Without a prefetch nothing is acknowledged; with one, by the caller."""
        await channel.consume(self.name, take, prefetch=prefetch, no_ack=not prefetch, on_cancel=on_gone)
        channel.on_lost.append(lambda _: on_gone())


async def declare_exchange(channel: Channel, name: str, kind: str, *, durable: bool) -> None:
    """Make an exchange, if it is not there."""
    await channel.call(unchecked(commands.Exchange.Declare)(exchange=name, exchange_type=kind, durable=durable))


def pack(body: Any, headers: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Properties and body of a message as kombu writes it. What has no JSON form is shown by its repr."""
    properties = Properties(
        content_type="application/json",
        content_encoding="utf-8",
        headers=dict(headers),
        delivery_mode=TRANSIENT,
        priority=0,
    )
    return write_properties(properties), _encode(body)


def unpack(arrived: Arrived) -> tuple[dict[str, Any], Any]:
    """Headers and body of a message.

    Raises:
        ValueError: It is none that we read: not JSON, compressed, too long.
    """
    if len(arrived.body) > MOST_BYTES:
        raise ValueError(f"a message of {len(arrived.body)} bytes, more than {MOST_BYTES}")
    try:
        properties = read_properties(arrived.properties)
        if properties.content_type != "application/json" or properties.headers.get("compression"):
            raise ValueError(f"a message of content type {properties.content_type!r}")
        return properties.headers, _decode(arrived.body)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"not a message of kombu's: {exc!r}") from exc
