"""A clock that a test moves by hand."""

from __future__ import annotations

import asyncio
import threading
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class ManualClock:
    """Stands still until moved; give it to whatever takes a `Clock`.

    `advance` moves both clocks and wakes the coroutines whose sleep is over, on their own loops, and the threads
    whose pause is. Thread-safe; sleepers may sit on several loops.

    Args:
        start: Wall-clock time at the beginning, epoch seconds. The monotonic clock begins at 1,000.
    """

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._changed = threading.Condition()
        self._time = float(start)
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._count = 0
        self._paused = 0
        self.on_move: list[Callable[[], None]] = []
        """Called after each `advance` and `step`, in the thread that moved the clock: for those who look at the time
        and then sleep, between which a clock moved by another thread would go unnoticed."""

    def time(self) -> float:
        return self._time

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float, /) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        with self._changed:
            self._count += 1
            heappush(self._sleepers, (self._monotonic + seconds, self._count, loop, woken))
            self._changed.notify_all()
        try:
            await woken
        finally:
            with self._changed:
                self._sleepers = sorted(each for each in self._sleepers if each[3] is not woken)

    def pause(self, seconds: float, /) -> None:
        """Block the calling thread until another has moved the clock that far.

        Raises:
            TimeoutError: Nobody did within a minute of real time, so the test would hang for ever.
        """
        with self._changed:
            until = self._monotonic + seconds
            self._paused += 1
            self._changed.notify_all()
            try:
                if not self._changed.wait_for(lambda: self._monotonic >= until, 60.0):
                    raise TimeoutError(f"paused for {seconds} s on a manual clock that nobody moved for a minute")
            finally:
                self._paused -= 1

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, on both clocks.

        Raises:
            ValueError: Time does not run backwards; `step` sets the wall clock back.
        """
        if seconds < 0:
            raise ValueError(f"cannot advance by {seconds} s: time runs forward; step() sets the wall clock back")
        with self._changed:
            self._time += seconds
            self._monotonic += seconds
            self._changed.notify_all()
            while self._sleepers and self._sleepers[0][0] <= self._monotonic:
                _, _, loop, woken = heappop(self._sleepers)
                try:
                    loop.call_soon_threadsafe(_wake, woken)
                except RuntimeError:
                    pass  # its loop was closed while it slept
        self._moved()

    def step(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator does; the monotonic clock and sleepers stay."""
        with self._changed:
            self._time += seconds
        self._moved()

    def _moved(self) -> None:
        for tell in list(self.on_move):
            tell()

    @property
    def sleepers(self) -> int:
        """How many coroutines sleep and threads pause now."""
        with self._changed:
            return len(self._sleepers) + self._paused

    def wait_for_sleepers(self, count: int = 1, *, timeout_s: float = 10.0) -> None:
        """Block this thread until `count` others sleep or pause: threads, and coroutines on other threads' loops.

        Raises:
            TimeoutError: They did not within `timeout_s` of real time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._sleepers) + self._paused >= count, timeout_s):
                found = len(self._sleepers) + self._paused
                raise TimeoutError(f"waited {timeout_s} s for {count} sleepers on the manual clock; {found} sleep")


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
