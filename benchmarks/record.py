"""The record of what ran: each task appends one entry to a shared file, so that measuring needs no broker.

An entry is written by one write(2) to a file opened with O_APPEND, so entries of several processes never mix. Both
sides use this module, also in an environment where celeriac is not installed.
"""

from __future__ import annotations

import os
import struct
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "BENCH_RECORD"
"""Environment variable with the path of the record."""

_ENTRY = struct.Struct("<QQd")
_descriptor: int | None = None


def record(number: int) -> None:
    """Note that task `number` runs now in this process. Times are of the monotonic clock, which all processes share."""
    global _descriptor
    if _descriptor is None:
        _descriptor = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND)
    os.write(_descriptor, _ENTRY.pack(number, os.getpid(), time.monotonic()))


class RecordError(Exception):
    """What ran is not what was sent."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One run of a task."""

    number: int
    pid: int
    at: float
    """Monotonic seconds."""


class Record:
    """The record's file, as the harness sees it."""

    ENTRY_BYTES = _ENTRY.size

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clear()

    def clear(self) -> None:
        """Begin anew. Only while nothing runs that holds the file open."""
        self.path.unlink(missing_ok=True)
        self.path.touch(0o600)

    def __len__(self) -> int:
        return self.path.stat().st_size // _ENTRY.size

    def entries(self) -> list[Entry]:
        """All entries, in the order of their times."""
        data = self.path.read_bytes()
        whole = data[: len(data) // _ENTRY.size * _ENTRY.size]
        return sorted((Entry(*fields) for fields in _ENTRY.iter_unpack(whole)), key=lambda entry: entry.at)

    def complete(self, count: int) -> list[Entry]:
        """The entries of tasks 0 to `count - 1`, each of which must be there exactly once.

        Raises:
            RecordError: Says how many are missing, doubled or unexpected.
        """
        entries = self.entries()
        seen = Counter(entry.number for entry in entries)
        missing = sum(number not in seen for number in range(count))
        doubled = sum(times - 1 for times in seen.values())
        strange = sum(number >= count for number in seen)
        if missing or doubled or strange:
            raise RecordError(
                f"of {count} tasks sent, {missing} did not run; {doubled} runs were repeats, "
                f"{strange} tasks were never sent"
            )
        return entries

    def first(self, count: int) -> list[Entry]:
        """The first `count` entries, where more were sent than are waited for.

        Raises:
            RecordError: One task has run twice.
        """
        entries = self.entries()
        if doubled := len(entries) - len({entry.number for entry in entries}):
            raise RecordError(f"of {len(entries)} runs, {doubled} were repeats")
        return entries[:count]


def rate(entries: list[Entry]) -> float:
    """Tasks per second from the first start to the last."""
    return (len(entries) - 1) / (entries[-1].at - entries[0].at)


def middle(entries: list[Entry]) -> list[Entry]:
    """Without the first and last tenth: what runs while every process is at work."""
    edge = len(entries) // 10
    return entries[edge : len(entries) - edge]
