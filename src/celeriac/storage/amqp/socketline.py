"""One blocking connection to RabbitMQ, for producers and operators: any number of threads share it.

Each thread writes what it has to say; of those that wait for an answer one reads, for all of them. There is no
heartbeat, because nobody would be there to send it: a peer that is gone is noticed by the kernel, and before writing on
an idle connection we look whether the server has closed it.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from pamqp import base, commands

from celeriac.clock import ENTROPY, SYSTEM_CLOCK
from celeriac.errors import (
    BrokerError,
    BrokerUnavailableError,
    CodecError,
    EncodeError,
    OversizedError,
    StorageError,
)
from celeriac.interfaces.deadline import GIVE_UP_AT
from celeriac.interfaces.meanwhile import MEANWHILE
from celeriac.storage import forks
from celeriac.storage.amqp import faults
from celeriac.storage.amqp.faults import ChannelClosed
from celeriac.storage.amqp.frames import Confirms, Encoder, Intake, Parser, Tags, encode_method, is_answer, unchecked
from celeriac.storage.amqp.handshake import Server, handshake
from celeriac.storage.amqp.line import STRIDE, WINDOW, tune_socket
from celeriac.storage.amqp.url import spell
from celeriac.storage.amqp.verdict import verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.storage.amqp.frames import Arrived, Batch, Publication, Returned, Take
    from celeriac.storage.amqp.url import AmqpUrl

_CHUNK: Final = 262_144
_GOODBYE_S: Final = 1.0
_LEAST_S: Final = 0.05


class SocketLine:
    """A connection that opens itself when it is needed, and again after a loss or a `fork()`.

    Args:
        where: Server, user, virtual host.
        purpose: Part of the name under which the server lists the connection.
        timeout_s: How long one call may take, connecting included, where nothing else is said. `GIVE_UP_AT` holds, too.
        clock: For durations.
    """

    def __init__(self, where: AmqpUrl, *, purpose: str, timeout_s: float = 5.0, clock: Clock = SYSTEM_CLOCK) -> None:
        self.where = where
        self.timeout_s = timeout_s
        self._purpose = purpose
        self._clock = clock
        self._start_afresh()
        forks.register(self)

    def _start_afresh(self) -> None:
        self._gate = threading.Lock()  # for opening connections and channels
        self._calling = threading.Lock()
        self._link: _Link | None = None
        self._channels: dict[str, SocketChannel] = {}

    # -- life -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """As `storage.forks.Forkable`; the parent goes on with its connection."""

    def after_fork(self) -> None:
        """As `storage.forks.Forkable`."""
        link = self._link
        self._start_afresh()
        if link is not None:
            link.disown()

    @property
    def is_open(self) -> bool:
        """Whether a connection stands, as far as is known."""
        return self._link is not None and self._link.lost is None

    @property
    def blocked(self) -> str | None:
        """Why the server takes no publishes at present; None: it does, as far as is known."""
        return None if self._link is None else self._link.blocked

    @property
    def server(self) -> Server:
        """Who answers. Connects if need be; raises as `connect`."""
        return self._standing(self._until(None)).server

    def connect(self, *, timeout_s: float | None = None) -> None:
        """Connect now, unless a connection stands.

        Raises:
            BrokerUnavailableError: No address could be reached.
            StorageError: User, password, virtual host or certificate are not taken.
        """
        self._standing(self._until(timeout_s))

    def close(self) -> None:
        """Say goodbye and close; the next call opens another connection. Safe to call twice."""
        link, self._link = self._link, None
        if link is not None:
            link.close(self._clock.monotonic() + min(self.timeout_s, _GOODBYE_S))

    def _until(self, timeout_s: float | None) -> float:
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        return min(self._clock.monotonic() + limit_s, GIVE_UP_AT.get())

    def _standing(self, until: float) -> _Link:
        link = self._link
        if link is not None and link.look():
            return link
        self._lock_gate(until)
        try:
            link = self._link
            if link is None or link.lost is not None:
                self._link = link = self._connect(until)
            return link
        finally:
            self._gate.release()

    def _lock_gate(self, until: float) -> None:
        if not self._gate.acquire(timeout=max(until - self._clock.monotonic(), _LEAST_S)):
            raise BrokerUnavailableError(f"could not connect to {self.where.shown} in time")

    def _connect(self, until: float) -> _Link:
        addresses = list(self.where.addresses)
        ENTROPY.shuffle(addresses)
        context = self.where.ssl_context()
        reasons: list[str] = []
        for index, (host, port) in enumerate(addresses):
            left_s = max(until - self._clock.monotonic(), _LEAST_S)
            each_s = min(left_s / (len(addresses) - index), float(self.where.options.get("connection_timeout", left_s)))
            sock: socket.socket | None = None
            try:
                sock = socket.create_connection((host, port), timeout=each_s)
                tune_socket(sock)
                if context is not None:
                    sock = context.wrap_socket(sock, server_hostname=self.where.server_hostname(host))
                link = _Link(self.where, sock, self._clock, self.timeout_s)
                link.open(handshake(self.where, self._purpose, 0), self._clock.monotonic() + each_s)
            except (OSError, BrokerError, CodecError) as exc:
                if sock is not None:
                    sock.close()
                translated = (
                    exc if isinstance(exc, StorageError) else faults.translate(exc, "connect to", self.where.shown)
                )
                if isinstance(translated, StorageError):
                    raise translated from exc
                why = f"no answer within {each_s:.2g} s" if isinstance(exc, TimeoutError) else str(exc)
                reasons.append(f"{spell(host, port)}: {why or type(exc).__name__}")
            except BaseException:
                if sock is not None:
                    sock.close()
                raise
            else:
                return link
        raise BrokerUnavailableError(f"could not connect to {self.where.shown}: {'; '.join(reasons)}")

    def _shared(self, name: str, until: float, *, confirms: bool = False) -> SocketChannel:
        """A channel that all threads use, opened again where the server has closed it."""
        link = self._standing(until)
        channel = self._channels.get(name)
        if channel is not None and channel.is_open and channel.link is link:
            return channel
        self._lock_gate(until)
        try:
            channel = self._channels.get(name)
            if channel is None or not channel.is_open or channel.link is not link:
                channel = self._channels[name] = link.open_channel(until, confirms=confirms)
            return channel
        finally:
            self._gate.release()

    # -- calls ------------------------------------------------------------------------------------------------------

    def publish(
        self, publications: Sequence[Publication], *, timeout_s: float | None = None, confirm: bool = True
    ) -> list[Returned | None]:
        """Publish; at most `line.WINDOW` messages are unconfirmed at any time, of all threads together.

        What is found in `MEANWHILE` is done while the first answer is on its way, and takes no time of ours.

        Args:
            publications: In this order.
            timeout_s: Instead of the line's; connecting included.
            confirm: False: written is published. None of them is mandatory, and an error shows at a later call at
                best.

        Returns:
            For each of them None when it is stored, else how it came back.

        Raises:
            EnqueueError: As `line.Channel.publish`.
            BrokerUnavailableError: Nothing was written.
            StorageError: User, password, virtual host or certificate are not taken.
        """
        until = self._until(timeout_s)
        if confirm:
            return self._shared("confirms", until, confirms=True).publish(publications, until=until)
        channel = self._shared("plain", until)
        data = channel.encoder.encode(publications, mandatory=False)
        channel.link.write(data, until)
        return [None] * len(publications)

    def call(self, method: base.Frame, *, timeout_s: float | None = None) -> Any:
        """Send a synchronous method on a channel that is for this only, and wait for its answer, a method too.

        Names that pamqp refuses: see `frames.unchecked`.

        Raises:
            ChannelClosed: The server refused; nothing else is concerned.
            BrokerUnavailableError: It cannot be reached, or did not answer in time.
        """
        until = self._until(timeout_s)
        if not self._calling.acquire(timeout=max(until - self._clock.monotonic(), _LEAST_S)):
            raise BrokerUnavailableError(f"{self.where.shown} has not answered the calls before this one in time")
        try:  # one at a time, so that a refusal hits nobody else
            return self._shared("calls", until).call(method, until=until)
        finally:
            self._calling.release()

    @contextmanager
    def channel(self, *, confirms: bool = False, timeout_s: float | None = None) -> Iterator[SocketChannel]:
        """A channel of the caller's own, closed behind: what he took and has not settled goes back."""
        until = self._until(timeout_s)
        channel = self._standing(until).open_channel(until, confirms=confirms)
        try:
            yield channel
        finally:
            channel.close()


class _Slot:
    """An answer that is due."""

    __slots__ = ("answer", "asked", "fault", "is_abandoned", "is_done")

    def __init__(self, asked: base.Frame) -> None:
        self.asked = asked
        self.is_abandoned = False
        self.is_done = False
        self.answer: Any = None
        self.fault: Exception | None = None

    def fill(self, answer: Any, fault: Exception | None = None) -> None:
        self.answer, self.fault = answer, fault
        self.is_done = True


class SocketChannel:
    """The blocking twin of `line.Channel`. Made by `SocketLine.channel`."""

    def __init__(self, link: _Link, number: int) -> None:
        self.link = link
        self.number = number
        self.is_open = True
        self.lost: Exception | None = None
        self.encoder = Encoder(number, link.server.frame_max)
        self._intake = link.parser.intakes[number] = Intake()
        self._tags = Tags()
        self._slots: deque[_Slot] = deque()
        self._on_cancel: dict[str, Callable[[], None]] = {}
        self._consumers = 0

    # -- calls ------------------------------------------------------------------------------------------------------

    def call(self, method: base.Frame, *, timeout_s: float | None = None, until: float | None = None) -> Any:
        """As `line.Channel.call`; `until` is a deadline instead of a time to wait."""
        return self._answer([method], self._deadline(timeout_s, until))

    def get(self, queue: str, *, timeout_s: float | None = None) -> Arrived | None:
        """As `line.Channel.get`."""
        return cast("Arrived | None", self.call(unchecked(commands.Basic.Get)(queue=queue), timeout_s=timeout_s))

    def open(self, until: float, *, confirms: bool) -> None:
        """Open it; for `SocketLine`."""
        methods: list[base.Frame] = [commands.Channel.Open()]
        if confirms:
            self._intake.confirms = Confirms()
            methods.append(commands.Confirm.Select())
        self._answer(methods, until)

    def _deadline(self, timeout_s: float | None, until: float | None = None) -> float:
        if until is not None:
            return until
        return self.link.clock.monotonic() + (self.link.timeout_s if timeout_s is None else timeout_s)

    def _check(self) -> None:
        if not self.is_open:
            raise self.lost or BrokerUnavailableError(f"the channel to {self.link.where.shown} is closed")

    def _answer(self, methods: Sequence[base.Frame], until: float) -> Any:
        self._check()
        data = b"".join(encode_method(self.number, method) for method in methods)
        slots = [_Slot(method) for method in methods]
        self.link.write(data, until, lambda: self._slots.extend(slots))
        try:
            if not self.link.wait(lambda: slots[-1].is_done or not self.is_open, until):
                raise BrokerUnavailableError(f"{self.link.where.shown} has not answered in time")
        except BaseException:
            for slot in slots:
                slot.is_abandoned = True
            raise
        if not slots[-1].is_done:  # it was lost just before we wrote
            self._end(self.link.lost or BrokerUnavailableError("the channel was closed"))
        for slot in slots:
            if slot.fault is not None:
                raise slot.fault
        return slots[-1].answer

    # -- publishing -------------------------------------------------------------------------------------------------

    def publish(
        self, publications: Sequence[Publication], *, timeout_s: float | None = None, until: float | None = None
    ) -> list[Returned | None]:
        """As `line.Channel.publish`."""
        link, confirms = self.link, self._intake.confirms
        assert confirms is not None, "a channel for publishing is opened with confirms=True"
        self._check()
        began = link.clock.monotonic()
        until = self._deadline(timeout_s, until)
        batches: list[Batch] = []
        unwritten: Exception | None = None
        is_busy = False
        for start in range(0, len(publications), STRIDE):
            part = publications[start : start + STRIDE]
            room = WINDOW - len(part)
            if len(confirms.pending) > room:
                until, is_busy = (until if is_busy else link.work_meanwhile(until)), True
                link.wait(lambda room=room: len(confirms.pending) <= room or not self.is_open, until)  # type: ignore[misc]
            if link.blocked is not None:
                link.wait(lambda: link.blocked is None, until)
            if not self.is_open or link.lost is not None:
                unwritten = self.lost or link.lost
                break
            if link.blocked is not None or len(confirms.pending) > room:
                break  # no time is left
            try:
                data = self.encoder.encode(part)
            except (EncodeError, OversizedError) as exc:
                if not batches:
                    raise
                unwritten = exc
                break
            try:
                link.write(data, until, lambda part=part: batches.append(confirms.begin(part)))  # type: ignore[misc]
            except BrokerUnavailableError as exc:
                if not batches:
                    raise
                unwritten = exc
                break
        if not is_busy:
            until = link.work_meanwhile(until)
        for batch in batches:
            if not link.wait(lambda batch=batch: batch.is_done or not self.is_open, until):  # type: ignore[misc]
                break
        if not self.is_open:  # once more, for what was numbered just after
            confirms.fail(self.lost or BrokerUnavailableError("the channel was closed"))
        return verdict(
            publications, batches, confirms, unwritten=unwritten, where=link.where, blocked=link.blocked,
            timeout_s=until - began,
        )  # fmt: skip

    # -- consuming --------------------------------------------------------------------------------------------------

    def consume(
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
        timeout_s: float | None = None,
    ) -> str:
        """As `line.Channel.consume`; `take` is called by whichever thread reads: use `listen`."""
        self._consumers += 1
        tag = tag or f"c{self._consumers}"

        def unacked(arrived: Arrived) -> None:
            self._tags.settle((arrived.delivery_tag,))
            take(arrived)

        self._intake.takers[tag.encode()] = (tag, unacked if no_ack else take)
        if on_cancel is not None:
            self._on_cancel[tag] = on_cancel
        consume = unchecked(commands.Basic.Consume)(
            queue=queue, consumer_tag=tag, no_ack=no_ack, exclusive=exclusive, arguments=dict(arguments or {})
        )
        try:
            self._answer([commands.Basic.Qos(prefetch_count=prefetch), consume], self._deadline(timeout_s))
        except BaseException:
            self._forget(tag)
            raise
        return tag

    def cancel(self, tag: str, *, timeout_s: float | None = None) -> None:
        """As `line.Channel.cancel`."""
        try:
            self.call(commands.Basic.Cancel(consumer_tag=tag), timeout_s=timeout_s)
        finally:
            self._forget(tag)

    def listen(self, is_enough: Callable[[], bool], *, timeout_s: float) -> bool:
        """Read until `is_enough`; False: it was not within `timeout_s`.

        Raises:
            BrokerUnavailableError: The connection or this channel is lost.
        """
        met = self.link.wait(lambda: is_enough() or not self.is_open, self._deadline(timeout_s))
        if not is_enough():
            self._check()
            if self.link.lost is not None:
                raise self.link.lost
        return met

    def ack(self, tags: Sequence[int]) -> None:
        """As `line.Channel.ack`."""
        if self.is_open and (data := self._tags.ack(self.number, tags)):
            self.link.write(data, self._deadline(None))

    def reject(self, tags: Sequence[int], *, requeue: bool) -> None:
        """As `line.Channel.reject`."""
        if self.is_open and (data := self._tags.nack(self.number, tags, requeue=requeue)):
            self.link.write(data, self._deadline(None))

    # -- end --------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """As `line.Channel.close`."""
        if self.is_open:
            self._intake.takers.clear()
            try:
                self.call(commands.Channel.Close(200, "goodbye", 0, 0), timeout_s=_GOODBYE_S)
            except BrokerUnavailableError:
                pass  # then it is gone with its connection, or will be
            self._end(BrokerUnavailableError(f"the channel to {self.link.where.shown} was closed"))

    def heard(self, method: base.Frame, arrived: Arrived | None) -> None:
        """For the link: a method for this channel."""
        if isinstance(method, commands.Channel.Close):
            self.link.owe(encode_method(self.number, commands.Channel.CloseOk()))
            self._end(ChannelClosed(method.reply_code, method.reply_text))
        elif isinstance(method, commands.Basic.Cancel):
            gone = self._on_cancel.get(method.consumer_tag or "")
            self._forget(method.consumer_tag or "")
            if gone is not None:
                gone()
        elif isinstance(method, commands.Channel.Flow):
            self.link.owe(encode_method(self.number, commands.Channel.FlowOk(method.active)))
        elif (slot := next((each for each in self._slots if is_answer(each.asked, method)), None)) is not None:
            self._slots.remove(slot)
            is_empty = isinstance(method, commands.Basic.GetEmpty)
            is_message = isinstance(method, commands.Basic.GetOk)
            slot.fill(None if is_empty else arrived if is_message else method)
            if slot.is_abandoned:
                if arrived is not None:
                    self.stray(arrived)
                elif isinstance(method, commands.Basic.ConsumeOk):
                    self.link.owe(
                        encode_method(self.number, commands.Basic.Cancel(consumer_tag=method.consumer_tag, nowait=True))
                    )

    def stray(self, arrived: Arrived) -> None:
        """For the link: a message for a consumer that is no more."""
        self.link.owe(self._tags.nack(self.number, [arrived.delivery_tag], requeue=True))

    def _forget(self, tag: str) -> None:
        self._intake.takers.pop(tag.encode(), None)
        self._on_cancel.pop(tag, None)

    def _end(self, exc: Exception) -> None:
        if self.is_open:
            self.is_open = False
            self.lost = exc
            self.link.forget(self.number)
        while self._slots:
            self._slots.popleft().fill(None, self.lost or exc)
        if self._intake.confirms is not None:
            self._intake.confirms.fail(exc)

    end = _end


class _Link:
    """One connection of a socket line: it is used until it is lost, then left behind."""

    def __init__(self, where: AmqpUrl, sock: socket.socket, clock: Clock, timeout_s: float) -> None:
        self.where = where
        self.clock = clock
        self.timeout_s = timeout_s
        self.lost: Exception | None = None
        self.blocked: str | None = None
        self.server = Server()
        self.parser = Parser(self._heard, self._stray)
        self._sock = sock
        self._channels: dict[int, SocketChannel] = {}
        self._numbers = 0
        self._writing = threading.Lock()
        self._io = threading.Lock()  # TLS cannot read and write at the same time
        self._turn = threading.Condition(threading.Lock())
        self._is_reading = False
        self._waiters = 0
        self._users = 0
        self._owed: deque[bytes] = deque()
        self._methods: list[base.Frame] | None = []  # while it is being opened
        self._goodbye = False

    # -- opening ----------------------------------------------------------------------------------------------------

    def open(self, steps: Any, until: float) -> None:
        """Log in, on a socket that blocks."""
        self._sock.sendall(next(steps))
        methods = self._methods = []
        while True:
            self._sock.settimeout(max(until - self.clock.monotonic(), _LEAST_S))
            data = self._sock.recv(_CHUNK)
            if not data:
                raise ConnectionError("the server closed the connection during the login")
            self.parser.feed(data)
            while methods:
                try:
                    self._sock.sendall(steps.send(methods.pop(0)))
                except StopIteration as end:
                    self.server = end.value
                    self.parser.frame_max = self.server.frame_max
                    self._methods = None
                    self._sock.setblocking(False)
                    return

    def open_channel(self, until: float, *, confirms: bool) -> SocketChannel:
        """As `line.Line.open_channel`."""
        with self._turn:
            number = next(
                (
                    n
                    for first in (self._numbers + 1, 1)  # a number that was just given up comes last
                    for n in range(first, self.server.channel_max + 1)
                    if n not in self._channels
                ),
                None,
            )
            if number is None:
                raise BrokerUnavailableError(f"{self.where.shown}: all channels of the connection are in use")
            self._numbers = number
            channel = self._channels[number] = SocketChannel(self, number)
        try:
            channel.open(until, confirms=confirms)
        except BaseException as exc:
            # half open: its number is not to be used again
            if self.lost is None and not isinstance(exc, ChannelClosed):
                self.lose(BrokerUnavailableError(f"{self.where.shown} has not opened a channel in time"))
            raise
        return channel

    def forget(self, number: int) -> None:
        """A channel is gone."""
        self.parser.intakes.pop(number, None)
        self._channels.pop(number, None)

    # -- writing ----------------------------------------------------------------------------------------------------

    def write(self, data: bytes, until: float, note: Callable[[], object] | None = None) -> None:
        """Write all of it.

        Args:
            data: Whole frames.
            until: When to give up; the connection is lost then, if a part was written.
            note: Called when it is certain that something will be written, in the order of writing.

        Raises:
            BrokerUnavailableError: Nothing was written, because the connection is lost or others took all the time.
        """
        if not self._writing.acquire(timeout=max(until - self.clock.monotonic(), _LEAST_S)):
            raise BrokerUnavailableError(f"{self.where.shown} takes nothing: others have been writing all the time")
        try:
            if self.lost is not None:
                raise self.lost
            if note is not None:
                note()
            self._push(data, until)
        finally:
            self._writing.release()
        self._pay()

    def owe(self, data: bytes) -> None:
        """Have it written soon; never blocks. For what a reader must answer."""
        self._owed.append(data)

    def _pay(self) -> None:
        # whoever holds the lock looks again after he has released it
        while self._owed and self.lost is None and self._writing.acquire(blocking=False):
            try:
                self._push(b"", self.clock.monotonic() + _GOODBYE_S)
            finally:
                self._writing.release()

    def _push(self, data: bytes, until: float) -> None:
        owed: list[bytes] = []
        while self._owed:
            owed.append(self._owed.popleft())
        data = b"".join((*owed, data))
        self._enter()
        try:
            rest = memoryview(data)
            while rest:
                try:
                    with self._io:
                        rest = rest[self._sock.send(rest) :]
                except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                    left_s = until - self.clock.monotonic()
                    if left_s <= 0:
                        raise TimeoutError("it takes no more bytes") from None
                    if self._become_reader():  # it may be waiting for us to take something from it
                        try:
                            self._poll(left_s, to_write=True)
                            self._read_some()
                        finally:
                            self._leave_reader()
                    else:
                        self._poll(min(left_s, 0.1), to_write=True, to_read=False)
        except OSError as exc:
            self._lose_for(exc)
        except BaseException:
            self._lose_for(ConnectionAbortedError("writing was interrupted"))
            raise
        finally:
            self._leave()

    # -- reading ----------------------------------------------------------------------------------------------------

    def look(self) -> bool:
        """Whether the connection stands; takes in what the server has said since somebody read."""
        if self.lost is None and not self._is_reading and self._poll(0) and self._become_reader():
            try:
                self._read_some()
            finally:
                self._leave_reader()
            self._pay()
        return self.lost is None

    def wait(self, is_done: Callable[[], bool], until: float) -> bool:
        """Wait until `is_done`, reading unless somebody else does; True as well when the connection is lost."""
        while True:
            with self._turn:
                while self._is_reading and not is_done() and self.lost is None:
                    left_s = until - self.clock.monotonic()
                    if left_s <= 0:
                        return False
                    self._waiters += 1
                    try:
                        self._turn.wait(left_s)
                    finally:
                        self._waiters -= 1
                if is_done() or self.lost is not None:
                    return True
                self._is_reading = True
                self._users += 1
            try:
                while not is_done() and self.lost is None:
                    left_s = until - self.clock.monotonic()
                    if left_s <= 0:
                        return is_done()
                    if self._poll(left_s):
                        self._read_some()
                        if self._owed:
                            self._pay()
                        if self._waiters:
                            with self._turn:
                                self._turn.notify_all()
            finally:
                self._leave_reader()

    def work_meanwhile(self, until: float) -> float:
        """Do what the caller has to do while the server works; returns the deadline, moved by the time it took."""
        work = MEANWHILE.get()
        if work is None:
            return until
        MEANWHILE.set(None)
        began = self.clock.monotonic()
        work()
        return until + self.clock.monotonic() - began

    def _become_reader(self) -> bool:
        with self._turn:
            if self._is_reading or self.lost is not None:
                return False
            self._is_reading = True
            self._users += 1
            return True

    def _leave_reader(self) -> None:
        with self._turn:
            self._is_reading = False
            self._turn.notify_all()
        self._leave()

    def _read_some(self) -> None:
        try:
            while True:
                try:
                    with self._io:
                        data = self._sock.recv(_CHUNK)
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    return
                if not data:
                    self._lose_for(ConnectionError("the server has closed it"))
                    return
                self.parser.feed(data)
                if not (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()):
                    return
        except (OSError, CodecError) as exc:
            self._lose_for(exc)
        except BaseException:
            self._lose_for(ConnectionAbortedError("reading was interrupted"))
            raise

    def _poll(self, left_s: float, *, to_read: bool = True, to_write: bool = False) -> bool:
        sock = self._sock
        if to_read and not to_write and isinstance(sock, ssl.SSLSocket) and sock.pending():
            return True
        descriptor = sock.fileno()
        if descriptor < 0:
            return True  # reading will tell
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(descriptor, (select.POLLIN if to_read else 0) | (select.POLLOUT if to_write else 0))
            return bool(poll.poll(left_s * 1000))
        ready = select.select([sock] if to_read else [], [sock] if to_write else [], [], left_s)
        return bool(ready[0] or ready[1])

    def _heard(self, number: int, method: base.Frame, arrived: Arrived | None) -> None:
        if self._methods is not None:
            self._methods.append(method)
        elif number:
            channel = self._channels.get(number)
            if channel is not None:
                channel.heard(method, arrived)
        elif isinstance(method, commands.Connection.Blocked):
            self.blocked = method.reason or "no reason given"
        elif isinstance(method, commands.Connection.Unblocked):
            self.blocked = None
        elif isinstance(method, commands.Connection.Close):
            self.owe(encode_method(0, commands.Connection.CloseOk()))
            self._pay()
            self.lose(faults.closed_by_server(method.reply_code, method.reply_text, self.where.shown))
        elif isinstance(method, commands.Connection.CloseOk):
            self._goodbye = True

    def _stray(self, number: int, arrived: Arrived) -> None:
        channel = self._channels.get(number)
        if channel is not None:
            channel.stray(arrived)

    # -- end --------------------------------------------------------------------------------------------------------

    def close(self, until: float) -> None:
        """Say goodbye."""
        if self.lost is None:
            try:
                self.write(encode_method(0, commands.Connection.Close(200, "goodbye", 0, 0)), until)
                self.wait(lambda: self._goodbye, until)
            except BrokerUnavailableError:
                pass
        self.lose(BrokerUnavailableError(f"the connection to {self.where.shown} was closed"))

    def disown(self) -> None:
        """Let go of it in a child: the parent's connection is not touched."""
        self.lost = BrokerUnavailableError("the connection belongs to the parent process")
        self._sock.close()

    def _lose_for(self, exc: Exception) -> None:
        lost = BrokerUnavailableError(
            f"the connection to {self.where.shown} was lost: {str(exc) or type(exc).__name__}"
        )
        lost.__cause__ = exc
        self.lose(lost)

    def lose(self, exc: Exception) -> None:
        """Nothing more will come; the socket is closed by the last who uses it."""
        self._enter()
        if self.lost is None:
            self.lost = exc
            try:
                self._sock.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for it
            except OSError:
                pass  # it is gone already
            for channel in list(self._channels.values()):
                channel.end(exc)
        with self._turn:
            self._turn.notify_all()
        self._leave()

    def _enter(self) -> None:
        with self._turn:
            self._users += 1

    def _leave(self) -> None:
        with self._turn:
            self._users -= 1
            is_last = not self._users and self.lost is not None
        if is_last:
            self._sock.close()
