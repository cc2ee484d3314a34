"""The memory result store: a locked door to the `ResultTable` of a space."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from celeriac.clock import SYSTEM_CLOCK
from celeriac.storage.memory import LoopWaiter, ThreadWaiter, open_space

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.model import Arrival, Join, Record, StoredResult, TaskId


_PIECE = 500
"""Ids of which `gather` looks at once."""


class MemoryResultStore:
    """Results that live in this process; safe to use from any number of threads and event loops.

    Args:
        url: `memory://name` shares its results with every adapter of the same URL in this process.
        clock: Decides when results expire. `wait` and `await_final` count their timeouts in real time, so that a
            test which never moves a `ManualClock` ends all the same.

    Raises:
        ConfigError: The URL is no memory URL.
    """

    def __init__(self, url: str = "memory://", *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._url = url
        self._space = open_space(url)
        self._results = self._space.results
        self._workflows = self._space.workflows
        self._clock = clock

    @property
    def url(self) -> str:
        return self._url

    @property
    def has_joins(self) -> bool:
        return True

    def put(self, results: Sequence[StoredResult], /) -> Sequence[bool]:
        now = self._clock.time()
        with self._space.lock:
            return [self._results.write(result, now) for result in results]

    async def aput(self, results: Sequence[StoredResult], /) -> Sequence[bool]:
        return self.put(results)

    def get(self, ids: Collection[TaskId], /) -> Mapping[TaskId, StoredResult]:
        with self._space.lock:
            return self._results.read(ids, self._clock.time())

    async def aget(self, ids: Collection[TaskId], /) -> Mapping[TaskId, StoredResult]:
        return self.get(ids)

    def wait(self, ids: Collection[TaskId], /, *, timeout_s: float) -> Mapping[TaskId, StoredResult]:
        waiter = ThreadWaiter()
        final = self._read_final_or_listen(ids, waiter)
        if final is not None:
            return final
        try:
            waiter.wait(timeout_s)
        finally:
            final = self._unlisten(ids, waiter)
        return final

    async def await_final(self, ids: Collection[TaskId], /, *, timeout_s: float) -> Mapping[TaskId, StoredResult]:
        waiter = LoopWaiter()
        final = self._read_final_or_listen(ids, waiter)
        if final is not None:
            return final
        try:
            await asyncio.wait((waiter.future,), timeout=max(0.0, timeout_s))
        finally:
            final = self._unlisten(ids, waiter)
        return final

    def _read_final_or_listen(
        self, ids: Collection[TaskId], waiter: ThreadWaiter | LoopWaiter
    ) -> Mapping[TaskId, StoredResult] | None:
        # one step, or a result written between looking and listening would go unnoticed
        with self._space.lock:
            final = self._results.read_final(ids, self._clock.time())
            if final or not ids:
                return final
            self._results.listen(ids, waiter)
            return None

    def _unlisten(self, ids: Collection[TaskId], waiter: ThreadWaiter | LoopWaiter) -> Mapping[TaskId, StoredResult]:
        with self._space.lock:
            self._results.unlisten(ids, waiter)
            return self._results.read_final(ids, self._clock.time())

    def gather(self, ids: Sequence[TaskId], /, *, timeout_s: float) -> Iterator[StoredResult]:
        until = SYSTEM_CLOCK.monotonic() + timeout_s
        for start in range(0, len(ids), _PIECE):
            piece = ids[start : start + _PIECE]
            final = self._final(piece)
            for task_id in piece:
                while (result := final.get(task_id)) is None:
                    left_s = until - SYSTEM_CLOCK.monotonic()
                    if not self.wait((task_id,), timeout_s=max(0.0, left_s)) and left_s <= 0:
                        return
                    final = self._final(piece)
                yield result

    def _final(self, ids: Collection[TaskId]) -> Mapping[TaskId, StoredResult]:
        with self._space.lock:
            return self._results.read_final(ids, self._clock.time())

    def open_joins(self, joins: Sequence[Join], /) -> None:
        with self._space.lock:
            self._workflows.open(joins, self._clock.time())

    async def aopen_joins(self, joins: Sequence[Join], /) -> None:
        self.open_joins(joins)

    def arrive(self, arrivals: Sequence[Arrival], /) -> Sequence[bool]:
        now = self._clock.time()
        with self._space.lock:
            return [self._workflows.arrive(arrival, now) for arrival in arrivals]

    async def aarrive(self, arrivals: Sequence[Arrival], /) -> Sequence[bool]:
        return self.arrive(arrivals)

    def extend_join(self, join: str, member: str, /) -> None:
        with self._space.lock:
            self._workflows.extend(join, member, self._clock.time())

    def members(self, join: str, /) -> Sequence[bytes] | None:
        with self._space.lock:
            return self._workflows.members(join, self._clock.time())

    async def aclose_joins(self, ids: Sequence[str], /) -> None:
        with self._space.lock:
            self._workflows.close(ids, self._clock.time())

    def save(self, records: Sequence[Record], /) -> None:
        with self._space.lock:
            self._workflows.save(records)

    async def asave(self, records: Sequence[Record], /) -> None:
        self.save(records)

    def load(self, kind: str, ids: Collection[str], /) -> Mapping[str, bytes]:
        with self._space.lock:
            return self._workflows.load(kind, ids, self._clock.time())

    def discard(self, kind: str, ids: Sequence[str], /) -> None:
        with self._space.lock:
            self._workflows.discard(kind, ids)

    def forget(self, ids: Sequence[TaskId], /) -> None:
        with self._space.lock:
            self._results.forget(ids)

    def expire(self, /, *, limit: int) -> int:
        now = self._clock.time()
        with self._space.lock:
            expired = self._results.expire(limit, now)
            return expired + self._workflows.expire(limit - expired, now)

    def close(self) -> None:
        """Nothing is open; results stay for as long as an adapter of this URL lives."""
