"""The two sides, driven alike: each has a store that can be emptied, a producer process, and a worker command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.processes import ROOT, ProgramError, Tree
from benchmarks.record import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Literal

    from benchmarks.record import Record
    from benchmarks.redis_server import RedisServer

_PRODUCE_WITHIN_S = 900.0


class Side(ABC):
    """A task queue with the tasks `noop` and `nap`."""

    module: ClassVar[str]

    def __init__(self, python: str, record: Record, logs: Path, environment: dict[str, str]) -> None:
        self.python = python
        self._record = record
        self._logs = logs
        self._environment = {**os.environ, VARIABLE: str(record.path), **environment}

    def empty(self) -> None:
        """Forget everything, the record of what ran included. Only while no worker runs."""
        self._record.clear()
        self._empty_store()

    @abstractmethod
    def _empty_store(self) -> None: ...

    @abstractmethod
    def _worker_command(self) -> Sequence[str]: ...

    def worker(self, *options: str) -> Tree:
        """Start a worker by its command line."""
        command = [self.python, "-m", *self._worker_command(), "-l", "WARNING", *options]
        return Tree(command, self._environment, self._logs / f"worker-{self.module}.log")

    def produce(self, task: str, mode: str, count: int) -> dict[str, Any]:
        """Run a producer process (see `benchmarks.produce`) to its end; what it measured.

        Raises:
            ProgramError: It failed; the message ends with its error output.
        """
        command = [self.python, "-m", "benchmarks.produce", self.module, task, mode, str(count)]
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=_PRODUCE_WITHIN_S
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise ProgramError(f"the producer of {self.module} ({task}, {mode}) failed: {last}\n{done.stderr[-1500:]}")
        measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return measured


class Ours(Side):
    """celeriac on an SQLite file, with its default settings but for the durability that is asked for."""

    module = "benchmarks.tasks"

    def __init__(self, record: Record, logs: Path, stores: Path, durability: Literal["full", "process"]) -> None:
        self.directory = stores / "store"
        self.url = f"sqlite:///{self.directory / 'bench.db'}?durability={durability}"
        super().__init__(sys.executable, record, logs, {"BENCH_URL": self.url})
        self._empty_store()

    def _empty_store(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()

    def _worker_command(self) -> Sequence[str]:
        return ["celeriac", "-A", self.module, "worker"]

    def save(self, place: Path) -> None:
        """Copy the store to `place`. Only while nothing has it open."""
        place.mkdir()
        for file in self.directory.glob("bench.db*"):
            if file.is_file():
                shutil.copyfile(file, place / file.name)

    def load(self, place: Path) -> None:
        """Empty the store, then take what `save` copied."""
        self.empty()
        for file in place.iterdir():
            shutil.copyfile(file, self.directory / file.name)

    def result(self, task_id: str) -> Any:
        """The result of a task that has run; waits up to ten seconds."""
        from celeriac import Celeriac

        app = Celeriac("benchmarks-reader", broker=self.url)
        try:
            return app.AsyncResult(task_id).get(timeout=10)
        finally:
            app.close()


class Celery(Side):
    """Celery on Redis, with its fast settings."""

    module = "benchmarks.celery_tasks"

    def __init__(self, python: str, record: Record, logs: Path, redis: RedisServer, *, results: bool) -> None:
        super().__init__(python, record, logs, {"BENCH_URL": redis.url, "BENCH_RESULTS": "1" if results else "0"})
        self.redis = redis

    def _empty_store(self) -> None:
        self.redis.ask("FLUSHALL")

    def _worker_command(self) -> Sequence[str]:
        return [
            "celery", "-A", self.module, "worker", "--prefetch-multiplier", "64",
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ]  # fmt: skip
