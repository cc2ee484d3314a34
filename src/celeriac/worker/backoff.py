"""Delays between attempts to reach a broker."""

from __future__ import annotations

from celeriac.clock import ENTROPY

LEAST_S = 0.1
MOST_S = 3.0
"""However long the broker was away, workers consume again within five seconds."""


class Backoff:
    """Doubling delays from 0.1 s to 3 s, each with full jitter above a tenth of it."""

    __slots__ = ("_full_s",)

    def __init__(self) -> None:
        self._full_s = LEAST_S

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        full = self._full_s
        self._full_s = min(full * 2.0, MOST_S)
        return ENTROPY.uniform(full / 10.0, full)

    def reset(self) -> None:
        """It worked."""
        self._full_s = LEAST_S
