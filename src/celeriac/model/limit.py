"""Limits that hold for the whole fleet, and unique tasks: as a task declares them and as a message carries them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from celeriac.errors import ConfigError

Key = str | Callable[..., str]
"""A template over the call's arguments by name (`"customer:{customer_id}"`), or a function of the same arguments."""
Until = Literal["start", "end"]

_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*([smh])\w*\s*)?")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """What a limited message is admitted by. All messages of one key, of whatever task or queue, share its limits.

    The limits in force for a key are those of the message that was published last.
    """

    key: str
    concurrency: int | None = None
    """At most so many are handed out and not settled."""
    interval_s: float | None = None
    """Seconds between two starts, in the mean."""
    burst: int = 1
    """So many may start at once after a pause; in any window of t seconds, at most `burst + t / interval_s` start."""

    @property
    def slack_s(self) -> float:
        """How far ahead of its even pace a key may run."""
        return 0.0 if self.interval_s is None else (self.burst - 1) * self.interval_s


class Unique(msgspec.Struct, frozen=True, kw_only=True):
    """Makes a broker drop this message while a live one holds its key."""

    key: str
    ttl_s: float
    """The key is free again after so long, whatever became of the message."""
    until: Until = "end"
    """`end`: held until the message is settled for good, buried, cancelled or purged. `start`: held only while it waits
    in its queue, or waits there again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How many tasks of one key may run, on all workers of a broker together; what must wait stays in its queue.

    Args:
        key: Calls of one key share the limit: `"customer:{customer_id}"` is filled with the call's arguments, a
            function gets the same arguments as the task. None: the task's name.
        concurrency: At most so many run at once.
        rate: At most so many start: `"100/m"`, `"10/s"`, `"5/h"`, or a number per second.
        burst: So many may start at once when there were none for a while.

    Raises:
        ConfigError: A value is out of range; the message names it.

    Source:
        The rate is kept by GCRA (ITU-T I.371), the theoretical arrival time being all its state.
    """

    key: Key | None = None
    concurrency: int | None = None
    rate: str | float | None = None
    burst: int = 1

    def __post_init__(self) -> None:
        if self.key is not None and not callable(self.key) and (type(self.key) is not str or not self.key):
            raise ConfigError(f"Limit(key={self.key!r}): give a template such as 'customer:{{customer_id}}'")
        if self.concurrency is None and self.rate is None:
            raise ConfigError("Limit() limits nothing: give concurrency=, rate= or both")
        if self.concurrency is not None and (type(self.concurrency) is not int or self.concurrency < 1):
            raise ConfigError(f"Limit(concurrency={self.concurrency!r}): a whole number from 1 on")
        if type(self.burst) is not int or self.burst < 1:
            raise ConfigError(f"Limit(burst={self.burst!r}): a whole number from 1 on")
        if self.burst > 1 and self.rate is None:
            raise ConfigError(f"Limit(burst={self.burst}) belongs to a rate; give rate= too")
        interval_of(self.rate)

    def admission(self, key: str) -> Admission:
        """As a message of this key carries it."""
        return Admission(key=key, concurrency=self.concurrency, interval_s=interval_of(self.rate), burst=self.burst)

    def as_wire(self) -> dict[str, Any]:
        """As plain data, for a signature; `Limit(**data)` makes it again.

        Raises:
            ConfigError: Its key is a function, which cannot travel.
        """
        if callable(self.key):
            raise ConfigError("a signature cannot carry a Limit whose key is a function; set it on the task itself")
        return {"key": self.key, "concurrency": self.concurrency, "rate": self.rate, "burst": self.burst}


def interval_of(rate: str | float | None) -> float | None:
    """Seconds between two starts at a rate; None: no limit.

    Raises:
        ConfigError: It is no rate.
    """
    if rate is None:
        return None
    if isinstance(rate, str):
        found = _RATE.fullmatch(rate)
        per_second = float(found[1]) / _SECONDS[found[2]] if found else 0.0
    else:
        per_second = 0.0 if isinstance(rate, bool) else float(rate)
    if not 0.0 < per_second < float("inf"):
        raise ConfigError(f"rate={rate!r}: use '100/m', '10/s', '5/h' or a number per second, above 0")
    return 1.0 / per_second
