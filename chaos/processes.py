"""What /proc says of processes: who descends from whom, who is gone, what they hold."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

_PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") // 1024
_WRITER: Final = "120"
"""The byte of a write-ahead log's index that who writes has locked."""


def family(pid: int) -> list[int]:
    """It and everything below it, parents first."""
    found = [pid]
    for each in found:
        found += children(each)
    return found


def children(pid: int) -> list[int]:
    """What it has forked and not yet waited for; it forks in its main thread."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_gone(pid: int) -> bool:
    """Whether it runs nothing any more; who waits for it or not is all the same."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def holdings(pid: int) -> dict[str, int]:
    """Its resident memory, descriptors and sockets now; empty when it is gone."""
    try:
        rss_kib = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_KIB
        fds = connections = 0
        for each in Path(f"/proc/{pid}/fd").iterdir():
            fds += 1
            with suppress(OSError):
                connections += str(each.readlink()).startswith("socket:")
    except OSError:
        return {}
    return {"rss_kib": rss_kib, "fds": fds, "connections": connections}


def is_writing(pids: Collection[int], folder: Path) -> bool:
    """Whether one of these is in the middle of a transaction that writes into a SQLite file of this folder."""
    indexes = {file.stat().st_ino for file in folder.glob("*-shm")}
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any(
        int(lock[4]) in pids and int(lock[5].rpartition(":")[2]) in indexes
        for lock in locks
        if (lock[1], lock[3], lock[6]) == ("POSIX", "WRITE", _WRITER)
    )
