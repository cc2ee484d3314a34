"""Group commit: threads that publish at the same time share one transaction, without a thread that writes for them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from celeriac.brokers.sqlite.lines import insert_special
from celeriac.brokers.sqlite.rows import SQL, Row, row_of
from celeriac.errors import BrokerUnavailableError, EnqueueRejectedError, EnqueueUnknownError
from celeriac.storage import forks
from celeriac.storage.sqlite import faults, mask_of, transaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeriac.model import Outgoing, TaskId
    from celeriac.storage.sqlite import Database, WakeRoom

_INSERT = SQL["insert"]
_INSERT_FRESH = SQL["insert_fresh"]
_NOTHING: Mapping[str, str] = MappingProxyType({})
ROWS_PER_CONSUMER = 64
"""A batch wakes one waiting consumer, and one more for each so many messages."""


def _own(batch: _Batch, messages: Sequence[Outgoing]) -> Mapping[TaskId, TaskId]:
    """What one call of a shared batch is told."""
    return {message.id: batch.dropped[message.id] for message in messages if message.id in batch.dropped}


def refuse_bad(messages: Sequence[Outgoing], max_body: int) -> None:
    """See that they can be stored.

    Raises:
        EnqueueRejectedError: One is too large, or has a name that is no text.
    """
    for message in messages:
        size = len(message.headers) + len(message.body)
        if size > max_body:
            raise EnqueueRejectedError(
                f"cannot publish {message.task!r} ({message.id}): headers and body have {size} bytes, at most "
                f"{max_body} are taken; keep large values elsewhere and send where they are. None of the "
                f"{len(messages)} messages of this call was stored",
                task_ids=tuple(each.id for each in messages),
            )
        if not (message.id.isascii() and message.task.isascii() and message.queue.isascii()):
            _refuse_no_text(message, messages)


def _refuse_no_text(message: Outgoing, messages: Sequence[Outgoing]) -> None:
    try:
        f"{message.id}{message.task}{message.queue}".encode()
    except UnicodeEncodeError as exc:
        raise EnqueueRejectedError(
            f"cannot publish {message.task!r} ({message.id!r}) to queue {message.queue!r}: no valid text ({exc}); "
            f"none of the {len(messages)} messages of this call was stored",
            task_ids=tuple(each.id for each in messages),
        ) from exc


class _Batch:
    """What goes into one transaction; `error`, `dropped` and `is_done` are set by whoever wrote it."""

    __slots__ = ("dropped", "error", "is_closed", "is_done", "is_fresh", "queues", "rows", "special")

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.special: dict[TaskId, Outgoing] = {}
        """Limited and unique messages."""
        self.dropped: dict[TaskId, TaskId] = {}
        self.queues: set[str] = set()
        self.is_fresh = True
        self.is_closed = False
        self.is_done = False
        self.error: Exception | None = None


class Publisher:
    """Writes messages for all threads of a process.

    Whoever holds the pen writes everything that has gathered meanwhile; the others find their batch done when the pen
    comes round to them. One thread alone pays two uncontended locks.
    """

    def __init__(self, database: Database, max_body: int) -> None:
        self._database = database
        self._max_body = max_body
        self._start_afresh()
        forks.register(self)

    def _start_afresh(self) -> None:
        self._gate = threading.Lock()
        self._pen = threading.Lock()
        self._gathering = _Batch()

    def publish(self, messages: Sequence[Outgoing], room: WakeRoom) -> Mapping[TaskId, TaskId]:
        """As `Broker.publish`."""
        if not messages:
            return _NOTHING
        now = self._database.clock.time()
        refuse_bad(messages, self._max_body)
        rows = [row_of(message, now) for message in messages]
        with self._gate:
            batch = self._gathering
            batch.rows += rows
            for message in messages:
                batch.queues.add(message.queue)
                if not message.fresh:
                    batch.is_fresh = False
                if message.limit is not None or message.unique is not None:
                    batch.special[message.id] = message
        timeout_s = self._database.timeout_s
        if not self._pen.acquire(timeout=timeout_s):
            self._withdraw(batch, rows)
            if batch.is_done and batch.error is None:
                return _own(batch, messages)
        else:
            try:
                if not batch.is_done:
                    with self._gate:
                        batch.is_closed = True
                        self._gathering = _Batch()
                    self._write(batch)
                    if batch.error is None:
                        room.ring(mask_of(batch.queues), 1 + len(batch.rows) // ROWS_PER_CONSUMER)
            finally:
                self._pen.release()
        if batch.error is not None:
            self._fail(batch.error, messages)
        return _own(batch, messages) if batch.dropped else _NOTHING

    def _withdraw(self, batch: _Batch, rows: list[Row]) -> None:
        with self._gate:
            if not batch.is_closed:
                mine = set(map(id, rows))
                batch.rows = [row for row in batch.rows if id(row) not in mine]
                raise BrokerUnavailableError(
                    f"could not publish to {self._database.path} within {self._database.timeout_s:g} s: another thread "
                    "of this process is still writing; nothing of this call was stored"
                )
        if not batch.is_done:
            raise EnqueueUnknownError(
                f"publishing to {self._database.path} took longer than {self._database.timeout_s:g} s and is not over; "
                "publish again with the same ids",
                task_ids=tuple(row[0] for row in rows),
            )

    def _write(self, batch: _Batch) -> None:
        """Write a closed batch and mark it done; an error is kept for everybody who has a part in it."""
        rows = batch.rows
        insert = _INSERT_FRESH if batch.is_fresh else _INSERT
        database = self._database
        connection = None
        try:
            connection = database.take()
            if batch.special:
                count = database.retry(transaction(lambda link: self._insert_special(link, batch)), connection)
            elif len(rows) == 1:
                row = rows[0]
                try:
                    count = connection.execute(insert, row).rowcount
                except sqlite3.OperationalError as exc:
                    if not faults.is_busy(exc):
                        raise
                    count = database.retry(lambda link: link.execute(insert, row), connection).rowcount
            else:
                count = database.retry(transaction(lambda link: link.executemany(insert, rows)), connection).rowcount
            if count < len(rows):  # what was dropped may have been cancelled
                dropped = [(row[0], row[7]) for row in rows]
                database.retry(transaction(lambda link: link.executemany(SQL["store_revoked"], dropped)), connection)
            database.keep_wal_small(connection)
            database.give(connection)
        except Exception as exc:
            # Its frames hold the batch, which holds it, and a cursor that keeps the connection from being closed: left
            # to the garbage collector, each publish that a full disk refuses costs two descriptors
            batch.error = exc.with_traceback(None) if isinstance(exc, sqlite3.Error) else exc
            if connection is not None:
                database.discard(connection)
        except BaseException:  # KeyboardInterrupt: those who wait must not take this for stored
            batch.error = EnqueueUnknownError(f"publishing to {database.path} was interrupted")
            if connection is not None:
                database.discard(connection)
            raise
        finally:
            batch.is_done = True

    def _insert_special(self, link: sqlite3.Connection, batch: _Batch) -> int:
        dropped: dict[TaskId, TaskId] = {}
        messages = [(batch.special.get(row[0]), row) for row in batch.rows]
        count = insert_special(link, messages, self._database.clock.time(), dropped=dropped)
        batch.dropped = dropped
        return count

    def _fail(self, error: Exception, messages: Sequence[Outgoing]) -> None:
        """Raise a batch's error as one call's own."""
        path = self._database.path
        ids = tuple(message.id for message in messages)
        if isinstance(error, EnqueueUnknownError):
            raise EnqueueUnknownError(f"{error}; publish again with the same ids", task_ids=ids) from error
        if not isinstance(error, sqlite3.Error):
            raise error
        if faults.is_refusal(error):
            raise EnqueueRejectedError(
                f"cannot publish to {path}: {error} ({error.sqlite_errorname}); is the disk full? Nothing was stored",
                task_ids=ids,
            ) from error
        if faults.code_of(error) == sqlite3.SQLITE_IOERR:
            raise EnqueueUnknownError(
                f"publishing to {path} ended in {error.sqlite_errorname}: it may be stored or not; publish again with "
                "the same ids",
                task_ids=ids,
            ) from error
        raise faults.translate(error, "publish to", path, self._database.timeout_s) from error

    def before_fork(self) -> None:
        return

    def after_fork(self) -> None:
        self._start_afresh()  # the thread that held a lock does not exist in the child
