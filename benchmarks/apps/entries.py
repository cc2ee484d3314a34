"""Entries of a schedule, told in plain words so that both sides read them.

`BENCH_BEAT` says which: how they lie (`calm`, `spread`, `rush`, `seconds`), how many, and from when on, as epoch
milliseconds.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

VARIABLE = "BENCH_BEAT"
DAY_S = 86_400


class Line(NamedTuple):
    """One entry."""

    number: int
    crontab: str
    """Five fields; '': `every` says it."""
    every: int
    """Seconds."""
    start_ms: int
    """Of the first instant where it counts seconds; 0: an interval after it was met."""


def wanted(kind: str, count: int, start_ms: int = 0) -> dict[str, str]:
    """The environment in which these entries are made."""
    return {VARIABLE: f"{kind} {count} {start_ms}"}


def lines() -> list[Line]:
    """Those that the environment asks for; none without it."""
    if not (text := os.environ.get(VARIABLE)):
        return []
    kind, count, start_ms = text.split()
    return entries(kind, int(count), int(start_ms))


def entries(kind: str, count: int, start_ms: int = 0) -> list[Line]:
    """The entries of a kind."""
    numbers = range(count)
    if kind == "spread":
        return [Line(number, "", 60, start_ms + number % 60 * 1000) for number in numbers]
    if kind == "rush":
        return [Line(number, "", 60, start_ms) for number in numbers]
    if kind == "seconds":  # half of them in the same moment, half spread over the second
        return [Line(number, "", 1, start_ms + number % 2 * 10 * number) for number in numbers]
    month = (time.gmtime(time.time()).tm_mon + 5) % 12 + 1
    return [
        Line(number, "", 3_600 + number, 0)
        if number % 2
        else Line(number, f"{number % 60} {number // 60 % 24} {number % 28 + 1} {month} *", 0, 0)
        for number in numbers
    ]
