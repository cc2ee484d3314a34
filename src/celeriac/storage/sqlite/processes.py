"""Which processes of this host are alive, told by pid and start time, so that a reused pid is no trap."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


@cache
def pid_space() -> int:
    """A number that two processes share when they see the same pids; 0 where the host does not tell."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116
    except OSError:
        return 0


def start_of(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when there is no such process (a zombie is none).

    Raises:
        OSError: The host does not tell.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold spaces and brackets
    return None if fields[0] in "ZX" else int(fields[19])


def is_dead(pid: int, start: int) -> bool:
    """Whether that very process is known to have ended. False where nothing is known."""
    if pid_space() == 0:
        return False
    try:
        return start_of(pid) != start
    except OSError:
        return False


def own_start() -> int:
    """When this process started; 0 where the host does not tell."""
    try:
        return start_of(os.getpid()) or 0
    except OSError:
        return 0
