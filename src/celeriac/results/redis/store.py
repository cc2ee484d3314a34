"""The result store on Redis, in Celery's layout (protocol section 8.2).

    <prefix>celery-task-meta-<id>   string   the result meta, with the expiry as its time to live
    the channel of the same name             the same bytes, published in the step that writes them

Joins and records are beside them (joins.py). The server forgets what has expired, so `expire` finds nothing to do and
`expires_at` is not read back.
"""

from __future__ import annotations

import asyncio
import math
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import CodecError
from celeriac.model import StoredResult
from celeriac.model.states import FAILURE, is_final
from celeriac.results.redis.gatherer import Gatherer
from celeriac.results.redis.joins import Joins
from celeriac.results.redis.listener import Listener
from celeriac.results.waiter import Waiter
from celeriac.storage.redis import Deployment, load

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence

    from celeriac.model import Arrival, Join, Record, TaskId

_PUT: Final = load(__package__ or "", "put")
_MOST: Final = 500
"""Keys of one command: a server does nothing else meanwhile."""
_MOST_BYTES: Final = 4 * 1024 * 1024
_find_status = re.compile(rb'\{"status"\s{0,8}:\s{0,8}"([^"\\]{1,64})"').match
"""What nearly every meta begins with, ours and Celery's."""


class _Meta(msgspec.Struct):
    status: str


_decode_meta = msgspec.json.Decoder(_Meta).decode


class RedisResultStore:
    """Results in Redis; safe to use from any number of threads and event loops, and by many processes.

    Args:
        url: See `storage.redis.RedisUrl.parse`.
        timeout_s: How long one call may take. Whoever waits for a result sits out an outage of half a minute.
        prefix: Of keys and channels.
        options: Celery's `result_backend_transport_options`; those of the connection are used.
        read_state: Finds the state in a meta that is no plain JSON (compressed, msgpack); raises CodecError where it
            cannot.

    Raises:
        ConfigError: The URL or an option is wrong; the message says what is expected.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        prefix: str = "celery-task-meta-",
        options: Mapping[str, Any] | None = None,
        read_state: Callable[[bytes], str] | None = None,
    ) -> None:
        self._deployment = Deployment(url, timeout_s=timeout_s, options=options)
        self._prefix = prefix
        self._read_state = read_state
        self._joins = Joins(self._deployment, prefix)
        self._listener = Listener(self._deployment, self._prefix, self._final, self._values)

    @property
    def url(self) -> str:
        return self._deployment.url

    @property
    def has_joins(self) -> bool:
        return True

    def put(self, results: Sequence[StoredResult], /) -> Sequence[bool]:
        answers: list[bool] = []
        for batch in self._batches(results):
            keys = [self._prefix + result.id for result in batch]
            args: list[Any] = []
            for result in batch:
                at = result.expires_at
                args += (result.state, result.payload, "" if at is None else math.ceil(at * 1000))
            reply = self._deployment.run(_PUT, keys, args, "write results to")
            answers += [each == 49 for each in reply]  # b"1"
        return answers

    async def aput(self, results: Sequence[StoredResult], /) -> Sequence[bool]:
        return await asyncio.to_thread(self.put, results)

    def get(self, ids: Collection[TaskId], /) -> Mapping[TaskId, StoredResult]:
        return self._read(ids, self._stored)

    async def aget(self, ids: Collection[TaskId], /) -> Mapping[TaskId, StoredResult]:
        return await asyncio.to_thread(self.get, ids)

    def wait(self, ids: Collection[TaskId], /, *, timeout_s: float) -> Mapping[TaskId, StoredResult]:
        if not ids or timeout_s <= 0:
            return self._read(ids, self._final)
        waiter = Waiter(ids)
        try:
            self._introduce(waiter)
            waiter.wait(timeout_s)
        finally:
            self._listener.remove(waiter)
        if self._has_ended(waiter):
            return waiter.found
        return self._read(ids, self._final)

    async def await_final(self, ids: Collection[TaskId], /, *, timeout_s: float) -> Mapping[TaskId, StoredResult]:
        if not ids or timeout_s <= 0:
            return await asyncio.to_thread(self._read, ids, self._final)
        waiter = Waiter(ids, asyncio.get_running_loop())
        assert waiter.future is not None
        try:
            if not self._listener.is_hearing:
                await asyncio.to_thread(self._listener.open)
            while not self._listener.add(waiter):
                await asyncio.to_thread(self._listener.open)
            await asyncio.wait((waiter.future,), timeout=timeout_s)
        finally:
            self._listener.remove(waiter)
        if self._has_ended(waiter):
            return waiter.found
        return await asyncio.to_thread(self._read, ids, self._final)

    def gather(self, ids: Sequence[TaskId], /, *, timeout_s: float) -> Iterator[StoredResult]:
        """As `ResultStore.gather`: reads a piece of them, and subscribes to what is missing there, once."""
        deadline = SYSTEM_CLOCK.monotonic() + timeout_s
        for piece in _cut(ids, _MOST):
            found = self._read(piece, self._final)
            missing = [task_id for task_id in piece if task_id not in found]
            if not missing:
                yield from (found[task_id] for task_id in piece)
            elif not (yield from self._gather_piece(piece, found, Gatherer(missing), deadline)):
                return

    def _gather_piece(
        self, piece: Sequence[TaskId], found: Mapping[TaskId, StoredResult], gatherer: Gatherer, deadline: float
    ) -> Generator[StoredResult, None, bool]:
        is_listening = False
        try:
            for task_id in piece:
                result = found.get(task_id)
                if result is None:
                    left_s = deadline - SYSTEM_CLOCK.monotonic()
                    if left_s <= 0:
                        return False
                    if not is_listening:
                        self._introduce(gatherer)
                        is_listening = True
                    result = gatherer.wait_for(task_id, left_s)
                    if result is None and (result := self._read([task_id], self._final).get(task_id)) is None:
                        return False
                yield result
            return True
        finally:
            self._listener.remove(gatherer)

    def forget(self, ids: Sequence[TaskId], /) -> None:
        for keys in self._pieces(ids):
            self._deployment.call("delete results of", "UNLINK", *keys)

    def expire(self, /, *, limit: int) -> int:
        return 0

    def close(self) -> None:
        self._listener.stop()
        self._deployment.close()

    # -- workflows ---------------------------------------------------------------------------------------------------

    def open_joins(self, joins: Sequence[Join], /) -> None:
        self._joins.open(joins)

    async def aopen_joins(self, joins: Sequence[Join], /) -> None:
        await asyncio.to_thread(self._joins.open, joins)

    def arrive(self, arrivals: Sequence[Arrival], /) -> Sequence[bool]:
        return self._joins.arrive(arrivals)

    async def aarrive(self, arrivals: Sequence[Arrival], /) -> Sequence[bool]:
        return await asyncio.to_thread(self._joins.arrive, arrivals)

    def extend_join(self, join: str, member: str, /) -> None:
        self._joins.extend(join, member)

    def members(self, join: str, /) -> Sequence[bytes] | None:
        return self._joins.members(join)

    async def aclose_joins(self, ids: Sequence[str], /) -> None:
        await asyncio.to_thread(self._joins.close, ids)

    def save(self, records: Sequence[Record], /) -> None:
        self._joins.save(records)

    async def asave(self, records: Sequence[Record], /) -> None:
        await asyncio.to_thread(self._joins.save, records)

    def load(self, kind: str, ids: Collection[str], /) -> Mapping[str, bytes]:
        return self._joins.load(kind, ids)

    def discard(self, kind: str, ids: Sequence[str], /) -> None:
        self._joins.discard(kind, ids)

    # -- reading -----------------------------------------------------------------------------------------------------

    def _introduce(self, waiter: Waiter) -> None:
        self._listener.open()
        while not self._listener.add(waiter):
            self._listener.open()

    def _has_ended(self, waiter: Waiter) -> bool:
        """Whether all is known; else the timeout was over before the first look, or while nobody could look."""
        if waiter.error is not None:
            raise waiter.error
        return bool(waiter.found) or (waiter.looked and self._listener.is_hearing)

    def _read(
        self, ids: Collection[TaskId], understand: Callable[[TaskId, bytes], StoredResult | None]
    ) -> Mapping[TaskId, StoredResult]:
        found = {}
        for task_id, payload in zip(ids, self._values([self._prefix + task_id for task_id in ids]), strict=True):
            if payload is not None and (result := understand(task_id, payload)) is not None:
                found[task_id] = result
        return found

    def _values(self, keys: Sequence[str]) -> list[bytes | None]:
        values: list[bytes | None] = []
        for piece in _cut(keys, 1 if self._deployment.is_cluster else _MOST):
            values += self._deployment.call("read results of", "MGET", *piece)
        return values

    def _stored(self, task_id: TaskId, payload: bytes) -> StoredResult:
        return StoredResult(id=task_id, state=self._state(payload), payload=payload)

    def _final(self, task_id: TaskId, payload: bytes) -> StoredResult | None:
        state = self._state(payload)
        return StoredResult(id=task_id, state=state, payload=payload) if is_final(state) else None

    def _state(self, payload: bytes) -> str:
        if match := _find_status(payload):
            return match[1].decode(errors="replace")
        try:
            return _decode_meta(payload).status
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            pass
        if self._read_state is not None:
            try:
                return self._read_state(payload)
            except CodecError:
                pass
        return FAILURE  # whoever decodes it is told what is wrong with it; nobody waits for more

    # -- batches -----------------------------------------------------------------------------------------------------

    def _pieces(self, ids: Sequence[TaskId]) -> Iterator[Sequence[str]]:
        return _cut([self._prefix + task_id for task_id in ids], 1 if self._deployment.is_cluster else _MOST)

    def _batches(self, results: Sequence[StoredResult]) -> Iterator[Sequence[StoredResult]]:
        most = 1 if self._deployment.is_cluster else _MOST
        batch: list[StoredResult] = []
        size = 0
        for result in results:
            if batch and (len(batch) >= most or size + len(result.payload) > _MOST_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(result)
            size += len(result.payload)
        if batch:
            yield batch


def _cut(keys: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), most):
        yield keys[start : start + most]
