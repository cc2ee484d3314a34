"""The only place that reads a clock or draws a random number.

Tests move time, and a simulator replays a seed, by handing another `Clock` or `Entropy` to the parts that need one;
that cannot be added later, so nothing else in the package calls `time.time()`, `asyncio.sleep()` or `random`.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from functools import cache
from pathlib import Path
from typing import Protocol

_BOOTTIME: int = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", -1))


class Clock(Protocol):
    """Where time comes from."""

    def time(self) -> float:
        """Wall clock: seconds since the Unix epoch, UTC. May step; only for due times and what people read."""

    def monotonic(self) -> float:
        """Seconds on a clock that never steps, runs on while the machine is suspended, and is shared by all
        processes of this host since its last boot (CLOCK_BOOTTIME where there is one). For leases and durations.
        """

    async def sleep(self, seconds: float, /) -> None:
        """Suspend the calling coroutine."""

    def pause(self, seconds: float, /) -> None:
        """Block the calling thread."""


class SystemClock:
    """The host's real clocks."""

    __slots__ = ()

    def time(self) -> float:
        return time.time()

    if _BOOTTIME >= 0:

        def monotonic(self) -> float:
            return time.clock_gettime(_BOOTTIME)
    else:  # Windows: its monotonic clock counts suspended time and is shared by all processes

        def monotonic(self) -> float:
            return time.monotonic()

    async def sleep(self, seconds: float, /) -> None:
        await asyncio.sleep(seconds)

    def pause(self, seconds: float, /) -> None:
        time.sleep(seconds)


SYSTEM_CLOCK: Clock = SystemClock()


@cache
def boot_id() -> str:
    """A string that changes when the host boots, so that `monotonic()` values of two boots are never compared.

    Empty where the host does not tell; a reader then treats a value from the future as one of an earlier boot.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class Entropy(random.Random):
    """A seedable source of randomness: ids, jitter, incarnations. Reseeded in a forked child."""


ENTROPY = Entropy()
if hasattr(os, "register_at_fork"):  # two children of one parent must not draw the same ids
    os.register_at_fork(after_in_child=ENTROPY.seed)
