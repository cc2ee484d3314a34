"""No orphans: a small process that outlives this one and ends, with SIGKILL, what this one leaves running.

It knows what runs from a pipe. When the pipe ends, because the test run was left, interrupted or killed, it kills the
process groups that are still on its list and removes their directories. (PR_SET_PDEATHSIG would not do: it fires when
the *thread* that started the process ends.)
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import threading


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
            else:
                directories.add(word)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
