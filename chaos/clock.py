"""A wall clock that is wrong by as much as a file says, in this process only."""

from __future__ import annotations

import mmap
import struct
import time
from typing import TYPE_CHECKING, Final

from celeriac.clock import SystemClock

if TYPE_CHECKING:
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


def shifted_clock(path: Path) -> SystemClock:
    """The clock that goes by a file of `shift`."""
    return _ShiftedClock(path)


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
