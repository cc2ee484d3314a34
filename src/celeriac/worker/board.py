"""What all processes of a worker share besides their slots: the logical clock, and whose turn it is under a rate limit.

It lies behind the slots in the same memory. A turn is taken under a lock of the file that backs it, which the kernel
gives back when its holder dies; it costs two system calls, for tasks with a rate limit only.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Final

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S: Final = 0.5
"""A task whose turn is so near waits for it in the process that has claimed it."""
MOST_AWAY_S: Final = 5.0
"""A task whose turn is farther away asks again at the latest after this, for the rate may have been changed."""
RETURNS: Final = 200.0
"""So many tasks a second, or twice the rate, come back to ask: what a long line costs, however long it is."""

_HEAD = 16
_CELL = 16
_PAIR = 2


def board_size(cells: int) -> int:
    """Bytes."""
    return _HEAD + cells * _CELL


class Board:
    """One worker's shared facts, at `base` of the map behind `fd`."""

    def __init__(self, memory: memoryview, fd: int, *, base: int, cells: int) -> None:
        self._ints = memory.cast("Q")
        self._floats = memory.cast("d")
        self._fd = fd
        self._base = base
        self._first = (base + _HEAD) // 8
        self.cells = cells
        self.clock = SharedClock(self._ints, base // 8)

    def take_turn(self, cell: int, interval_s: float, now: float) -> tuple[float, bool]:
        """Ask for the next turn of a task that may start every `interval_s` seconds.

        Args:
            cell: The task's.
            interval_s: As of now; what was given out under a longer one is forgotten.
            now: On the host's monotonic clock.

        Returns:
            When it is, and True: it is the caller's; or False: it is too far away, and that is when to ask again.
            Those who are sent away are spread out in time, so that a long line costs the same as a short one.
        """
        floats, at = self._floats, self._first + _PAIR * cell
        with self._locked(cell):
            # no further away than this rate puts it: more was given out under a slower one
            soonest = floats[at] = min(floats[at], now + PATIENCE_S + interval_s)
            turn = max(now, soonest)
            if turn - now <= PATIENCE_S:
                floats[at] = turn + interval_s
                return turn, True
            away_s = min(max(turn - now - PATIENCE_S / 2.0, PATIENCE_S), MOST_AWAY_S)
            again = max(floats[at + 1] + min(1.0 / RETURNS, interval_s / 2.0), now + away_s)
            floats[at + 1] = again
            return again, False

    @contextlib.contextmanager
    def _locked(self, cell: int) -> Iterator[None]:
        if sys.platform == "win32":  # one process only
            yield
            return
        fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, self._base + cell)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, self._base + cell)


class SharedClock:
    """Lamport's clock of a worker. Every process goes forward by itself and past what the others have shown."""

    def __init__(self, ints: memoryview, cell: int) -> None:
        self._ints = ints
        self._cell = cell
        self._own = 0

    @property
    def value(self) -> int:
        return max(self._own, self._ints[self._cell])

    def forward(self) -> int:
        return self.adjust(0)

    def adjust(self, other: int, /) -> int:
        if not 0 <= other < 1 << 62:  # a hostile peer must not end the count
            other = 0
        self._own = self._ints[self._cell] = max(self.value, other) + 1
        return self._own
