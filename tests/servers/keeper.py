"""No orphans: a small process that outlives this one and ends, with SIGKILL, what this one leaves running.

It knows what runs from a pipe. When the pipe ends, because the test run was left, interrupted or killed, it kills the
process groups that are still on its list and removes their directories. (PR_SET_PDEATHSIG would not do: it fires when
the *thread* that started the process ends.)
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable


class Keeper:
    """Started with the first program, one for each test process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._process: subprocess.Popen[bytes] | None = None

    def keep(self, group: int) -> None:
        """End this process group after this process."""
        self._tell(f"+{group}")

    def forget(self, group: int) -> None:
        """It has ended."""
        self._tell(f"-{group}")

    def keep_directory(self, path: str) -> None:
        """Remove it after this process, if it is still there."""
        self._tell(f"d{path}")

    def forget_directory(self, path: str) -> None:
        """It is another's now."""
        self._tell(f"f{path}")

    def _tell(self, line: str) -> None:
        with self._lock:
            if self._process is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", __file__, str(self._pid)],
                    stdin=subprocess.PIPE,
                    start_new_session=True,  # Ctrl-C at the terminal is not for it
                )
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()


KEEPER = Keeper()
_watchers: list[subprocess.Popen[bytes]] = []


def keep_while_used(users: str, groups: Iterable[int], directories: Iterable[str]) -> None:
    """End these when no process holds a shared `flock` on the file `users` any more, whoever started them."""
    words = [*(f"+{group}" for group in groups), *(f"d{directory}" for directory in directories)]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, users, *words],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    _watchers.append(process)  # a Popen that goes while its process runs is a ResourceWarning


def _watch(users: str, words: list[str]) -> None:
    with open(users, "rb") as file:  # noqa: PTH123
        fcntl.flock(file, fcntl.LOCK_EX)  # waits for the last one, and keeps newcomers out while it clears up
        _end((int(word[1:]) for word in words if word[0] == "+"), (word[1:] for word in words if word[0] == "d"))


def _main(parent: int) -> None:
    groups: set[int] = set()
    directories: set[str] = set()
    rest = b""
    while True:
        # the pipe may be held open by a process that was forked from ours; then its parent's pid tells
        ready, _, _ = select.select([0], [], [], 0.5)
        if not ready:
            if os.getppid() != parent:
                break
            continue
        data = os.read(0, 65536)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            kind, word = line[:1], line[1:].decode()
            if kind == b"+":
                groups.add(int(word))
            elif kind == b"-":
                groups.discard(int(word))
            elif kind == b"d":
                directories.add(word)
            else:
                directories.discard(word)
    _end(groups, directories)


def _end(groups: Iterable[int], directories: Iterable[str]) -> None:
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        _main(int(sys.argv[1]))
    else:
        _watch(sys.argv[1], sys.argv[2:])
