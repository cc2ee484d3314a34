"""Remote control in Celery's form (protocol section 11): one exchange serves Celery's workers and clients and ours.

What is declared: exchanges `<namespace>.pidbox` (fanout) and `reply.<namespace>.pidbox` (direct), neither durable; a
queue `<node>.<namespace>.pidbox` for each worker that serves, and `<id>.reply.<namespace>.pidbox` for each call that
waits for replies, both exclusive and gone with their reader.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any, Final

from celeriac.brokers.amqp.aside import Aside
from celeriac.brokers.amqp.link import Links, TemporaryQueue, declare_exchange, pack, unpack
from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import BrokerError, BrokerUnavailableError
from celeriac.storage.amqp.faults import ChannelClosed, translate
from celeriac.storage.amqp.frames import Publication
from celeriac.storage.amqp.url import AmqpUrl
from celeriac.storage.pidbox import Count, NodeServer, new_id, number, request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.interfaces import LogicalClock
    from celeriac.storage.amqp.frames import Arrived
    from celeriac.storage.amqp.line import Channel

_log = logging.getLogger("celeriac.control")

_LOCKED: Final = 405
LAST_S: Final = 1.0
"""What leaving may take."""


class AmqpControl:
    """Reaches the workers on one virtual host, Celery's included.

    Args:
        url: The broker's URL.
        timeout_s: How long one call to the server may take.
        options: Celery's transport options.
        namespace: Celery's `control_exchange`.
        queue_ttl_s: Celery's `control_queue_ttl`.
        queue_expires_s: Celery's `control_queue_expires`.
        queue_exclusive: Celery's `control_queue_exclusive`.
        queue_durable: Celery's `control_queue_durable`.
        clock: Wall time and sleeps.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        options: Mapping[str, Any] | None = None,
        namespace: str = "celery",
        queue_ttl_s: float = 300.0,
        queue_expires_s: float = 10.0,
        queue_exclusive: bool = True,
        queue_durable: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.exchange = f"{namespace}.pidbox"
        self.reply_exchange = f"reply.{namespace}.pidbox"
        self.clock = clock
        self.links = Links(AmqpUrl.parse(url, options), purpose="control", timeout_s=timeout_s, clock=clock)
        self._queue: dict[str, Any] = {
            "ttl_s": queue_ttl_s,
            "expires_s": queue_expires_s,
            "exclusive": queue_exclusive,
            "durable": queue_durable,
        }
        self._aside = Aside("celeriac-control")
        self._logical = Count()

    async def serve(
        self,
        node: str,
        handler: Callable[[str, Mapping[str, Any]], Awaitable[Any]],
        /,
        *,
        clock: LogicalClock | None = None,
    ) -> AmqpControlServer:
        server = AmqpControlServer(self, node, handler, clock or self._logical)
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
        """As `ControlChannel.call`. RabbitMQ does not tell how many get a command, only that nobody does.

        So without a destination a call with a reply takes `timeout_s`, as it does in Celery.
        """
        body = request(method, arguments, destination)
        try:
            if not reply:
                self._aside.run(self._tell(body, timeout_s))
                return {}
            return self._aside.run(self._ask(body, destination, timeout_s))
        except ChannelClosed as exc:
            raise translate(exc, "reach the workers over", self.links.where.shown) from exc

    def _command(self, body: Mapping[str, Any], timeout_s: float) -> Publication:
        headers = {"clock": self._logical.forward(), "expires": math.ceil(self.clock.time() + timeout_s)}
        properties, payload = pack(body, headers)
        return Publication(self.exchange, "", properties, payload)

    async def _tell(self, body: Mapping[str, Any], timeout_s: float) -> None:
        line = await self.links.line()
        channel = await line.open_channel(confirms=True)  # else it is not known whether the server has it
        try:
            await declare_exchange(channel, self.exchange, "fanout", durable=False)
            await channel.publish([self._command(body, timeout_s)])
        finally:
            await channel.close()

    async def _ask(
        self, body: dict[str, Any], destination: Sequence[str] | None, timeout_s: float
    ) -> Mapping[str, Any]:
        ticket, mine = new_id(), new_id()
        body |= {"ticket": ticket, "reply_to": {"exchange": self.reply_exchange, "routing_key": mine}}
        expected = math.inf if destination is None else len(set(destination))
        replies: dict[str, Any] = {}
        is_over = asyncio.Event()
        channel = await (await self.links.line()).open_channel(confirms=True)

        def take(arrived: Arrived) -> None:
            try:
                headers, answer = unpack(arrived)
            except ValueError as exc:
                _log.warning("a reply to a command is left out: %s", exc)
                return
            if headers.get("ticket") == ticket and isinstance(answer, dict):
                self._logical.adjust(number(headers.get("clock")))
                replies.update(answer)
                if len(replies) >= expected:
                    is_over.set()

        try:
            queue = self.queue(f"{mine}.{self.reply_exchange}", self.reply_exchange, "direct", mine)
            await queue.declare(channel)
            await queue.consume(channel, take, is_over.set)
            await declare_exchange(channel, self.exchange, "fanout", durable=False)
            [returned] = await channel.publish([self._command(body, timeout_s)])
            if returned is None:
                try:
                    async with asyncio.timeout(timeout_s):
                        await is_over.wait()
                except TimeoutError:
                    pass
                if channel.lost is not None and len(replies) < expected:
                    raise channel.lost
            return replies
        finally:
            await channel.close()

    def queue(self, name: str, exchange: str, exchange_type: str, binding: str) -> TemporaryQueue:
        """One with the flags of Celery's."""
        return TemporaryQueue(name=name, exchange=exchange, exchange_type=exchange_type, binding=binding, **self._queue)

    def close(self) -> None:
        """Close the connection of calls; the next opens it again."""
        self._aside.close(self.links.aclose())


class AmqpControlServer(NodeServer):
    """Answers for one node over a queue of its own."""

    def __init__(
        self,
        control: AmqpControl,
        node: str,
        handler: Callable[[str, Mapping[str, Any]], Awaitable[Any]],
        logical: LogicalClock,
    ) -> None:
        super().__init__(node, handler, logical, control.clock)
        self._control = control

    async def close(self) -> None:
        if not await self._end():
            return
        try:
            async with asyncio.timeout(LAST_S):
                await self._control.links.aclose()
        except (BrokerError, TimeoutError) as exc:
            _log.debug("the connection of remote control is left to itself: %s", exc)

    async def _listen(self) -> None:
        gone = asyncio.Event()
        await self._open(gone.set)
        self._hears()
        await gone.wait()
        raise BrokerUnavailableError("the connection or the queue is gone")

    def _explain(self, failure: Exception) -> object:
        if isinstance(failure, ChannelClosed) and failure.code == _LOCKED:
            return f"another worker is called {self._node}, or was until just now: give each a name, with -n"
        return failure

    async def _open(self, on_gone: Callable[[], None]) -> None:
        control = self._control
        channel = await (await control.links.line()).open_channel()
        queue = control.queue(f"{self._node}.{control.exchange}", control.exchange, "fanout", "")
        try:
            await queue.declare(channel)
            await queue.consume(channel, self._take, on_gone)
        except BaseException:
            await channel.close()
            raise

    def _unpack(self, raw: Arrived) -> tuple[Mapping[str, Any], Any]:
        return unpack(raw)

    async def _reply(self, reply: Any, exchange: str, routing_key: str, ticket: Any) -> None:
        properties, payload = pack({self._node: reply}, {"ticket": ticket, "clock": self._logical.forward()})
        # of its own: an exchange that is not there closes the channel, which is nobody else's then
        channel: Channel = await (await self._control.links.line()).open_channel(confirms=True)
        try:
            await channel.publish([Publication(exchange, routing_key, properties, payload, mandatory=False)])
        finally:
            await channel.close()
