"""A wall clock that is wrong by as much as a file says, in this process only."""

from __future__ import annotations

import mmap
import struct
import time
from typing import TYPE_CHECKING, Final

from celeriac.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_FORM: Final = struct.Struct("<ddd")
"""Off by so many seconds since a monotonic moment, and by so many more each second from then on."""


class _ShiftedClock(SystemClock):
    __slots__ = ("_map",)

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), _FORM.size, access=mmap.ACCESS_READ)

    def time(self) -> float:
        off_s, since, drift = _FORM.unpack(self._map[: _FORM.size])
        return time.time() + off_s + drift * (time.monotonic() - since)


def go_by(path: Path) -> Callable[[], None]:
    """Have the host's wall clock, as this process and its children read it, go by a file of `shift` from now on.

    Not a clock handed to the application: a broker that is told of another clock than the system's takes it for that of
    a test, by which servers go as well.

    Returns:
        What ends it.
    """
    before = SystemClock.time
    clock = _ShiftedClock(path)
    SystemClock.time = lambda self: clock.time()  # type: ignore[method-assign]

    def end() -> None:
        SystemClock.time = before  # type: ignore[method-assign]

    return end


def moved_at(path: Path) -> float:
    """When these clocks were last shifted, on the monotonic clock."""
    return float(_FORM.unpack(path.read_bytes())[1])


def shift(path: Path, off_s: float = 0.0, *, drift: float = 0.0) -> None:
    """Have the clocks that go by this file be off from now on, in place.

    Args:
        path: Made where it is missing.
        off_s: By so many seconds.
        drift: And by so many more each second; 0.1 is ten percent too fast.
    """
    data = _FORM.pack(off_s, time.monotonic(), drift)
    if path.exists():
        with path.open("r+b") as file:
            file.write(data)
    else:
        path.write_bytes(data)
