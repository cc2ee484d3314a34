"""The SQLite result store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.clock import SYSTEM_CLOCK, Clock
from celeriac.model import StoredResult
from celeriac.model.states import is_final
from celeriac.results.sqlite.listener import Listener
from celeriac.results.waiter import Waiter
from celeriac.storage.sqlite import Database, WakeRoom, transaction
from celeriac.storage.sqlite.rules import MAY_FOLLOW
from celeriac.storage.sqlite.statements import load

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping, Sequence

    from celeriac.model import TaskId
    from celeriac.storage.sqlite import Durability, Health

SQL: Final = load(__package__ or "", "statements.sql", may_follow=MAY_FOLLOW.replace("/*now*/", ":now"))
_EXPIRE_ROWS = 1000


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

    def forget(self, ids: Sequence[TaskId], /) -> None:
        if ids:
            unwanted = (msgspec.json.encode(list(ids)).decode(),)
            self._database.run("delete results of", lambda link: link.execute(SQL["forget"], unwanted))

    def expire(self, /, *, limit: int) -> int:
        now = self._clock.time()
        expired = 0
        while expired < limit:  # in pieces, so that others get at the lock in between
            piece = min(_EXPIRE_ROWS, limit - expired)
            parameters = (now, piece)
            count = self._database.run("expire results of", _deleter(parameters))
            expired += count
            if count < piece:
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


def _deleter(parameters: tuple[Any, ...]) -> Any:
    return lambda link: link.execute(SQL["expire"], parameters).rowcount
