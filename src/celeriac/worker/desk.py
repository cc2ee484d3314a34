"""What the IO thread and the runners of one process share: a queue of jobs one way, wake-ups the other.

The thread hop is paid once per batch: jobs travel through one C-implemented queue whose `put` costs a tenth of a
microsecond while nobody waits, outcomes through a deque, and a runner wakes the loop only when no wake-up is under way.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from celeriac.engine.attempt import Attempt
    from celeriac.worker.lease import Lease


class Job(NamedTuple):
    """An attempt that waits for its start."""

    attempt: Attempt
    lease: Lease
    claimed_at: float
    """Monotonic."""
    stamp: int
    """The cancel stamp up to which it is known not to be cancelled."""
    turn: float = 0.0
    """Under a rate limit: the moment (monotonic) that is kept for it, or ASK; 0: it waits for nothing."""


ASK: Final = -1.0
"""It has no turn yet and was told to ask again later."""


FULL = 100
"""Outcomes that are settled at once rather than after a few milliseconds."""


class Desk:
    """The table between IO thread and runners."""

    __slots__ = ("_loop", "_on_done", "_on_full", "full", "guard", "kicked", "ready")

    def __init__(self) -> None:
        self.ready: SimpleQueue[Job | None] = SimpleQueue()
        """None tells one runner to leave."""
        self.kicked = False
        """A wake-up is on its way; the IO thread clears it *before* it takes what is done."""
        self.full = False
        self.guard: Callable[[], None] = lambda: None
        """Called by a runner before each wake-up; ends the process when the loop cannot be woken any more."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_done: Callable[[], None] = lambda: None
        self._on_full: Callable[[], None] = lambda: None

    def attach(self, loop: asyncio.AbstractEventLoop, on_done: Callable[[], None], on_full: Callable[[], None]) -> None:
        """Say whom to wake; called by the IO thread before the first job."""
        self._loop, self._on_done, self._on_full = loop, on_done, on_full

    def finished(self, lease: Lease) -> None:
        """Called by a runner after it has appended to `lease.done`, or has become free without an outcome."""
        if not self.kicked:
            self.kicked = True
            self._wake(self._on_done)
        elif not self.full and len(lease.done) >= FULL:
            self.full = True
            self._wake(self._on_full)

    def _wake(self, callback: Callable[[], None]) -> None:
        loop = self._loop
        if loop is not None:
            self.guard()
            try:
                loop.call_soon_threadsafe(callback)
            except RuntimeError:
                pass  # the loop is closed: the process is leaving and takes nothing more

    def drain(self) -> list[Job]:
        """Take back everything that no runner has taken yet."""
        jobs: list[Job] = []
        leave = 0
        while True:
            try:
                job = self.ready.get_nowait()
            except Empty:
                break
            if job is None:
                leave += 1
            else:
                jobs.append(job)
        for _ in range(leave):
            self.ready.put(None)
        return jobs
