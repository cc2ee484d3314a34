"""One asyncio connection to RabbitMQ and its channels."""

from __future__ import annotations

import asyncio
import math
import socket
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from pamqp import base, commands

from celeriac.clock import ENTROPY, SYSTEM_CLOCK
from celeriac.errors import BrokerError, BrokerUnavailableError, CodecError, EncodeError, OversizedError, StorageError
from celeriac.storage.amqp import faults
from celeriac.storage.amqp.faults import ChannelClosed
from celeriac.storage.amqp.frames import (
    HEARTBEAT,
    Arrived,
    Batch,
    Confirms,
    Encoder,
    Intake,
    Parser,
    Publication,
    Returned,
    Tags,
    encode_method,
    is_answer,
    unchecked,
)
from celeriac.storage.amqp.handshake import Server, handshake
from celeriac.storage.amqp.url import spell
from celeriac.storage.amqp.verdict import verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.storage.amqp.frames import Take
    from celeriac.storage.amqp.url import AmqpUrl

WINDOW: Final = 1000
"""Most publishes of one channel that are not confirmed."""
_LOOKS: Final = 5
"""How often, in the time that an answer may take, a patient publish looks whether confirms come."""
STRIDE: Final = 250
"""So many are written at once: what is confirmed meanwhile makes room for the next."""
_GOODBYE_S: Final = 2.0
_SILENT_S: Final = 20
"""A peer that does not acknowledge what was sent for so long is gone."""
_SOCKET: Final = tuple(
    (level, getattr(socket, option), value)
    for level, option, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 10),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", _SILENT_S * 1000),
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
    )
    if hasattr(socket, option)
)


def tune_socket(link: socket.socket) -> None:
    """No delay for small writes; a peer that is gone is noticed within 20 s or so."""
    for option in _SOCKET:
        link.setsockopt(*option)


class Line:
    """A connection. Belongs to the loop that connects it; once lost it stays lost: make another.

    Args:
        where: Server, user, virtual host.
        purpose: Part of the name under which the server lists the connection.
        timeout_s: How long connecting, one call or one publish may take.
        heartbeat_s: How often each side says that it is there; when nothing was heard for two of these, the line is
            lost. 0: never. `heartbeat` in the URL's options wins.
        clock: For durations.

    Attributes:
        is_open: Whether it stands, as far as is known.
        lost: Why it does not any more.
        blocked: Why the server takes no publishes at present (memory, disk); None: it does.
        server: Who answers; of meaning once connected.
        on_lost: Called once when the line is lost; not after `close`.
    """

    def __init__(
        self,
        where: AmqpUrl,
        *,
        purpose: str,
        timeout_s: float,
        heartbeat_s: float = 10.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.where = where
        self.timeout_s = timeout_s
        self.is_open = False
        self.lost: Exception | None = None
        self.blocked: str | None = None
        self.server = Server()
        self.on_lost: list[Callable[[Exception], None]] = []
        self._purpose = purpose
        self._heartbeat_s = float(where.options.get("heartbeat", heartbeat_s) or 0)
        self._clock = clock
        self._channels: dict[int, Channel] = {}
        self._wire: _Wire | None = None
        self._closing = False

    # -- life -------------------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect to any of the addresses, beginning with one at random, and log in.

        Raises:
            BrokerUnavailableError: None of them could be reached within `timeout_s`.
            StorageError: User, password, virtual host or certificate are not taken.
        """
        addresses = list(self.where.addresses)
        ENTROPY.shuffle(addresses)
        context = self.where.ssl_context()
        until = self._clock.monotonic() + self.timeout_s
        reasons: list[str] = []
        for index, (host, port) in enumerate(addresses):
            left_s = max(until - self._clock.monotonic(), 0.05)
            each_s = min(left_s / (len(addresses) - index), float(self.where.options.get("connection_timeout", left_s)))
            wire = _Wire(self)
            try:
                async with asyncio.timeout(each_s):
                    loop = asyncio.get_running_loop()
                    name = self.where.server_hostname(host) if context is not None else None
                    await loop.create_connection(lambda w=wire: w, host, port, ssl=context, server_hostname=name)
                    self.server = await wire.open(handshake(self.where, self._purpose, self._heartbeat_s))
                    if wire.gone is not None:
                        raise wire.gone
            except (OSError, BrokerError, CodecError) as exc:
                wire.abort()
                if isinstance(exc, StorageError):
                    raise
                translated = faults.translate(exc, "connect to", self.where.shown)
                if isinstance(translated, StorageError):
                    raise translated from exc
                why = f"no answer within {each_s:.2g} s" if isinstance(exc, TimeoutError) else str(exc)
                reasons.append(f"{spell(host, port)}: {why or type(exc).__name__}")
            except BaseException:
                wire.abort()
                raise
            else:
                self._wire = wire
                self.is_open = True
                self.lost = None
                wire.start_beating(self.server.heartbeat_s, self._clock)
                return
        raise BrokerUnavailableError(f"could not connect to {self.where.shown}: {'; '.join(reasons)}")

    @property
    def sure_until(self) -> float:
        """Until then, on the monotonic clock, the server has heard enough of us to keep the line; infinite without
        heartbeats.
        """
        return math.inf if self._wire is None else self._wire.sure_until

    @property
    def is_sure(self) -> bool:
        """Whether that moment has not passed."""
        return self._clock.monotonic() <= self.sure_until

    def assure(self, at: float) -> None:
        """The server has answered what was sent at this moment."""
        if self._wire is not None:
            self._wire.assure(at)

    async def close(self) -> None:
        """Say goodbye and close. Safe to call twice, and on a line that is lost."""
        wire = self._wire
        if wire is None or not self.is_open or self._closing:
            if wire is not None and not self._closing:
                wire.abort()
            return
        self._closing = True
        self.on_lost.clear()
        for channel in self._channels.values():
            channel.on_lost.clear()
        try:
            wire.send(encode_method(0, commands.Connection.Close(200, "goodbye", 0, 0)))
            wire.flush()
            async with asyncio.timeout(min(self.timeout_s, _GOODBYE_S)):
                await wire.wait_closed()
        except TimeoutError:
            pass  # it is closed all the same
        finally:
            self._lose(BrokerUnavailableError(f"the connection to {self.where.shown} was closed"))
        await wire.wait_closed()

    async def open_channel(self, *, confirms: bool = False) -> Channel:
        """Open a channel.

        Args:
            confirms: For publishing.

        Raises:
            BrokerUnavailableError: The line is lost, or has no channel left.
        """
        wire = self._standing()
        number = next((n for n in range(1, self.server.channel_max + 1) if n not in self._channels), None)
        if number is None:
            raise BrokerUnavailableError(
                f"{self.where.shown}: all {self.server.channel_max} channels of the connection are in use"
            )
        channel = Channel(self, wire, number)
        self._channels[number] = channel
        await channel.open(confirms=confirms)
        return channel

    def _standing(self) -> _Wire:
        if self._wire is None or not self.is_open:
            raise self.lost or BrokerUnavailableError(f"not connected to {self.where.shown}")
        return self._wire

    # -- what the wire reports --------------------------------------------------------------------------------------

    def _lose(self, exc: Exception) -> None:
        """Nothing more will come."""
        if not self.is_open:
            return
        self.is_open = False
        self.lost = exc
        if self._wire is not None:
            self._wire.abort()
        for channel in list(self._channels.values()):
            channel._end(exc)
        for tell in list(self.on_lost):
            tell(exc)

    def _heard(self, number: int, method: base.Frame, arrived: Arrived | None) -> None:
        if number:
            channel = self._channels.get(number)
            if channel is not None:
                channel._heard(method, arrived)
        elif isinstance(method, commands.Connection.Blocked):
            self.blocked = method.reason or "no reason given"
        elif isinstance(method, commands.Connection.Unblocked):
            self.blocked = None
        elif isinstance(method, commands.Connection.Close):
            if self._wire is not None:
                self._wire.send(encode_method(0, commands.Connection.CloseOk()))
                self._wire.flush()
            self._lose(faults.closed_by_server(method.reply_code, method.reply_text, self.where.shown))
        elif isinstance(method, commands.Connection.CloseOk):
            self._lose(BrokerUnavailableError(f"the connection to {self.where.shown} was closed"))

    def _stray(self, number: int, arrived: Arrived) -> None:
        channel = self._channels.get(number)
        if channel is not None:
            channel.reject([arrived.delivery_tag], requeue=True)


class Channel:
    """One of the channels of a line. Made by `Line.open_channel`.

    Attributes:
        number: As the server lists it.
        is_open: Whether it stands.
        lost: Why it does not any more: `ChannelClosed` where the server closed this channel only.
        on_lost: Called once when it ends, with its line or alone; not after `close`.
    """

    def __init__(self, line: Line, wire: _Wire, number: int) -> None:
        self.line = line
        self.number = number
        self.is_open = True
        self.lost: Exception | None = None
        self.on_lost: list[Callable[[Exception], None]] = []
        self._wire = wire
        self._intake = Intake()
        self._tags = Tags()
        self._encoder = Encoder(number, line.server.frame_max)
        self._waiting: deque[tuple[asyncio.Future[Any], base.Frame]] = deque()
        self._on_cancel: dict[str, Callable[[], None]] = {}
        self._consumers = 0
        self._is_leaving = False
        wire.parser.intakes[number] = self._intake

    async def open(self, *, confirms: bool) -> None:
        """Open it; for `Line.open_channel`."""
        opened = self._ask(commands.Channel.Open())
        if confirms:
            self._intake.confirms = Confirms()
            selected = self._ask(commands.Confirm.Select())
            await self._answer(selected)
        await self._answer(opened)

    # -- calls ------------------------------------------------------------------------------------------------------

    async def call(self, method: base.Frame) -> Any:
        """Send a synchronous method and wait for its answer, a method too; several at once are answered in order.

        A caller that is cancelled meanwhile harms nobody: the method is carried out, its answer dropped. Names that
        pamqp refuses: see `frames.unchecked`.

        Raises:
            ChannelClosed: The server refused, and has closed this channel.
            BrokerUnavailableError: The line is lost, or no answer came within the line's `timeout_s`.
        """
        return await self._answer(self._ask(method))

    async def get(self, queue: str) -> Arrived | None:
        """Take one message, if there is one; it is to be settled like a consumer's. Raises as `call`."""
        return cast("Arrived | None", await self._answer(self._ask(unchecked(commands.Basic.Get)(queue=queue))))

    def _ask(self, method: base.Frame) -> asyncio.Future[Any]:
        self._check()
        data = encode_method(self.number, method)
        future: asyncio.Future[Any] = self._wire.loop.create_future()
        self._waiting.append((future, method))
        self._wire.send(data)
        return future

    def _check(self) -> None:
        if not self.is_open or self._is_leaving:
            raise self.lost or BrokerUnavailableError(f"the channel to {self.line.where.shown} is closed")

    async def _answer(self, future: asyncio.Future[Any]) -> Any:
        try:
            async with asyncio.timeout(self.line.timeout_s):
                return await future
        except TimeoutError:
            raise BrokerUnavailableError(
                f"{self.line.where.shown} has not answered within {self.line.timeout_s:g} s"
            ) from None

    # -- publishing -------------------------------------------------------------------------------------------------

    async def publish(
        self, publications: Sequence[Publication], *, timeout_s: float | None = None, patient: bool = False
    ) -> list[Returned | None]:
        """Publish on a channel with confirms, at most `WINDOW` of them unconfirmed at any time.

        When the caller is cancelled, or the time is over, what was written may be stored all the same; the channel
        goes on. Mandatory ones for which there is no queue are an answer and no error.

        Args:
            publications: In this order.
            timeout_s: Instead of the line's.
            patient: The time counts anew while confirms keep coming: the server is slow, and to publish all of it
                again, as one must when the time is over, would make it slower.

        Returns:
            For each of them None when it is stored, else how it came back.

        Raises:
            NackedError: The server refused `refused`.
            OversizedError, UnroutableError: Likewise, and closed the channel: too large; no such exchange.
            BackPressureError: The server is blocked, and has not confirmed `unknown` in time.
            EnqueueUnknownError: `unknown` were not confirmed in time, or the channel is lost.
            BrokerUnavailableError: The channel was lost before; nothing was written.
        """
        confirms = self._intake.confirms
        assert confirms is not None, "a channel for publishing is opened with confirms=True"
        self._check()
        limit_s = self.line.timeout_s if timeout_s is None else timeout_s
        batches: list[Batch] = []
        unwritten: Exception | None = None
        try:
            async with asyncio.timeout(limit_s) as limit:
                waiting = partial(self._done, patient=limit if patient else None, limit_s=limit_s)
                for start in range(0, len(publications), STRIDE):
                    part = publications[start : start + STRIDE]
                    while len(confirms.pending) + len(part) > WINDOW and self.is_open:
                        await waiting(next(iter(confirms.pending.values())))
                    await self._wire.wait_writable()
                    if not self.is_open:
                        unwritten = self.lost
                        break
                    try:
                        data = self._encoder.encode(part)
                    except (EncodeError, OversizedError) as exc:
                        if not batches:
                            raise
                        unwritten = exc
                        break
                    batches.append(confirms.begin(part))
                    self._wire.send(data)
                    self._wire.flush()
                for batch in batches:
                    if not batch.is_done:
                        await waiting(batch)
        except TimeoutError:
            pass  # the verdict says so
        return verdict(
            publications, batches, confirms, unwritten=unwritten, where=self.line.where, blocked=self.line.blocked,
            timeout_s=limit_s,
        )  # fmt: skip

    async def _done(self, batch: Batch, *, patient: asyncio.Timeout | None, limit_s: float) -> None:
        loop = self._wire.loop
        future: asyncio.Future[None] = loop.create_future()
        batch.watchers.append(lambda: None if future.done() else future.set_result(None))
        if patient is None:
            await future
            return
        while not future.done():
            left = batch.left
            await asyncio.wait((future,), timeout=limit_s / _LOOKS)
            if batch.left < left:
                patient.reschedule(loop.time() + limit_s)

    # -- consuming --------------------------------------------------------------------------------------------------

    async def consume(
        self,
        queue: str,
        take: Take,
        *,
        prefetch: int = 0,
        arguments: Mapping[str, Any] | None = None,
        exclusive: bool = False,
        no_ack: bool = False,
        tag: str | None = None,
        on_cancel: Callable[[], None] | None = None,
    ) -> str:
        """Have the server send the messages of a queue.

        Args:
            queue: Its name.
            take: Called on the loop with each message, from within reading: it must be quick and must not raise.
            prefetch: Most messages that are sent and not settled, of this consumer alone; 0: no limit.
            arguments: Of basic.consume, such as `x-stream-offset`.
            exclusive: Nobody else may consume it.
            no_ack: They are gone when they are sent.
            tag: The consumer's name in this channel; one is made up unless given.
            on_cancel: Called when the server ends the consumer by itself, because the queue is deleted or its leader
                gone.

        Returns:
            The tag.

        Raises:
            ChannelClosed: As `call`.
        """
        self._consumers += 1
        tag = tag or f"c{self._consumers}"
        key = tag.encode()
        if no_ack:
            self._intake.takers[key] = (tag, self._unacked(take))
        else:
            self._intake.takers[key] = (tag, take)
        if on_cancel is not None:
            self._on_cancel[tag] = on_cancel
        qos = self._ask(commands.Basic.Qos(prefetch_count=prefetch))
        begun = self._ask(
            unchecked(commands.Basic.Consume)(
                queue=queue, consumer_tag=tag, no_ack=no_ack, exclusive=exclusive, arguments=dict(arguments or {})
            )
        )
        try:
            await self._answer(begun)
            await qos
        except BaseException:
            self._forget(tag)
            if begun.done() and not begun.cancelled() and begun.exception() is None:
                self._drop_consumer(tag)
            raise
        return tag

    def _unacked(self, take: Take) -> Take:
        def taken(arrived: Arrived) -> None:
            self._tags.settle((arrived.delivery_tag,))
            take(arrived)

        return taken

    def _drop_consumer(self, tag: str) -> None:
        # not before its consume-ok has come: over such a cancel RabbitMQ's channel falls, and its connection (541)
        if self.is_open and not self._is_leaving:
            self._wire.send(encode_method(self.number, commands.Basic.Cancel(consumer_tag=tag, nowait=True)))

    def _forget(self, tag: str) -> None:
        self._intake.takers.pop(tag.encode(), None)
        self._on_cancel.pop(tag, None)

    async def cancel(self, tag: str) -> None:
        """End a consumer. What it was sent before stays to be settled; messages come until this returns.

        Raises:
            ChannelClosed: As `call`.
        """
        try:
            await self.call(commands.Basic.Cancel(consumer_tag=tag))
        finally:
            self._forget(tag)

    def ack(self, tags: Sequence[int]) -> None:
        """Acknowledge deliveries: one frame for the longest prefix of which all are settled, one write for all calls
        of one step of the loop. Tags that are settled already are left out. On a lost channel it does nothing.
        """
        if self.is_open and not self._is_leaving and (data := self._tags.ack(self.number, tags)):
            self._wire.send(data)

    def reject(self, tags: Sequence[int], *, requeue: bool) -> None:
        """Refuse deliveries, as `ack`; without `requeue` they are dead-lettered or gone."""
        if self.is_open and not self._is_leaving and (data := self._tags.nack(self.number, tags, requeue=requeue)):
            self._wire.send(data)

    # -- end --------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close the channel; what is not settled goes back to its queue. Safe to call twice, and when it is lost."""
        if not self.is_open:
            return
        self.on_lost.clear()
        answer = self._ask(commands.Channel.Close(200, "goodbye", 0, 0))
        self._is_leaving = True  # on a channel that it has closed, the server takes nothing for an answer
        self._intake.takers.clear()
        try:
            await self._answer(answer)
        except BrokerUnavailableError:
            pass  # then it is gone with its line, or will be
        self._end(BrokerUnavailableError(f"the channel to {self.line.where.shown} was closed"))

    def _heard(self, method: base.Frame, arrived: Arrived | None) -> None:
        if isinstance(method, commands.Channel.Close):
            self._wire.send(encode_method(self.number, commands.Channel.CloseOk()))
            self._end(ChannelClosed(method.reply_code, method.reply_text))
        elif isinstance(method, commands.Basic.Cancel):
            gone = self._on_cancel.get(method.consumer_tag or "")
            self._forget(method.consumer_tag or "")
            if not method.nowait:
                self._wire.send(encode_method(self.number, commands.Basic.CancelOk(method.consumer_tag)))
            if gone is not None:
                gone()
        elif isinstance(method, commands.Channel.Flow):
            self._wire.send(encode_method(self.number, commands.Channel.FlowOk(method.active)))
        elif (entry := next((each for each in self._waiting if is_answer(each[1], method)), None)) is not None:
            self._waiting.remove(entry)
            future = entry[0]
            if isinstance(method, commands.Basic.GetEmpty):
                answer: Any = None
            elif isinstance(method, commands.Basic.GetOk):
                answer = arrived
                if future.done() and arrived is not None:
                    self.reject([arrived.delivery_tag], requeue=True)
            else:
                answer = method
                if future.done() and isinstance(method, commands.Basic.ConsumeOk):  # called off meanwhile
                    self._drop_consumer(method.consumer_tag or "")
            if not future.done():
                future.set_result(answer)

    def _end(self, exc: Exception) -> None:
        if not self.is_open:
            return
        self.is_open = False
        self.lost = exc
        self._wire.parser.intakes.pop(self.number, None)
        self.line._channels.pop(self.number, None)
        waiting, self._waiting = self._waiting, deque()
        for future, _asked in waiting:
            if not future.done():
                future.set_exception(exc)
                future.exception()  # it may be that nobody waits any more
        if self._intake.confirms is not None:
            self._intake.confirms.fail(exc)
        for tell in list(self.on_lost):
            tell(exc)


class _Wire(asyncio.Protocol):
    """The transport's other end: bytes in both directions, heartbeats, flow control."""

    def __init__(self, line: Line) -> None:
        self.loop = asyncio.get_running_loop()
        self.parser = Parser(self._heard, line._stray)
        self._line = line
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._is_flushing = False
        self._can_write: asyncio.Future[None] | None = None  # while the transport has enough to send
        self._closed: asyncio.Future[None] = self.loop.create_future()
        self._opening: Generator[bytes, base.Frame, Server] | None = None
        self._opened: asyncio.Future[Server] = self.loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._has_heard = False
        self._has_sent = False
        self.gone: Exception | None = None
        """Why it was lost before the line has heard that it stands."""
        self.sure_until = math.inf
        """See `Line`."""
        self._sure_s = math.inf

    # -- asyncio.Protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        tune_socket(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        """As `asyncio.Protocol`."""
        self._has_heard = True
        try:
            self.parser.feed(data)
        except CodecError as exc:
            self._fail(exc)
        except Exception as exc:  # of a taker: what came behind is lost, and with it the line
            self._fail(exc)
            raise

    def connection_lost(self, exc: Exception | None) -> None:
        """As `asyncio.Protocol`."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._closed.done():
            self._closed.set_result(None)
        self._fail(exc or ConnectionError("the server has closed it"))
        self.resume_writing()

    def pause_writing(self) -> None:
        """As `asyncio.Protocol`."""
        if self._can_write is None:
            self._can_write = self.loop.create_future()

    def resume_writing(self) -> None:
        """As `asyncio.Protocol`."""
        waiting, self._can_write = self._can_write, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    # -- for the line -----------------------------------------------------------------------------------------------

    async def open(self, steps: Generator[bytes, base.Frame, Server]) -> Server:
        """Log in."""
        self._opening = steps
        self.send(next(steps))
        self.flush()
        server = await self._opened
        self.parser.frame_max = server.frame_max
        return server

    def send(self, data: bytes) -> None:
        """Write this at the end of this step of the loop, together with what else is to be written then."""
        self._out.append(data)
        if not self._is_flushing:
            self._is_flushing = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write it now."""
        self._is_flushing = False
        if self._out:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            if self._transport is not None and not self._transport.is_closing():
                self._has_sent = True
                self._transport.write(data)

    async def wait_writable(self) -> None:
        """Wait until the transport has less to send."""
        while (waiting := self._can_write) is not None:
            await asyncio.shield(waiting)

    async def wait_closed(self) -> None:
        """Wait until the transport is gone."""
        if self._transport is not None:
            await asyncio.shield(self._closed)

    def abort(self) -> None:
        """Close at once."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    def start_beating(self, beat_s: int, clock: Clock) -> None:
        """Send heartbeats, and look whether the server is heard."""
        if beat_s:
            # A server waits two beats at least, and the last was sent half of one ago at most; less a tenth.
            self._sure_s = 1.35 * beat_s
            self.assure(clock.monotonic())
            self._beat(beat_s, clock, clock.monotonic())

    def assure(self, at: float) -> None:
        """The line stood at this moment, by the server's word."""
        self.sure_until = at + self._sure_s

    def _beat(self, beat_s: int, clock: Clock, heard_at: float) -> None:
        now = clock.monotonic()
        if self._has_heard:
            heard_at, self._has_heard = now, False
        elif now - heard_at > 2 * beat_s:
            self._fail(ConnectionError(f"nothing was heard of the server for {now - heard_at:.0f} s"))
            return
        if now <= self.sure_until:  # else we have stood still, and only the server's word helps
            self.assure(now)
        if not self._has_sent:
            self.send(HEARTBEAT)
            self.flush()
        self._has_sent = False
        self._timer = self.loop.call_later(beat_s / 2, self._beat, beat_s, clock, heard_at)

    def _heard(self, number: int, method: base.Frame, arrived: Arrived | None) -> None:
        if self._opening is None:
            if isinstance(method, commands.Connection.Close) and self._line._wire is not self:
                self.gone = faults.closed_by_server(method.reply_code, method.reply_text, self._line.where.shown)
                return
            self._line._heard(number, method, arrived)
            return
        try:
            self.send(self._opening.send(method))
            self.flush()
        except StopIteration as end:
            self._opening = None
            if not self._opened.done():
                self._opened.set_result(end.value)
        except (BrokerError, CodecError) as exc:
            self._opening = None
            if not self._opened.done():
                self._opened.set_exception(exc)

    def _fail(self, exc: Exception) -> None:
        if not self._opened.done():
            self._opened.set_exception(exc)
            self._opened.exception()  # nobody may wait any more
        self.gone = self.gone or exc
        if self._line._wire is self:
            lost = BrokerUnavailableError(f"the connection to {self._line.where.shown} was lost: {exc}")
            lost.__cause__ = exc
            self._line._lose(lost)
