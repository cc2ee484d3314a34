"""The notes: one stream in which every worker reads what all of them must know.

::

    celeriac.notes   stream   what was cancelled, and how processes ended that were running a task; 7 days, 64 MB

A stream is read by everybody, from its beginning, and reading takes nothing away. A worker that starts has read all
there is before it is handed out anything: it publishes a greeting, and what it reads up to that is older. From then on
a note is here within milliseconds.

A stream that is deleted, and made again by who publishes next, may have forgotten its readers and told none of them
(3.10). So each greets itself now and then, and begins anew when it does not hear that.

Why not a table: AMQP has none. Why not a fanout: who starts a minute later must know of it, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pamqp import commands

from celeriac.clock import ENTROPY
from celeriac.errors import BrokerUnavailableError
from celeriac.model import Cancellation
from celeriac.storage.amqp import ChannelClosed, Publication

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence

    from celeriac.model import TaskId
    from celeriac.storage.amqp import Arrived, Channel, Line

_log = logging.getLogger("celeriac.worker")

STREAM: Final = "celeriac.notes"
KEPT_S: Final = 7 * 86400.0
ARGUMENTS: Final[dict[str, Any]] = {
    "x-queue-type": "stream",
    "x-max-age": "7D",
    "x-stream-max-segment-size-bytes": 1_000_000,
    "x-max-length-bytes": 64_000_000,
}
_MOST: Final = 200_000
"""Ids remembered of each kind; the oldest are forgotten first."""
_MOST_PER_ID: Final = 100
_AT_ONCE: Final = 500
"""Ids in one note."""
_AHEAD: Final = 1000
_A_MOMENT_S: Final = 0.5
_GREET_S: Final = 120.0
"""How often a reader makes sure that it still hears. A hundred of them read as many greetings of each other."""
_UNHEARD_S: Final = 30.0
"""A greeting that is not back by then does not come any more; the server may be busy."""
_PROPERTIES: Final = b"\x90\x00\x10application/json\x02"
"""Content type, and persistent."""


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of the stream."""

    at: float
    """Wall-clock epoch seconds."""
    hello: str | None = None
    """A consumer's greeting to itself."""
    cancel: tuple[Cancellation, ...] = ()
    lost: dict[str, bytes] = {}
    """How the process ended that was running this task."""


_decode: Final = msgspec.json.Decoder(Note).decode


def publication(note: Note) -> Publication:
    """The note as a message to the stream."""
    return Publication("", STREAM, _PROPERTIES, msgspec.json.encode(note))


def cancelling(cancellations: Sequence[Cancellation], now: float) -> Iterator[Publication]:
    """What to publish so that every worker knows of these orders."""
    # what is to be stored for a message that a broker drops is of no use here: this one drops none
    bare = [msgspec.structs.replace(each, result=None) if each.result else each for each in cancellations]
    for start in range(0, len(bare), _AT_ONCE):
        yield publication(Note(at=now, cancel=tuple(bare[start : start + _AT_ONCE])))


def losing(notes: Mapping[TaskId, bytes], now: float) -> Iterator[Publication]:
    """What to publish so that whoever gets one of these messages next knows how the last process ended."""
    ids = list(notes)
    for start in range(0, len(ids), _AT_ONCE):
        yield publication(Note(at=now, lost={each: notes[each] for each in ids[start : start + _AT_ONCE]}))


class Notes:
    """What was read, by id; of bounded size."""

    def __init__(self) -> None:
        self.stamp = 0
        """Changes with each order to cancel."""
        self._cancelled: OrderedDict[TaskId, tuple[float, Cancellation]] = OrderedDict()
        self._lost: OrderedDict[TaskId, list[tuple[float, bytes]]] = OrderedDict()

    def add(self, note: Note) -> None:
        """Remember one."""
        for order in note.cancel:
            known = self._cancelled.pop(order.id, None)
            if known is not None and known[1].terminate and not order.terminate:
                order = known[1]  # to forbid what was already ordered to end takes nothing back
            self._cancelled[order.id] = (note.at, order)
        if note.cancel:
            self.stamp += 1
        for task_id, what in note.lost.items():
            known_ends = self._lost.setdefault(task_id, [])
            known_ends.append((note.at, what))
            del known_ends[:-_MOST_PER_ID]
            self._lost.move_to_end(task_id)
        for each in (self._cancelled, self._lost):
            while len(each) > _MOST:
                each.popitem(last=False)

    def forget_lost(self) -> None:
        """Before the stream is read from its beginning again, where each note would count twice."""
        self._lost.clear()

    @property
    def cancelled_ids(self) -> Collection[TaskId]:
        """Of all orders."""
        return self._cancelled.keys()

    @property
    def lost_ids(self) -> Collection[TaskId]:
        """Of all that ran when their process ended."""
        return self._lost.keys()

    def cancelled(self, ids: Collection[TaskId], now: float) -> list[Cancellation]:
        """The orders for these ids."""
        found = [self._cancelled[each] for each in ids if each in self._cancelled]
        return [order for at, order in found if at > now - KEPT_S]

    def lost(self, task_id: TaskId, since: float) -> tuple[bytes, ...]:
        """What was noted of the ends of processes that ran it, after `since`, oldest first."""
        known = self._lost.get(task_id)
        return () if known is None else tuple(what for at, what in known if at >= since)


class NotesReader:
    """Reads the stream into `Notes` for as long as its connection lives."""

    def __init__(
        self,
        line: Line,
        notes: Notes,
        *,
        name: str,
        publish: Callable[[Sequence[Publication]], Awaitable[object]],
        is_blocked: Callable[[], bool],
        now: Callable[[], float],
        pause: Callable[[float], Awaitable[None]],
        on_cancelled: Callable[[], None] = lambda: None,
    ) -> None:
        """Wire it.

        Args:
            line: The connection; the reader has a channel of its own on it.
            notes: Where they go.
            name: Of the greeting; unlike any other's.
            publish: Publishes with a confirm, over another line.
            is_blocked: Whether the server takes no publishes at present.
            now: Wall clock.
            pause: Sleeps.
            on_cancelled: Called on the loop when something was cancelled.
        """
        self._line = line
        self._notes = notes
        self._name = name
        self._publish = publish
        self._is_blocked = is_blocked
        self._now = now
        self._pause = pause
        self._on_cancelled = on_cancelled
        self._channel: Channel | None = None
        self._heard = asyncio.Event()
        self._greetings = 0
        self._unacked: list[int] = []
        self._reopening: asyncio.Task[None] | None = None
        self._greeting: asyncio.Task[None] | None = None
        self._is_stale = False

    async def open(self, timeout_s: float) -> None:
        """Read all that there is; returns then. Where the server has no streams, a warning says what is missing.

        Raises:
            BrokerUnavailableError: The server knows the stream and cannot reach it, as for a moment after its start.
        """
        try:
            await self._open(timeout_s)
        except ChannelClosed as exc:
            _log.warning(
                "the stream %r cannot be used (%s): revoked tasks run all the same unless they run here already, and "
                "nobody learns which task killed its process. It needs RabbitMQ 3.9 and the right to declare it",
                STREAM,
                exc,
            )
        else:
            self._greeting = asyncio.get_running_loop().create_task(self._greet_on(), name="amqp-greetings")

    async def _open(self, timeout_s: float) -> None:
        self._channel = channel = await self._line.open_channel()
        try:
            await channel.call(commands.Queue.Declare(queue=STREAM, durable=True, arguments=ARGUMENTS))
        except ChannelClosed as exc:
            if exc.code == 404:  # to a declaration: it is there, and not up yet
                raise BrokerUnavailableError(f"the stream {STREAM!r} cannot be reached yet: {exc}") from exc
            if exc.code != 406:
                raise
            self._channel = channel = await self._line.open_channel()  # it exists with other limits: they are used
        channel.on_lost.append(self._lost)
        self._unacked.clear()
        await channel.consume(
            STREAM,
            self._take,
            prefetch=_AHEAD,
            arguments={"x-stream-offset": "first"},
            on_cancel=self._reopen,
        )
        await self._read_up_to_now(timeout_s)

    async def _read_up_to_now(self, timeout_s: float) -> None:
        greeting = asyncio.ensure_future(self._greet())
        heard = asyncio.ensure_future(self._heard.wait())
        left_s = timeout_s
        try:
            while left_s > 0 and not heard.done() and self._line.is_open and not self._is_stale:
                await asyncio.wait((heard, greeting), timeout=_A_MOMENT_S, return_when=asyncio.FIRST_COMPLETED)
                if greeting.done() and not heard.done():
                    greeting.result()
                    await asyncio.wait((heard,), timeout=_A_MOMENT_S)
                if self._is_blocked():
                    break  # what is there has come by now; of what comes, nothing can be promised anyway
                left_s -= _A_MOMENT_S
        finally:
            for task in (greeting, heard):
                task.cancel()
            await asyncio.gather(greeting, heard, return_exceptions=True)
        if not self._heard.is_set():
            _log.warning(
                "not all notes on revoked tasks could be read, because the server takes no messages or is slow"
            )

    async def _greet(self) -> None:
        """Publish something that nobody else does, for which `_heard` is set when it comes back."""
        self._greetings += 1
        self._heard.clear()
        await self._publish([publication(Note(at=self._now(), hello=self._hello))])

    @property
    def _hello(self) -> str:
        return f"{self._name}:{self._greetings}"

    async def _greet_on(self) -> None:
        while self._line.is_open:
            await self._pause(_GREET_S * ENTROPY.uniform(0.5, 1.5))
            if self._reopening is not None and not self._reopening.done():
                continue
            mine = self._greetings + 1
            try:
                await self._greet()
                async with asyncio.timeout(_UNHEARD_S):
                    await self._heard.wait()
            except TimeoutError:
                if mine == self._greetings and not self._is_blocked() and self._line.is_open:
                    _log.warning("the stream %r was made anew and has forgotten this reader; reading it again", STREAM)
                    self._reopen()
            except Exception as exc:
                _log.debug("whether notes are still heard is not known: %s", exc)

    def _take(self, arrived: Arrived) -> None:
        if not self._unacked:
            asyncio.get_running_loop().call_soon(self._ack)
        self._unacked.append(arrived.delivery_tag)
        try:
            note = _decode(arrived.body)
        except (ValueError, RecursionError) as exc:
            _log.debug("a note that is none: %s", exc)  # of a later release, or somebody else's
            return
        if note.hello is not None:
            if note.hello == self._hello:
                self._heard.set()
            return
        stamp = self._notes.stamp
        self._notes.add(note)
        if self._notes.stamp != stamp:
            self._on_cancelled()

    def _ack(self) -> None:
        tags, self._unacked = self._unacked, []
        if tags and self._channel is not None and self._channel.is_open:
            self._channel.ack(tags)

    def _lost(self, exc: Exception) -> None:
        if self._line.is_open:  # the channel alone
            _log.warning("the notes cannot be read (%s); trying again", exc)
            self._reopen()

    def _reopen(self) -> None:
        self._is_stale = True
        if self._reopening is None or self._reopening.done():
            self._reopening = asyncio.get_running_loop().create_task(self._go_on(), name="amqp-notes")

    async def _go_on(self) -> None:
        pause_s = 0.2
        while self._line.is_open:
            try:
                if self._channel is not None and self._channel.is_open:
                    self._channel.on_lost.clear()
                    await self._channel.close()
                self._notes.forget_lost()
                self._is_stale = False
                await self._open(10.0)
            except Exception as exc:
                _log.debug("the notes cannot be read yet: %s", exc)
                await self._pause(pause_s)
                pause_s = min(2.0 * pause_s, 10.0)
            else:
                if not self._is_stale:  # it may have gone once more while it was read
                    return

    async def close(self) -> None:
        """Read no more; the line is closed by whoever owns it."""
        tasks = [each for each in (self._greeting, self._reopening) if each is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
