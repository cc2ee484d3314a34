"""One asyncio connection: calls one after another, reconnecting by itself after an error."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Final, cast

import redis.asyncio as aio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from celeriac.storage.redis import faults
from celeriac.storage.redis.deployment import ReplyLostError
from celeriac.storage.redis.wire import Wire, packed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from celeriac.storage.redis.deployment import Deployment
    from celeriac.storage.redis.scripts import Script

_GRACE_S: Final = 1.5
"""An answer that is this late after a blocking command's time is none: the connection is half open."""


class CalledOffError(asyncio.CancelledError):
    """The caller was cancelled while commands were on their way; `replies` is what the server said to them."""

    def __init__(self, replies: list[Any]) -> None:
        super().__init__()
        self.replies = replies


class Line:
    """Commands of one task at a time; others wait their turn. Belongs to the loop that uses it first.

    Args:
        deployment: Where to connect.
        key: Whose server is meant.
        on_connect: Called with the line after each new connection, before anything else is sent.
    """

    def __init__(
        self, deployment: Deployment, key: str, *, on_connect: Callable[[Line], Awaitable[None]] | None = None
    ) -> None:
        self._deployment = deployment
        self._key = key
        self._link: aio.Connection | None = None
        self._wire: Wire | None = None
        self._turn = asyncio.Lock()
        self._on_connect = on_connect
        self._is_closed = False

    @property
    def is_open(self) -> bool:
        """Whether a connection stands, as far as is known."""
        return self._link is not None

    async def run(self, script: Script, keys: Sequence[Any], args: Sequence[Any], doing: str) -> Any:
        """Run a script; one that the server does not know is sent whole. Raises as `Deployment.run`."""
        rest = (len(keys), *keys, *args)
        async with self._turn:
            try:
                return (await self._exchange([("EVALSHA", script.digest, *rest)], doing))[0]
            except exceptions.NoScriptError:
                return (await self._exchange([("EVAL", script.text, *rest)], doing))[0]

    async def call(self, doing: str, *command: Any) -> Any:
        """Send one command. Raises as `Deployment.run`."""
        async with self._turn:
            return (await self._exchange([command], doing))[0]

    async def pipe(
        self,
        commands: Sequence[Sequence[Any]],
        doing: str,
        *,
        block_s: float = 0.0,
        heard: Callable[[int, Any], None] | None = None,
        called_off: Callable[[], Awaitable[None]] | None = None,
    ) -> list[Any]:
        """Send several commands in one write and read all replies.

        Args:
            commands: The server carries them out in order, even those behind one that blocks.
            doing: For messages.
            block_s: How long the server may take over a blocking one.
            heard: Told each reply with its index as it comes; it must not raise.
            called_off: Called when the caller is cancelled meanwhile; the replies are awaited all the same.

        Raises:
            CalledOffError: The caller was cancelled; it has the replies, and must be raised again.
            BrokerError: As `Deployment.run`.
        """
        async with self._turn:
            return await self._exchange(commands, doing, block_s=block_s, heard=heard, called_off=called_off)

    async def _exchange(
        self,
        commands: Sequence[Sequence[Any]],
        doing: str,
        *,
        block_s: float = 0.0,
        heard: Callable[[int, Any], None] | None = None,
        called_off: Callable[[], Awaitable[None]] | None = None,
    ) -> list[Any]:
        again = False
        words = b"".join([packed(tuple(each)) for each in commands])
        while True:
            sent = False
            try:
                if self._link is None:
                    await self._connect()
                wire = self._wire
                if wire is None:
                    wire = self._wire = Wire.over(self._link)
                sent = True
                timeout_s = block_s + _GRACE_S if block_s else self._deployment.timeout_s
                try:
                    return await wire.ask(words, len(commands), timeout_s, heard)
                except asyncio.CancelledError as cancelled:
                    if called_off is None:
                        raise
                    try:
                        await called_off()
                        late = wire.ask_on(timeout_s)
                        replies = wire.replies if late is None else await late
                    except (exceptions.RedisError, OSError):
                        raise cancelled from None
                    raise CalledOffError(replies) from None
            except (exceptions.NoScriptError, CalledOffError):
                raise
            except (exceptions.RedisError, OSError) as exc:
                await self.drop()
                if isinstance(exc, exceptions.MovedError | exceptions.AskError) or faults.is_passing(exc):
                    await asyncio.to_thread(self._deployment.look_again)
                    if not again and len(commands) == 1:
                        again = True
                        continue
                elif not sent or self._deployment.where.kind != "server":
                    await asyncio.to_thread(self._deployment.look_again)
                reason = faults.translate(exc, doing, self._deployment.url, self._deployment.timeout_s)
                # Of several commands one was refused; what became of those behind it is as unknown.
                if sent and (faults.is_connection_lost(exc) or len(commands) > 1):
                    raise ReplyLostError(str(reason)) from exc
                raise reason from exc
            except BaseException:
                await self.drop()  # somebody was called off half way: the next reply would be this one's
                raise

    async def _connect(self) -> aio.Connection:
        self._check_open()
        deployment = self._deployment
        where = deployment.where
        if where.kind in ("sentinel", "cluster"):
            address = await asyncio.to_thread(deployment.address, self._key)
        else:
            address = deployment.address(self._key)
        settings = {**deployment.settings(), "retry": Retry(NoBackoff(), 0)}
        link: Any
        if isinstance(address, str):
            link = aio.UnixDomainSocketConnection(path=address, **settings)
        else:
            kind = aio.SSLConnection if where.tls else aio.Connection
            link = kind(host=address[0], port=address[1], **settings)
        try:
            await link.connect()
            if where.kind == "sentinel":
                await link.send_command("ROLE")
                role = await link.read_response(disable_decoding=True)
                if role[0] != b"master":
                    raise exceptions.ReadOnlyError(f"{address[0]}:{address[1]} is no longer the master")
            self._check_open()
            self._link = link
            if self._on_connect is not None:
                await self._on_connect(self)
            if self._link is not link:
                raise exceptions.ConnectionError("the connection was dropped while it was made")
        except BaseException as exc:
            # What the driver raises then is about its own insides
            is_dropped = isinstance(exc, AttributeError) and self._link is not link
            self._link = self._wire = None
            await link.disconnect(nowait=True)
            if is_dropped:
                raise exceptions.ConnectionError("the connection was dropped while it was made") from exc
            raise
        return cast("aio.Connection", link)

    async def raw(self, *command: Any) -> Any:
        """Send one command from within `on_connect`, where the turn is taken already; raises the driver's errors."""
        assert self._link is not None
        await self._link.send_packed_command(packed(command), check_health=False)
        return await self._link.read_response(disable_decoding=True)

    async def listen(self) -> Any:
        """The next message that the server sends by itself (pub/sub); waits for ever.

        Raises:
            BrokerUnavailableError: The connection broke.
        """
        link = self._link
        try:
            if link is None:
                async with self._turn:
                    link = await self._connect()
            return await link.read_response(disable_decoding=True, timeout=math.inf)
        except (exceptions.RedisError, OSError) as exc:
            await self.drop()
            raise faults.translate(exc, "listen to", self._deployment.url, self._deployment.timeout_s) from exc

    async def connect(self) -> None:
        """Open the connection now, unless one stands. Raises as `Deployment.run`."""
        async with self._turn:
            if self._link is None:
                try:
                    await self._connect()
                except (exceptions.RedisError, OSError) as exc:
                    await asyncio.to_thread(self._deployment.look_again)
                    raise faults.translate(exc, "connect to", self._deployment.url, self._deployment.timeout_s) from exc

    async def renew(self) -> None:
        """Drop the connection once nobody uses it."""
        async with self._turn:
            await self.drop()

    def _check_open(self) -> None:
        if self._is_closed:
            raise exceptions.ConnectionError("it was closed here")

    async def close(self) -> None:
        """Drop the connection, also one that is being made, and open none any more."""
        self._is_closed = True
        await self.drop()

    async def drop(self) -> None:
        """Close the connection; the next call opens another."""
        link, self._link, self._wire = self._link, None, None
        if link is not None:
            if (writer := link._writer) is not None:
                writer.transport.abort()  # TLS would say goodbye first, and wait for an answer
            await link.disconnect(nowait=True)
