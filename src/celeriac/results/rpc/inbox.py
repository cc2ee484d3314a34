"""The results that were sent to this process, and the thread that listens for them.

    <address>   queue    durable, gone when nobody listened for an hour; a message is a result meta, its correlation_id
                         the task's id

The address is a UUID, another one after a fork. Celery's clients have their queue deleted with the connection, and lose
what is sent until they have another; ours outlives an outage. When the process ends in good order, it is deleted.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands

from celeriac.clock import ENTROPY, SYSTEM_CLOCK
from celeriac.errors import BrokerError, BrokerUnavailableError, CodecError, ConfigError
from celeriac.model import StoredResult, new_task_id
from celeriac.model.states import is_final, may_follow
from celeriac.results.waiter import Waiter
from celeriac.storage import forks
from celeriac.storage.amqp.faults import ChannelClosed, translate
from celeriac.storage.amqp.line import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from celeriac.clock import Clock
    from celeriac.model import TaskId
    from celeriac.storage.amqp.frames import Arrived
    from celeriac.storage.amqp.url import AmqpUrl

MOST: Final = 100_000
"""Results that a process remembers; of more, the oldest are forgotten, read or not."""
UNUSED_S: Final = 3600.0
_PREFETCH: Final = 1000
_OUTAGE_S: Final = 30.0
"""Who waits is told of an outage that lasts longer."""
_PAUSE_S: Final = (0.05, 2.0)
_GOODBYE_S: Final = 1.0
_REFUSED: Final = 403

_log = logging.getLogger("celeriac.results")
_monotonic = SYSTEM_CLOCK.monotonic
_LEFT_BEHIND: Final[list[Any]] = []
"""Of the parent, in a forked child: finalizers would write to its connections."""


class Inbox:
    """Listens for a whole process; safe to use from any number of threads and event loops.

    Args:
        where: The server.
        timeout_s: How long `listen` may take.
        clock: For ages; durations are those of the network.
        read_meta: Finds (task id, state) in a meta; raises CodecError where it cannot.
        expires_s: After this, a result is forgotten; None: never.
    """

    def __init__(
        self,
        where: AmqpUrl,
        *,
        timeout_s: float,
        clock: Clock,
        read_meta: Callable[[bytes], tuple[TaskId, str]],
        expires_s: float | None,
    ) -> None:
        self._where = where
        self._timeout_s = timeout_s
        self._clock = clock
        self._read_meta = read_meta
        self._expires_s = expires_s
        self._line: Line | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._start_afresh()
        forks.register(self)
        atexit.register(_say_goodbye, weakref.ref(self))

    def _start_afresh(self) -> None:
        self.address = new_task_id()
        self.is_listening = False
        self._has_listened = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._results: dict[TaskId, StoredResult] = {}
        self._waiting: dict[TaskId, dict[Waiter, None]] = {}
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None
        self._trouble: list[BrokerError] = []
        """What the last try to listen met with, if anything."""

    def before_fork(self) -> None:
        """Nothing: the thread stays in the parent."""

    def after_fork(self) -> None:
        _LEFT_BEHIND.append((self._line, self._loop, self._stop))
        self._line = self._loop = None
        self._start_afresh()

    # -- who reads ---------------------------------------------------------------------------------------------------

    def read(self, ids: Collection[TaskId]) -> dict[TaskId, StoredResult]:
        """What has come for these."""
        now = self._clock.time()
        with self._lock:
            return {task_id: found for task_id in ids if (found := self._fresh(task_id, now)) is not None}

    def enter(self, ids: Collection[TaskId], waiter: Waiter) -> dict[TaskId, StoredResult]:
        """The final ones among what has come for these; where there are none, the waiter is told of the first.

        Raises:
            ConfigError: This process has never listened, so nothing can come.
        """
        with self._lock:
            found = self._final(ids)
            if found:
                return found
            if not self._has_listened:
                raise ConfigError(
                    "results of rpc:// are sent to the process that sent the task, and this process has sent none, so "
                    "there is nothing to wait for; for results that any process can read, set result_backend to "
                    "redis://… or sqlite:///…"
                )
            for task_id in ids:
                self._waiting.setdefault(task_id, {})[waiter] = None
        return {}

    def leave(self, waiter: Waiter) -> dict[TaskId, StoredResult]:
        """Stop telling him; the final ones among what has come for him."""
        with self._lock:
            for task_id in waiter.ids:
                others = self._waiting.get(task_id)
                if others is not None:
                    others.pop(waiter, None)
                    if not others:
                        del self._waiting[task_id]
            return self._final(waiter.ids)

    def _final(self, ids: Collection[TaskId]) -> dict[TaskId, StoredResult]:
        now = self._clock.time()
        return {
            task_id: found
            for task_id in ids
            if (found := self._fresh(task_id, now)) is not None and is_final(found.state)
        }

    def _fresh(self, task_id: TaskId, now: float) -> StoredResult | None:
        found = self._results.get(task_id)
        if found is not None and found.expires_at is not None and found.expires_at <= now:
            del self._results[task_id]
            return None
        return found

    def forget(self, ids: Collection[TaskId]) -> None:
        """Drop them."""
        with self._lock:
            for task_id in ids:
                self._results.pop(task_id, None)

    def expire(self, limit: int) -> int:
        """Drop up to so many whose time is over; returns how many."""
        now = self._clock.time()
        dropped = 0
        with self._lock:
            while self._results and dropped < limit:
                task_id, oldest = next(iter(self._results.items()))
                if oldest.expires_at is None or oldest.expires_at > now:
                    break
                del self._results[task_id]
                dropped += 1
        return dropped

    # -- listening ---------------------------------------------------------------------------------------------------

    @property
    def is_stopped(self) -> bool:
        """Whether nobody listens, nor tries to again."""
        return self._thread is None

    def listen(self) -> None:
        """See to it that what is sent to `address` arrives.

        Raises:
            BrokerUnavailableError: The server was not reached within `timeout_s`.
            StorageError: It refused.
        """
        if self.is_listening:
            return
        until = _monotonic() + self._timeout_s
        with self._changed:
            self._trouble = []
            if self._thread is None:
                self._stop = self._loop = None
                self._thread = threading.Thread(target=self._run, name="celeriac-rpc-results", daemon=True)
                self._thread.start()
            while not self.is_listening:
                left_s = until - _monotonic()
                for trouble in self._trouble:
                    if isinstance(trouble, ChannelClosed) and trouble.code == _REFUSED:
                        raise translate(trouble, "listen for results at", self._where.shown) from trouble
                    if not isinstance(trouble, BrokerUnavailableError):
                        raise trouble
                if left_s <= 0:
                    why = self._trouble[0] if self._trouble else "no answer"
                    raise BrokerUnavailableError(
                        f"could not listen for results at {self._where.shown} within {self._timeout_s:g} s: {why}"
                    )
                self._changed.wait(left_s)

    def stop(self, *, delete: bool = False) -> None:
        """End the thread and its connection; what has come stays, and what comes waits on the server.

        Args:
            delete: Nobody will read any more.
        """
        with self._lock:
            thread, loop, stop = self._thread, self._loop, self._stop
            self._thread = None
        if thread is None or loop is None or stop is None:
            return
        if delete:
            try:
                asyncio.run_coroutine_threadsafe(self._delete(), loop).result(_GOODBYE_S)
            except Exception as exc:  # the server deletes it by itself
                _log.debug("the queue of results %s is not deleted: %s", self.address, exc)
        try:
            loop.call_soon_threadsafe(stop.set)
        except RuntimeError:
            return  # it has ended
        if thread is not threading.current_thread():
            thread.join(self._timeout_s)

    async def _delete(self) -> None:
        if self._line is not None and self._line.is_open:
            channel = await self._line.open_channel()
            await channel.call(commands.Queue.Delete(queue=self.address))

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = stop = asyncio.Event()
        down_since = _monotonic()
        pause_s = _PAUSE_S[0]
        with self._lock:
            mine = self._thread is threading.current_thread()
        while mine and not stop.is_set() and self._thread is threading.current_thread():
            line = Line(self._where, purpose="results", timeout_s=self._timeout_s)
            lost = asyncio.Event()
            try:
                await line.connect()
                line.on_lost.append(lambda _, lost=lost: lost.set())  # type: ignore[misc]
                await self._consume(line, lost)
            except BrokerError as exc:
                self._note(exc, _monotonic() - down_since)
            else:
                self._note(None, 0.0)
                pause_s = _PAUSE_S[0]
                await _first(stop, lost)
                down_since = _monotonic()
                if not stop.is_set() and self._thread is threading.current_thread():
                    why = line.lost or "its queue was deleted"
                    _log.warning("the connection for results to %s was lost: %s", self._where.shown, why)
            finally:
                self.is_listening = False
                self._line = None
                await line.close()
            if not stop.is_set():
                await _first(stop, within_s=pause_s * ENTROPY.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, _PAUSE_S[1])

    async def _consume(self, line: Line, lost: asyncio.Event) -> None:
        channel = await line.open_channel()
        channel.on_lost.append(lambda _: lost.set())
        unused_s = UNUSED_S if not self._expires_s else min(self._expires_s, UNUSED_S)
        await channel.call(
            commands.Queue.Declare(
                queue=self.address, durable=True, arguments={"x-expires": max(1000, int(unused_s * 1000))}
            )
        )

        def take(arrived: Arrived) -> None:
            self._take(arrived)
            channel.ack((arrived.delivery_tag,))

        await channel.consume(self.address, take, prefetch=_PREFETCH, on_cancel=lost.set)
        self._line = line

    def _note(self, trouble: BrokerError | None, down_s: float) -> None:
        with self._changed:
            self._trouble = [] if trouble is None else [trouble]
            if trouble is None:
                self.is_listening = self._has_listened = True
            elif down_s > _OUTAGE_S:
                for waiter in {waiter: None for each in self._waiting.values() for waiter in each}:
                    waiter.error = trouble
                    waiter.tell()
            self._changed.notify_all()

    def _take(self, arrived: Arrived) -> None:
        try:
            task_id, state = self._read_meta(arrived.body)
        except CodecError as exc:
            _log.error("a result that was sent to this process cannot be read, and is dropped: %s", exc)
            return
        expires_at = None if not self._expires_s else self._clock.time() + self._expires_s
        with self._lock:
            old = self._results.get(task_id)
            if not may_follow(None if old is None else old.state, state):
                return  # repeated, or overtaken
            if old is not None:
                del self._results[task_id]  # the oldest are the first ones
            self._results[task_id] = StoredResult(id=task_id, state=state, payload=arrived.body, expires_at=expires_at)
            waiters = self._waiting.get(task_id) if is_final(state) else None
            for waiter in waiters or ():
                waiter.tell()
            if len(self._results) > MOST:
                del self._results[next(iter(self._results))]


async def _first(*events: asyncio.Event, within_s: float | None = None) -> None:
    """Wait until one is set, or the time is over."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()


def _say_goodbye(inbox: weakref.ref[Inbox]) -> None:
    found = inbox()
    if found is not None:
        found.stop(delete=True)
