"""A worker in processes of its own, started for the occasion and surely gone afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from celeriac.errors import WorkerError

if TYPE_CHECKING:
    from types import TracebackType

_STOP_S = 10.0


class Fleet:
    """Runs `celeriac worker` for `app_text` while the block lasts.

    Args:
        app_text: As `-A`.
        broker: URL.
        results: URL; None: with the broker.
        queue: Served alone.
        processes: How many.
        node: The worker's full name.
        directory: Working directory and place of its log.
    """

    def __init__(
        self,
        app_text: str,
        *,
        broker: str,
        results: str | None = None,
        queue: str,
        processes: int,
        node: str,
        directory: Path,
    ) -> None:
        stored = () if results is None else ("--result-backend", results)
        self._command = [
            sys.executable, "-m", "celeriac", "-A", app_text, "-b", broker, *stored, "worker",
            "-Q", queue, "-P", "processes", "-c", str(processes), "-n", node, "-l", "WARNING", "--grace", "5",
        ]  # fmt: skip
        self._directory = directory
        self._log = directory / "worker.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Fleet:
        environment = dict(os.environ)
        if path := environment.get("PYTHONPATH"):  # relative to where we are, not to where the worker will be
            environment["PYTHONPATH"] = os.pathsep.join(str(Path(each).absolute()) for each in path.split(os.pathsep))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we stop the worker in order
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None:
            return
        try:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(_STOP_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            pass
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)  # its session: whatever is left of it
            except ProcessLookupError:
                pass
            process.wait()

    def check(self) -> None:
        """Make sure that it runs.

        Raises:
            WorkerError: It does not; the message has the end of its log.
        """
        code = None if self._process is None else self._process.poll()
        if code is not None:
            raise WorkerError(f"the worker ended with exit code {code}{self._said()}")

    def _said(self) -> str:
        tail = self._log.read_text(errors="replace").splitlines()[-15:]
        return ("; it said:\n" + "\n".join(tail)) if tail else "; it said nothing"
