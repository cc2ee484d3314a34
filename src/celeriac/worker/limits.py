"""Soft time limits of `def` tasks: the exception is raised inside the very attempt that ran too long, or not at all.

The IO thread watches the deadlines with one timer and interrupts the runner: the main thread by a signal, another
thread by CPython's asynchronous exception. Either arrives a moment later, when that attempt may be over, so what
arrives is checked where it arrives: against the epoch of the attempt that runs there now, and against the stack, since
between two lines of the executor's own there is nobody to catch it.

(Async tasks are cancelled on the loop, where there is no race; hard limits are the supervisor's, which kills.)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from celeriac.errors import SoftTimeLimitExceeded

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from types import FrameType

    from celeriac.clock import Clock
    from celeriac.worker.runners import Runner

NEVER = math.inf
AGAIN_S = 0.005
"""How soon to try again when the interrupt met code of our own."""

_OURS = ("celeriac.engine.", "celeriac.worker.", "celeriac.codec.", "celeriac.clock")


class SoftLimits:
    """Interrupts runners whose attempt has passed its soft limit."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runners: Sequence[Runner] = ()
        self.next_look = NEVER
        """When the timer fires next; a deadline after it needs no wake-up of the loop."""

    def attach(self, loop: asyncio.AbstractEventLoop, runners: Sequence[Runner]) -> None:
        self._loop, self._runners = loop, runners

    def watch(self, deadline: float) -> None:
        """Called by a runner that starts an attempt with a soft limit (monotonic deadline)."""
        if deadline < self.next_look and self._loop is not None:
            self.next_look = deadline
            self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        assert self._loop is not None
        self._loop.call_later(max(0.0, self.next_look - self._clock.monotonic()), self._look)

    def _look(self) -> None:
        now = self._clock.monotonic()
        self.next_look = NEVER
        soonest = NEVER
        for runner in self._runners:
            deadline = runner.soft_at
            if deadline <= now:
                runner.interrupt()
            soonest = min(soonest, runner.soft_at)
        if soonest < NEVER:
            self.next_look = min(self.next_look, max(soonest, now + 0.001))
            self._set()


def is_in_task(frame: FrameType | None) -> bool:
    """Whether code that is not ours is on this stack above the runner, so that an exception raised now meets a task.

    A task or a hook of the user's lies between the executor and the top. Where the top of the stack is the executor
    itself, before the call or after it, an exception would tear our own bookkeeping instead.
    """
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name == "celeriac.worker.runners":
            return False
        if not (name + ".").startswith(_OURS) and not _is_plumbing(name):
            return True
        frame = frame.f_back
    return False


def _is_plumbing(name: str) -> bool:
    # modules that our own code calls between two tasks: a frame of theirs alone does not mean that a task runs
    return name.partition(".")[0] in ("logging", "contextlib", "threading", "queue", "traceback", "linecache", "re")


def soft_limit_error(limit_s: float | None) -> SoftTimeLimitExceeded:
    return SoftTimeLimitExceeded(limit_s)
