"""Named spaces in this process's memory that adapters share, and the results they hold.

A space is found by URL: every adapter opened with `memory://name` sees the same one, so a broker and a result store
with one URL settle in one step, as an engine with transactions does. A space lives as long as an adapter that opened
it.

What is stored: `results`, one `StoredResult` per task id; `workflows`, joins and records; and whatever the broker and
control adapters keep in parts of their own (`MemorySpace.part`), so that this room need not know them.
"""

from __future__ import annotations

import asyncio
import os
import threading
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from celeriac.errors import ConfigError
from celeriac.model.states import READY_STATES, REVOKED, may_follow
from celeriac.storage.workflows import WorkflowTable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from celeriac.model import StoredResult, TaskId

PartT = TypeVar("PartT")


class Waiter(Protocol):
    """Somebody who wants to be told. Called with the space's lock held, from any thread."""

    def notify(self) -> None:
        """Wake up; later calls do nothing."""


class ThreadWaiter:
    """A thread that waits."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def notify(self) -> None:
        self._event.set()

    def wait(self, timeout_s: float) -> None:
        """Block until notified, at most `timeout_s`."""
        self._event.wait(timeout_s)


class LoopWaiter:
    """A coroutine that waits on the running event loop."""

    __slots__ = ("_loop", "_notified", "future")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._notified = False
        self.future: asyncio.Future[None] = self._loop.create_future()

    def notify(self) -> None:
        if not self._notified:
            self._notified = True
            try:
                self._loop.call_soon_threadsafe(self._finish)
            except RuntimeError:
                pass  # the loop was closed with the waiter still listed: nobody is left to tell

    def _finish(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class ResultTable:
    """Results by task id. Every method wants the space's lock held; `now` is wall-clock epoch seconds."""

    __slots__ = ("_expiring", "_rows", "_waiters")

    def __init__(self) -> None:
        self._rows: dict[TaskId, StoredResult] = {}
        self._expiring: list[tuple[float, TaskId]] = []
        """A heap; an entry whose time is not that of the stored row is out of date."""
        self._waiters: dict[TaskId, dict[Waiter, None]] = {}

    def write(self, result: StoredResult, now: float) -> bool:
        """Store one result where the state table allows it."""
        rows = self._rows
        old = rows.get(result.id)
        if old is not None and not may_follow(None if _is_over(old, now) else old.state, result.state):
            return False
        rows[result.id] = result
        if result.expires_at is not None:
            heappush(self._expiring, (result.expires_at, result.id))
        if self._waiters and result.state in READY_STATES:
            for waiter in self._waiters.get(result.id, ()):
                waiter.notify()
        return True

    def read(self, ids: Iterable[TaskId], now: float) -> dict[TaskId, StoredResult]:
        rows = self._rows
        return {task_id: row for task_id in ids if (row := rows.get(task_id)) is not None and not _is_over(row, now)}

    def read_final(self, ids: Iterable[TaskId], now: float) -> dict[TaskId, StoredResult]:
        return {task_id: row for task_id, row in self.read(ids, now).items() if row.state in READY_STATES}

    def is_final(self, task_id: TaskId, now: float) -> bool:
        row = self._rows.get(task_id)
        return row is not None and row.state in READY_STATES and not _is_over(row, now)

    def is_revoked(self, task_id: TaskId) -> bool:
        row = self._rows.get(task_id)
        return row is not None and row.state == REVOKED

    def forget(self, ids: Iterable[TaskId]) -> None:
        for task_id in ids:
            self._rows.pop(task_id, None)

    def expire(self, limit: int, now: float) -> int:
        """Delete at most `limit` rows whose time is over."""
        expiring, deleted = self._expiring, 0
        while deleted < limit and expiring and expiring[0][0] <= now:
            at, task_id = heappop(expiring)
            row = self._rows.get(task_id)
            if row is not None and row.expires_at == at:
                del self._rows[task_id]
                deleted += 1
        return deleted

    def listen(self, ids: Collection[TaskId], waiter: Waiter) -> None:
        """Notify `waiter` once one of `ids` becomes final."""
        for task_id in ids:
            self._waiters.setdefault(task_id, {})[waiter] = None

    def unlisten(self, ids: Collection[TaskId], waiter: Waiter) -> None:
        for task_id in ids:
            listeners = self._waiters.get(task_id)
            if listeners is not None:
                listeners.pop(waiter, None)
                if not listeners:
                    del self._waiters[task_id]


def _is_over(row: StoredResult, now: float) -> bool:
    return row.expires_at is not None and row.expires_at <= now


class MemorySpace:
    """What the adapters of one URL share. Whoever touches any of it holds `lock`, and never for I/O."""

    __slots__ = ("__weakref__", "_parts", "lock", "results", "workflows")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.results = ResultTable()
        self.workflows = WorkflowTable()
        self._parts: dict[type[Any], Any] = {}

    def part(self, kind: type[PartT]) -> PartT:
        """The one `kind` of this space, made on first use."""
        with self.lock:
            found = self._parts.get(kind)
            if found is None:
                found = self._parts[kind] = kind()
            part: PartT = found
            return part


_spaces: WeakValueDictionary[str, MemorySpace] = WeakValueDictionary()
_registry_lock = threading.Lock()


def open_space(url: str) -> MemorySpace:
    """Find or make the space that `url` names.

    Args:
        url: `memory://` or `memory://name`.

    Raises:
        ConfigError: The URL is of another form.
    """
    parts = urlsplit(url)
    if parts.scheme != "memory" or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(f"cannot open {url!r} in memory: expected 'memory://' or 'memory://<name>'")
    with _registry_lock:
        space = _spaces.get(parts.netloc)
        if space is None:
            space = _spaces[parts.netloc] = MemorySpace()
        return space


_frozen: Sequence[MemorySpace] = ()


def _before_fork() -> None:
    # no other thread may be half-way through a change when the child gets its copy, nor hold a lock there for ever
    global _frozen
    _registry_lock.acquire()
    _frozen = tuple(_spaces.values())
    for space in _frozen:
        space.lock.acquire()


def _after_fork() -> None:
    global _frozen
    for space in _frozen:
        space.lock.release()
    _frozen = ()
    _registry_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
