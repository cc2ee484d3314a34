"""A program that a test has started: its log, its end, and waiting for it with a deadline."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

from servers.keeper import KEEPER

PATIENCE_S = 20.0

FoundT = TypeVar("FoundT")


class ProgramError(Exception):
    """A program did not do what it was started for; the message ends with its last words."""


def wait_until(
    condition: Callable[[], FoundT], what: str, timeout_s: float = PATIENCE_S, *, every_s: float = 0.01
) -> FoundT:
    """Poll until `condition` gives something true, and return that; TimeoutError names `what`."""
    end = time.monotonic() + timeout_s
    while True:
        if found := condition():
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(every_s)


class Program:
    """Runs in a session, and so in a process group, of its own. A context manager; `close` may be called twice.

    Args:
        command: With its arguments.
        log: Gets its output, after what is there already.
        environment: All of it; that of this process unless given.
        directory: Where it runs.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self._command = [str(part) for part in command]
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, env=environment, cwd=directory, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid
        self._gone = False
        KEEPER.keep(self.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """Its command line, shortened."""
        return " ".join(Path(part).name if part.startswith(os.sep) else part for part in self._command)[:200]

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """All it has written."""
        return self._log.read_text(errors="replace")

    def check(self) -> None:
        """Raise ProgramError when it has ended."""
        if (code := self._process.poll()) is not None:
            raise ProgramError(f"`{self.name}` ended with exit code {code}. Its last words:\n{self.log[-3000:]}")

    def wait_until(self, condition: Callable[[], FoundT], what: str, timeout_s: float = PATIENCE_S) -> FoundT:
        """As the function, but stops at once when the program ends, and shows its log when it fails."""

        def checked() -> FoundT:
            self.check()
            return condition()

        try:
            return wait_until(checked, what, timeout_s)
        except TimeoutError as exc:
            raise ProgramError(f"`{self.name}`: {exc}. Its last words:\n{self.log[-3000:]}") from exc

    def wait_for_log(self, text: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until it has written `text`."""
        self.wait_until(lambda: text in self.log, f"{text!r} in its log", timeout_s)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end; the exit code, negative for the signal that ended it."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as exc:
            raise ProgramError(
                f"`{self.name}` did not end within {timeout_s:g} s. Its last words:\n{self.log[-3000:]}"
            ) from exc

    def signal(self, number: int) -> None:
        """Send a signal to it alone."""
        self._process.send_signal(number)

    def signal_all(self, number: int) -> None:
        """Send a signal to it and what it has started."""
        if not self._gone:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to it and all it has started; returns when it is gone."""
        self.signal_all(signal.SIGKILL)
        self._process.wait()
        self._gone = True  # its number may be another's soon
        KEEPER.forget(self.pid)

    def close(self, patience_s: float = 10.0) -> None:
        """SIGTERM, then SIGKILL for what is left of its group."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)  # if a test has stopped it
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
        self.kill()
