"""The SQLite result store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from celeriac.clock import SYSTEM_CLOCK, Clock
from celeriac.model import StoredResult
from celeriac.model.states import is_final
from celeriac.results.sqlite.listener import Listener
from celeriac.results.waiter import Waiter
from celeriac.storage.sqlite import Database, WakeRoom, transaction
from celeriac.storage.sqlite.joins import (
    JOINS,
    Arrivals,
    close_joins,
    expire_joins,
    extend_join,
    joins_among,
    open_joins,
    prepare_arrivals,
    save_records,
)
from celeriac.storage.sqlite.rules import MAY_FOLLOW
from celeriac.storage.sqlite.statements import load

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from celeriac.model import Arrival, Join, Record, TaskId
    from celeriac.storage.sqlite import Durability, Health

T = TypeVar("T")

SQL: Final = load(__package__ or "", "statements.sql", may_follow=MAY_FOLLOW.replace("/*now*/", ":now"))
_EXPIRE_ROWS = 1000
_GATHER_ROWS = 1000
"""Most results that `gather` reads at once."""


class SqliteResultStore:
    """Results in an SQLite file; safe to use from any number of threads and event loops, and by many processes.

    With a broker on the same file, a worker writes results in the transaction that acknowledges the message.

    Args:
        url: As the broker's; options in it win over the arguments.
        durability: As the broker's.
        timeout_s: How long a call waits for the file's lock.
        clock: Decides when results expire. `wait` and `await_final` count their timeouts in real time.
        allow_network_fs: As the broker's.

    Raises:
        ConfigError: The URL or an option is wrong; the message says what is expected.
    """

    def __init__(
        self,
        url: str,
        *,
        durability: Durability = "full",
        timeout_s: float = 5.0,
        clock: Clock = SYSTEM_CLOCK,
        allow_network_fs: bool = False,
    ) -> None:
        self._database = Database(
            url, durability=durability, timeout_s=timeout_s, clock=clock, allow_network_fs=allow_network_fs
        )
        self._clock = clock
        self._room: WakeRoom | None = None
        self._listener = Listener(self._open_room, self._read_final)

    @property
    def url(self) -> str:
        return self._database.url

    @property
    def has_joins(self) -> bool:
        return True

    def put(self, results: Sequence[StoredResult], /) -> Sequence[bool]:
        if not results:
            return []
        now = self._clock.time()
        rows = [
            {
                "id": result.id,
                "state": result.state,
                "payload": result.payload,
                "expires_at": result.expires_at,
                "now": now,
            }
            for result in results
        ]

        def write(link: sqlite3.Connection) -> list[bool]:
            return [link.execute(SQL["put"], row).rowcount > 0 for row in rows]

        answers = self._database.run("write a result into", write if len(rows) == 1 else transaction(write))
        if any(is_final(result.state) for result in results):
            self._ring()
        return answers

    async def aput(self, results: Sequence[StoredResult], /) -> Sequence[bool]:
        return await asyncio.to_thread(self.put, results)

    def get(self, ids: Collection[TaskId], /) -> Mapping[TaskId, StoredResult]:
        return self._read("get", ids)

    async def aget(self, ids: Collection[TaskId], /) -> Mapping[TaskId, StoredResult]:
        return await asyncio.to_thread(self.get, ids)

    def wait(self, ids: Collection[TaskId], /, *, timeout_s: float) -> Mapping[TaskId, StoredResult]:
        final = self._read_final(ids)
        if final or not ids or timeout_s <= 0:
            return final
        waiter = Waiter(ids)
        try:
            if self._listener.add(waiter) and (final := self._read_final(ids)):
                return final
            waiter.wait(timeout_s)
        finally:
            self._listener.remove(waiter)
        return self._answer(waiter)

    async def await_final(self, ids: Collection[TaskId], /, *, timeout_s: float) -> Mapping[TaskId, StoredResult]:
        final = await asyncio.to_thread(self._read_final, ids)
        if final or not ids or timeout_s <= 0:
            return final
        waiter = Waiter(ids, asyncio.get_running_loop())
        assert waiter.future is not None
        try:
            if self._listener.add(waiter) and (final := await asyncio.to_thread(self._read_final, ids)):
                return final
            await asyncio.wait((waiter.future,), timeout=timeout_s)
        finally:
            self._listener.remove(waiter)
        return self._answer(waiter)

    def gather(self, ids: Sequence[TaskId], /, *, timeout_s: float) -> Iterator[StoredResult]:
        return self._gather(ids, SYSTEM_CLOCK.monotonic() + timeout_s)

    def _gather(self, ids: Sequence[TaskId], deadline: float) -> Iterator[StoredResult]:
        found: dict[TaskId, StoredResult] = {}
        at, window = 0, _GATHER_ROWS
        while at < len(ids):
            # Read what is next, more of it each time while all of it is there: who follows tasks as they end finds a
            # few at a time, and must not read a thousand for each of them.
            ahead = ids[at : at + window]
            found.update(self._read_final([task_id for task_id in ahead if task_id not in found]))
            count = 0
            while count < len(ahead) and (result := found.get(ahead[count])) is not None:
                yield result
                count += 1
            for task_id in ahead[:count]:
                found.pop(task_id, None)
            at += count
            if count == len(ahead):
                window = min(2 * window, _GATHER_ROWS)
                continue
            window = max(1, min(window, 2 * count))
            left_s = deadline - SYSTEM_CLOCK.monotonic()
            first = self.wait([ids[at]], timeout_s=left_s) if left_s > 0 else {}
            if not first:
                return
            found.update(first)

    # -- joins and records

    def open_joins(self, joins: Sequence[Join], /) -> None:
        if joins:
            now = self._clock.time()
            self._change("open joins in", lambda link: open_joins(link, joins, now))

    async def aopen_joins(self, joins: Sequence[Join], /) -> None:
        await asyncio.to_thread(self.open_joins, joins)

    def arrive(self, arrivals: Sequence[Arrival], /) -> Sequence[bool]:
        if not arrivals:
            return []
        arriving = Arrivals(arrivals)
        parameters = arriving.parameters(self._clock.time())

        def arrive(link: sqlite3.Connection) -> set[str]:
            prepare_arrivals(link)
            link.execute(JOINS["arrive"], parameters)
            return joins_among(link, "complete", arriving.joins)

        complete = self._change("write what arrives into", arrive)
        return [arrival.join in complete for arrival in arrivals]

    async def aarrive(self, arrivals: Sequence[Arrival], /) -> Sequence[bool]:
        return await asyncio.to_thread(self.arrive, arrivals)

    def extend_join(self, join: str, member: str, /) -> None:
        """As `ResultStore.extend_join`; a join that has published its message does not wait again."""
        self._change("extend a join in", lambda link: extend_join(link, join, member))

    def members(self, join: str, /) -> Sequence[bytes] | None:
        parameters = (join, self._clock.time())
        rows = self._database.run(
            "read the members of a join in", lambda link: link.execute(JOINS["members"], parameters).fetchall()
        )
        return [payload for (payload,) in rows if payload is not None] if rows else None

    async def aclose_joins(self, ids: Sequence[str], /) -> None:
        if ids:
            now = self._clock.time()
            work = transaction(lambda link: close_joins(link, ids, now))
            await asyncio.to_thread(self._database.run, "close joins in", work)

    def save(self, records: Sequence[Record], /) -> None:
        if records:
            self._change("write a record into", lambda link: save_records(link, records))

    async def asave(self, records: Sequence[Record], /) -> None:
        await asyncio.to_thread(self.save, records)

    def load(self, kind: str, ids: Collection[str], /) -> Mapping[str, bytes]:
        if not ids:
            return {}
        parameters = (kind, msgspec.json.encode(list(ids)).decode(), self._clock.time())
        rows = self._database.run("read records of", lambda link: link.execute(JOINS["load"], parameters).fetchall())
        return dict(rows)

    def discard(self, kind: str, ids: Sequence[str], /) -> None:
        if ids:
            unwanted = (kind, msgspec.json.encode(list(ids)).decode())
            self._database.run("delete records of", lambda link: link.execute(JOINS["discard"], unwanted))

    def _change(self, doing: str, work: Callable[[sqlite3.Connection], T]) -> T:
        return self._database.run(doing, transaction(work))

    # -- the rest

    def forget(self, ids: Sequence[TaskId], /) -> None:
        if ids:
            unwanted = (msgspec.json.encode(list(ids)).decode(),)
            self._database.run("delete results of", lambda link: link.execute(SQL["forget"], unwanted))

    def expire(self, /, *, limit: int) -> int:
        now = self._clock.time()
        expired = 0
        for doing, work in (("results", _deleter(SQL["expire"])), ("records", _deleter(JOINS["expire_records"]))):
            while expired < limit:  # in pieces, so that others get at the lock in between
                piece = min(_EXPIRE_ROWS, limit - expired)
                count = self._database.run(f"expire {doing} of", work(now, piece))
                expired += count
                if count < piece:
                    break
        while expired < limit:
            piece = min(_EXPIRE_ROWS, limit - expired)
            count, has_more = self._change("expire joins of", _expirer(now, piece))
            expired += count
            if count < piece and not has_more:
                break
        return expired

    def check(self) -> Health:
        """Examine the file, for the doctor; reads all of it."""
        return self._database.check()

    def close(self) -> None:
        self._listener.stop()
        self._database.close()
        room, self._room = self._room, None
        if room is not None:
            room.close()

    def _answer(self, waiter: Waiter) -> Mapping[TaskId, StoredResult]:
        if waiter.error is not None:
            raise waiter.error
        return waiter.found

    def _read_final(self, ids: Collection[TaskId]) -> Mapping[TaskId, StoredResult]:
        return self._read("final", ids)

    def _read(self, statement: str, ids: Collection[TaskId]) -> Mapping[TaskId, StoredResult]:
        if not ids:
            return {}
        parameters = (msgspec.json.encode(list(ids)).decode(), self._clock.time())
        rows = self._database.run("read results of", lambda link: link.execute(SQL[statement], parameters).fetchall())
        return {
            task_id: StoredResult(id=task_id, state=state, payload=payload, expires_at=expires_at)
            for task_id, state, payload, expires_at in rows
        }

    def _open_room(self) -> WakeRoom:
        self._database.prepare()
        return WakeRoom(self._database.wake_directory)

    def _ring(self) -> None:
        room = self._room
        if room is None:
            room = self._room = self._open_room()  # two threads at once make two; one is dropped
        room.ring_results()


def _deleter(statement: str) -> Callable[[float, int], Callable[[sqlite3.Connection], int]]:
    return lambda now, most: lambda link: link.execute(statement, (now, most)).rowcount


def _expirer(now: float, most: int) -> Callable[[sqlite3.Connection], tuple[int, bool]]:
    return lambda link: expire_joins(link, now, most)
