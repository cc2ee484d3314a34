"""Workers as real processes for the tests of this folder, and the means to talk about what they did."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from celeriac.clock import SYSTEM_CLOCK
from celeriac.codec import Codec
from celeriac.engine.submit import Submitter

HERE = Path(__file__).parent

PATIENCE_S = 20.0
WARNINGS = ("-W", "error", "-W", "ignore:Binding:DeprecationWarning")
"""As in pyproject: Python 3.12.0 to 3.12.3 take SQLite's numbered placeholders (?1) for named ones."""


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """Poll until `condition` is true; its value."""
    stop = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > stop:
            raise TimeoutError(f"waited {timeout_s} s for {what}")
        time.sleep(0.01)


class Worker:
    """A worker program that this test has started."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.pid = process.pid
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def signal_all(self, number: int) -> None:
        """To every process of this worker: they share a process group."""
        os.killpg(self.pid, number)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        return self.process.wait(timeout_s)


class Bench:
    """One broker, one ledger, any number of workers."""

    def __init__(self, folder: Path, url: str, links: Any) -> None:
        self.folder = folder
        self.url = url
        self.broker = links.broker
        self.results = links.results
        self.control = links.control
        self.ledger_path = folder / "ledger"
        self._submitter = Submitter(Codec(), SYSTEM_CLOCK, "test")
        self._workers: list[Worker] = []
        self.server: Any = None

    # -- what ran ------------------------------------------------------------------------------------------------

    def ledger(self) -> list[tuple[str, str, int, float]]:
        if not self.ledger_path.exists():
            return []
        rows = [line.split() for line in self.ledger_path.read_text().splitlines()]
        return [(row[0], row[1], int(row[2]), float(row[3])) for row in rows]

    def count(self, event: str, name: str) -> int:
        return sum(row[0] == event and row[1] == name for row in self.ledger())

    def pids(self, event: str, name: str) -> list[int]:
        return [row[2] for row in self.ledger() if row[0] == event and row[1] == name]

    def wait_event(self, event: str, name: str, count: int = 1, timeout_s: float = PATIENCE_S) -> list[int]:
        wait_until(
            lambda: self.count(event, name) >= count,
            f"{count} x {event} {name}; the logs:\n{self.logs()}",
            timeout_s,
        )
        return self.pids(event, name)

    def logs(self) -> str:
        return "\n".join(worker.log for worker in self._workers)

    # -- what is asked -------------------------------------------------------------------------------------------

    def send(self, task: str, *args: Any, **options: Any) -> str:
        return self.send_many(task, [args], **options)[0]

    def send_many(self, task: str, calls: list[Any], **options: Any) -> list[str]:
        queue = options.pop("queue", "q")
        messages = [self._submitter.build(task, args, {}, queue=queue, **options) for args in calls]
        self.broker.publish(messages)
        return [message.id for message in messages]

    def result(self, task_id: str, timeout_s: float = PATIENCE_S) -> Any:
        """The final result's meta."""
        found = self.results.wait([task_id], timeout_s=timeout_s)
        if not found:
            raise TimeoutError(f"no result of {task_id}; ledger {self.ledger()}; the logs:\n{self.logs()}")
        return msgspec.json.decode(found[task_id].payload)

    def wait_empty(self, timeout_s: float = PATIENCE_S) -> None:
        def is_empty() -> bool:
            depth = self.broker.depth(["q"]).get("q")
            return depth is None or (depth.ready, depth.delayed, depth.held) == (0, 0, 0)

        try:
            wait_until(is_empty, "an empty queue", timeout_s)
        except TimeoutError as exc:
            raise TimeoutError(f"{exc}: {self.broker.depth(['q'])}; the logs:\n{self.logs()}") from None

    # -- who does it ---------------------------------------------------------------------------------------------

    def start(self, *, wait: bool = True, broken: Path | None = None, modules: Any = (), **options: Any) -> Worker:
        """Start a worker with `options` (WorkerOptions) and wait until it is ready."""
        resolved = {
            "node": f"w{len(self._workers)}@test",
            "queues": ["q"],
            "lease_s": 5.0,
            "reap_every_s": 0.3,
            "grace_s": 10.0,
            "async_slots": 10,
            **options,
        }
        arguments = {
            "url": self.url,
            "options": resolved,
            "broken": None if broken is None else str(broken),
            "modules": modules,
        }
        log = self.folder / f"log{len(self._workers)}"
        before = self.count("worker", "ready")
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, *WARNINGS, str(HERE / "shop.py"), msgspec.json.encode(arguments).decode()],
                stdout=stream,
                stderr=stream,
                env={**os.environ, "LEDGER": str(self.ledger_path)},
                process_group=0,
            )
        worker = Worker(process, log)
        self._workers.append(worker)
        if wait:
            try:
                wait_until(
                    lambda: self.count("worker", "ready") > before or process.poll() is not None, "the worker to start"
                )
                assert process.poll() is None, worker.log
            except (TimeoutError, AssertionError) as exc:
                raise AssertionError(f"{exc}\n{worker.log}") from None
        return worker

    def close(self) -> None:
        for worker in self._workers:
            try:
                worker.signal_all(signal.SIGCONT)
                worker.signal_all(signal.SIGKILL)
            except ProcessLookupError:
                pass
            worker.process.wait(10)
        self.broker.close()
        self.results.close()
