"""Remote control in Celery's form (protocol section 11): one channel serves Celery's workers and clients and ours.

What is stored: a row in `_kombu.binding.<namespace>.pidbox` for each worker that serves; for each call that waits for
replies, a row in `_kombu.binding.reply.<namespace>.pidbox` and the list `<id>.reply.<namespace>.pidbox`. Commands are
published and reach those who listen then.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from celeriac.brokers.redis.fanout import BINDING_LIFE_S, Names, member, pack, queues_of, unpack
from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import BrokerError
from celeriac.storage.pidbox import Count, NodeServer, new_id, number, request
from celeriac.storage.redis import Deployment, Line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.interfaces import LogicalClock

_log = logging.getLogger("celeriac.control")

REPLIERS: Final = 4
"""Threads that send replies."""
BLOCK_S: Final = 1.0
REPLY_LIFE_S: Final = 60
"""What a reply that nobody fetches may stay."""
LAST_S: Final = 1.0
"""What leaving may take."""


class RedisControl:
    """Reaches the workers on one Redis database, Celery's included.

    Args:
        url: The broker's URL.
        timeout_s: How long one call to the server may take.
        options: Celery's transport options.
        namespace: Celery's `control_exchange`.
        clock: Wall time and sleeps.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        options: Mapping[str, Any] | None = None,
        namespace: str = "celery",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.deployment = Deployment(url, timeout_s=timeout_s, options=options)
        self.names = Names(self.deployment.where.db, options)
        self.exchange = f"{namespace}.pidbox"
        self.reply_exchange = f"reply.{namespace}.pidbox"
        self.clock = clock
        self._logical = Count()

    async def serve(
        self,
        node: str,
        handler: Callable[[str, Mapping[str, Any]], Awaitable[Any]],
        /,
        *,
        clock: LogicalClock | None = None,
    ) -> RedisControlServer:
        server = RedisControlServer(self, node, handler, clock or self._logical)
        await server.start()
        return server

    def call(
        self,
        method: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        destination: Sequence[str] | None = None,
        timeout_s: float = 1.0,
        reply: bool = True,
    ) -> Mapping[str, Any]:
        """As `ControlChannel.call`. As many replies are waited for as clients of the server got the command."""
        ticket, mine = new_id(), new_id()
        body = request(method, arguments, destination)
        if not reply:
            self._send(body, timeout_s)
            return {}
        body |= {"ticket": ticket, "reply_to": {"exchange": self.reply_exchange, "routing_key": mine}}
        queue = f"{mine}.{self.reply_exchange}"
        row, table, key = member(mine, queue), self.names.bindings(self.reply_exchange), self.names.key(queue)
        self.bind(self.reply_exchange, row)
        try:
            expected = self._send(body, timeout_s)
            if destination is not None:
                expected = min(expected, len(set(destination)))
            return self._collect(key, ticket, expected, timeout_s)
        finally:
            self.deployment.call("tidy up after a command at", "SREM", table, row)
            self.deployment.call("tidy up after a command at", "DEL", key)

    def _send(self, body: Mapping[str, Any], timeout_s: float) -> int:
        headers = {"clock": self._logical.forward(), "expires": self.clock.time() + timeout_s}
        payload = pack(body, headers=headers, exchange=self.exchange, routing_key="", persistent=True)
        return int(
            self.deployment.call("send a command by", "PUBLISH", self.names.channel(self.exchange), payload) or 0
        )

    def _collect(self, key: str, ticket: str, expected: int, timeout_s: float) -> dict[str, Any]:
        until = self.clock.monotonic() + timeout_s
        replies: dict[str, Any] = {}
        while len(replies) < expected and (left_s := until - self.clock.monotonic()) > 0:
            # zero would block for ever
            wait_s = max(0.01, min(left_s, BLOCK_S, self.deployment.timeout_s / 2.0))
            found = self.deployment.call("wait for replies at", "BRPOP", key, f"{wait_s:.3f}")
            if found is None:
                continue
            try:
                headers, body = unpack(found[1])
                if headers.get("ticket") == ticket and isinstance(body, dict):
                    self._logical.adjust(number(headers.get("clock")))
                    replies |= body
            except ValueError as exc:
                _log.warning("a reply to a command is left out: %s", exc)
        return replies

    def bind(self, exchange: str, row: str) -> None:
        """Add a row to an exchange's table, as a queue that comes and goes has it."""
        deadline = int((self.clock.time() + BINDING_LIFE_S) * 1000)
        self.deployment.call("register at", "SADD", self.names.bindings(exchange), row)
        self.deployment.call("register at", "ZADD", self.names.deadlines, deadline, exchange)

    def close(self) -> None:
        """Close this process's connections; calls open them again."""
        self.deployment.close()


class RedisControlServer(NodeServer):
    """Answers for one node over a subscription, with threads of its own that send replies."""

    def __init__(
        self,
        channel: RedisControl,
        node: str,
        handler: Callable[[str, Mapping[str, Any]], Awaitable[Any]],
        logical: LogicalClock,
    ) -> None:
        super().__init__(node, handler, logical, channel.clock)
        self._channel = channel
        self._topic = channel.names.channel(channel.exchange)
        self._line = Line(channel.deployment, self._topic, on_connect=self._subscribe)
        self._row = member("", f"{node}.{channel.exchange}")
        # threads of its own: those of the loop may all be waiting, and this is what operators ask then
        self._threads = ThreadPoolExecutor(REPLIERS, "celeriac-control")

    async def close(self) -> None:
        if not await self._end():
            return
        await self._line.drop()
        channel = self._channel
        table = channel.names.bindings(channel.exchange)
        try:
            async with asyncio.timeout(LAST_S):
                await self._in_thread(channel.deployment.call, "leave", "SREM", table, self._row)
        except (BrokerError, TimeoutError) as exc:
            _log.debug("the control queue stays registered: %s", exc)
        self._threads.shutdown(wait=False)
        channel.close()

    async def _in_thread(self, call: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    async def _subscribe(self, line: Line) -> None:
        await line.raw("SUBSCRIBE", self._topic)
        self._listens.set()

    async def _listen(self) -> None:
        channel = self._channel
        while True:
            if not self._line.is_open:
                await self._in_thread(channel.bind, channel.exchange, self._row)
            kind, _, payload = await self._line.listen()
            self._hears()
            if kind == b"message":
                self._take(payload)

    def _unpack(self, raw: bytes) -> tuple[Mapping[str, Any], Any]:
        return unpack(raw)

    async def _reply(self, reply: Any, exchange: str, routing_key: str, ticket: Any) -> None:
        await self._in_thread(self._push, reply, exchange, routing_key, ticket)

    def _push(self, reply: Any, exchange: str, routing_key: str, ticket: Any) -> None:
        channel = self._channel
        call, doing = channel.deployment.call, "reply to a command by"
        rows = call(doing, "SMEMBERS", channel.names.bindings(exchange))
        headers = {"ticket": ticket, "clock": self._logical.forward()}
        payload = pack({self._node: reply}, headers=headers, exchange=exchange, routing_key=routing_key)
        for queue in queues_of(list(rows), routing_key):
            key = channel.names.key(queue)
            call(doing, "LPUSH", key, payload)
            call(doing, "EXPIRE", key, REPLY_LIFE_S)
