"""The result store that stores nothing: a result is a message to the process that sent the task (protocol 8.5).

Where it goes is in the task's message (`reply_to`), so any worker of ours or Celery's can answer any client of ours or
Celery's. What came for this process is in its inbox; results of other processes are not to be had, and chords, which
count what is stored, neither.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NoReturn

from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import BrokerError, BrokerUnavailableError, ConfigError, EnqueueRejectedError, StorageError
from celeriac.model.tables import Properties, write_properties
from celeriac.results.rpc.inbox import Inbox
from celeriac.results.waiter import Waiter
from celeriac.storage.amqp.frames import Publication
from celeriac.storage.amqp.socketline import SocketLine
from celeriac.storage.amqp.url import AmqpUrl

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.model import Arrival, Join, Record, StoredResult, TaskId

_monotonic = SYSTEM_CLOCK.monotonic
_JSON: Final = ("application/json", "utf-8")
_MSGPACK: Final = ("application/x-msgpack", "binary")


class RpcResultStore:
    """Results sent over RabbitMQ; an `interfaces.Mailbox`. Safe to use from any number of threads and event loops.

    Args:
        url: Of the server; see `storage.amqp.url.AmqpUrl.parse`.
        timeout_s: How long one call may take. Whoever waits for a result sits out an outage of half a minute.
        clock: For ages; durations are those of the network.
        options: Celery's transport options; those of the connection are used.
        read_meta: Finds (task id, state) in a meta; raises CodecError where it cannot.
        expires_s: How long this process remembers a result that has come; None: as long as it lives.
        persistent: Results on their way outlive a restart of the server.

    Raises:
        ConfigError: The URL or an option is wrong; the message says what is expected.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        clock: Clock = SYSTEM_CLOCK,
        options: Mapping[str, Any] | None = None,
        read_meta: Callable[[bytes], tuple[TaskId, str]],
        expires_s: float | None = None,
        persistent: bool = False,
    ) -> None:
        self._where = AmqpUrl.parse(url, options)
        self._timeout_s = timeout_s
        self._delivery_mode = 2 if persistent else 1
        self._inbox = Inbox(
            self._where, timeout_s=timeout_s, clock=clock, read_meta=read_meta, expires_s=expires_s or None
        )
        self._socket = SocketLine(self._where, purpose="results", timeout_s=timeout_s)

    @property
    def url(self) -> str:
        """Never the broker's: results travel before the acknowledgement, not with it."""
        return f"rpc+{self._where.shown}"

    @property
    def has_joins(self) -> bool:
        return False

    # -- Mailbox -----------------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        return self._inbox.address

    @property
    def is_listening(self) -> bool:
        return self._inbox.is_listening

    def listen(self) -> None:
        self._inbox.listen()

    # -- sending -----------------------------------------------------------------------------------------------------

    def put(self, results: Sequence[StoredResult], /) -> Sequence[bool]:
        letters = [self._letter(result) for result in results if result.reply_to]
        if letters:
            try:
                self._socket.publish(letters, timeout_s=self._timeout_s)
            except BrokerError as exc:
                raise _unsent(exc) from exc
        return [True] * len(results)

    async def aput(self, results: Sequence[StoredResult], /) -> Sequence[bool]:
        return await asyncio.to_thread(self.put, results)

    def _letter(self, result: StoredResult) -> Publication:
        content_type, content_encoding = _JSON if result.payload[:1] == b"{" else _MSGPACK
        properties = Properties(
            content_type=content_type,
            content_encoding=content_encoding,
            delivery_mode=self._delivery_mode,
            priority=0,
            correlation_id=result.correlation_id or result.id,
        )
        # nobody waits any more where there is no such queue
        return Publication("", result.reply_to or "", write_properties(properties), result.payload, mandatory=False)

    # -- reading -----------------------------------------------------------------------------------------------------

    def get(self, ids: Collection[TaskId], /) -> Mapping[TaskId, StoredResult]:
        return self._inbox.read(ids)

    async def aget(self, ids: Collection[TaskId], /) -> Mapping[TaskId, StoredResult]:
        return self._inbox.read(ids)

    def wait(self, ids: Collection[TaskId], /, *, timeout_s: float) -> Mapping[TaskId, StoredResult]:
        waiter = Waiter(ids)
        try:
            if found := self._inbox.enter(ids, waiter):
                return found
            if ids and timeout_s > 0:
                if self._inbox.is_stopped:
                    self._inbox.listen()
                waiter.wait(timeout_s)
        finally:
            found = self._inbox.leave(waiter)
        return _found(found, waiter)

    async def await_final(self, ids: Collection[TaskId], /, *, timeout_s: float) -> Mapping[TaskId, StoredResult]:
        waiter = Waiter(ids, asyncio.get_running_loop())
        assert waiter.future is not None
        try:
            if found := self._inbox.enter(ids, waiter):
                return found
            if ids and timeout_s > 0:
                if self._inbox.is_stopped:
                    await asyncio.to_thread(self._inbox.listen)
                await asyncio.wait((waiter.future,), timeout=timeout_s)
        finally:
            found = self._inbox.leave(waiter)
        return _found(found, waiter)

    def gather(self, ids: Sequence[TaskId], /, *, timeout_s: float) -> Iterator[StoredResult]:
        until = _monotonic() + timeout_s
        for task_id in ids:
            left_s = until - _monotonic()
            found = self.wait((task_id,), timeout_s=max(0.0, left_s)).get(task_id)
            if found is None:
                return
            yield found

    def forget(self, ids: Sequence[TaskId], /) -> None:
        self._inbox.forget(ids)

    def expire(self, /, *, limit: int) -> int:
        return self._inbox.expire(limit)

    def close(self) -> None:
        """Close this process's connections; what has come stays readable, and what comes waits on the server."""
        self._inbox.stop()
        self._socket.close()

    # -- workflows ---------------------------------------------------------------------------------------------------

    def open_joins(self, joins: Sequence[Join], /) -> None:
        if joins:
            _refuse("a chord")

    async def aopen_joins(self, joins: Sequence[Join], /) -> None:
        self.open_joins(joins)

    def arrive(self, arrivals: Sequence[Arrival], /) -> Sequence[bool]:
        if arrivals:
            _refuse("a chord")
        return []

    async def aarrive(self, arrivals: Sequence[Arrival], /) -> Sequence[bool]:
        return self.arrive(arrivals)

    def extend_join(self, join: str, member: str, /) -> None:
        _refuse("a chord")

    def members(self, join: str, /) -> Sequence[bytes] | None:
        return None

    async def aclose_joins(self, ids: Sequence[str], /) -> None:
        """There are none."""

    def save(self, records: Sequence[Record], /) -> None:
        if records:
            _refuse("a saved group, or a flow,")

    async def asave(self, records: Sequence[Record], /) -> None:
        self.save(records)

    def load(self, kind: str, ids: Collection[str], /) -> Mapping[str, bytes]:
        return {}

    def discard(self, kind: str, ids: Sequence[str], /) -> None:
        """There are none."""


def _unsent(exc: BrokerError) -> BrokerError:
    if isinstance(exc, (BrokerUnavailableError, EnqueueRejectedError, StorageError)):
        return exc
    return BrokerUnavailableError(f"results may not have been sent: {exc}")


def _found(found: Mapping[TaskId, StoredResult], waiter: Waiter) -> Mapping[TaskId, StoredResult]:
    if not found and waiter.error is not None:
        raise waiter.error
    return found


def _refuse(what: str) -> NoReturn:
    raise ConfigError(
        f"{what} needs a result store, and rpc:// only carries results to who asked: set result_backend to redis://… "
        "or sqlite:///…"
    )
