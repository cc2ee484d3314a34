"""Real workers of one application on one broker, and what their tasks wrote down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from celeriac import Celeriac

PATIENCE_S = 20.0
HERE = Path(__file__).parent


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """Poll until `condition` is true; its value."""
    stop = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > stop:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.01)
    return value


class Fleet:
    """Starts workers of `controlled.py`, ends them, and knows their application."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.ledger_path = folder / "ledger"
        self._workers: list[subprocess.Popen[bytes]] = []
        self.variables = {
            **os.environ,
            "CONTROLLED_URL": url,
            "CONTROLLED_RESULTS": (results := f"sqlite:///{folder}/results.db"),
            "CONTROLLED_LEDGER": str(self.ledger_path),
            "PYTHONPATH": str(HERE),
        }
        self.app = Celeriac("controlled", broker=url, backend=results)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGQUIT)
        for worker in self._workers:
            try:
                worker.wait(10.0)
            except subprocess.TimeoutExpired:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()
        self.app.close()

    def start(self, *options: str, name: str = "w1", processes: int = 2) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it answers."""
        with (self.folder / f"{name}.log").open("ab") as log:
            worker = subprocess.Popen(
                [
                    sys.executable, "-m", "celeriac", "-A", "controlled", "worker", "-c", str(processes),
                    "-n", f"{name}@test", *options,
                ],
                env=self.variables, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._workers.append(worker)
        try:
            wait_until(lambda: self.ask("ping", node=f"{name}@test"), f"{name} to answer")
            wait_until(lambda: " ready" in self.log(name), f"{name} to be ready")
        except TimeoutError as exc:
            raise TimeoutError(f"{exc}; its log:\n{self.log(name)}") from None
        return worker

    def log(self, name: str = "w1") -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def send(self, task: str, *args: Any, **options: Any) -> Any:
        return self.app.send_task(f"controlled.{task}", args, **options)

    def ask(self, method: str, node: str = "w1@test", **arguments: Any) -> Any:
        """What one worker replies to a command."""
        return self.app.control_channel.call(method, arguments, destination=[node], timeout_s=5.0).get(node)

    def ledger(self, what: str = "") -> list[tuple[str, float, int]]:
        """What tasks wrote with `note`: the text, when, and in which process."""
        if not self.ledger_path.exists():
            return []
        rows = [line.split() for line in self.ledger_path.read_text().splitlines()]
        return [(row[0], float(row[1]), int(row[2])) for row in rows if row[0].startswith(what)]

    def wait_for(self, what: str, count: int = 1, timeout_s: float = PATIENCE_S) -> list[tuple[str, float, int]]:
        wait_until(lambda: len(self.ledger(what)) >= count, f"{count} x {what} (there is {self.ledger()})", timeout_s)
        return self.ledger(what)
