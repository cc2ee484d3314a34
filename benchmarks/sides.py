"""The contestants, driven alike: each has a store that can be emptied, a producer process, and a worker command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.processes import ROOT, ProgramError, Tree, until
from benchmarks.record import VARIABLE
from benchmarks.redis_server import Spent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Literal

    from benchmarks.rabbit_server import RabbitServer
    from benchmarks.record import Record
    from benchmarks.redis_server import RedisServer
    from benchmarks.rivals import Ready, Rival

_PRODUCE_WITHIN_S = 900.0


class Side(ABC):
    """A task queue with the tasks `noop` and `nap`."""

    name: str
    times: int = 1
    """How often the worker's command is started."""
    redis: RedisServer | None = None
    """The server it runs on, or keeps results on."""
    rabbit: RabbitServer | None = None
    """The server it runs on, when it is this one."""

    def __init__(self, record: Record, logs: Path, environment: Mapping[str, str]) -> None:
        self._record = record
        self._logs = logs
        self.environment = {**os.environ, VARIABLE: str(record.path), **environment}

    def empty(self) -> None:
        """Forget everything, the record of what ran included. Only while neither worker nor producer runs."""
        self._record.clear()
        self._empty_store()

    def _empty_store(self) -> None:
        if self.redis is not None:
            self.redis.ask("FLUSHALL SYNC")
        if self.rabbit is not None:
            self.rabbit.empty()

    def servers_spent(self) -> Spent:
        """What its servers have done so far, together; nothing where it has none."""
        spent = Spent(0.0, 0, 0, 0)
        for server in (self.redis, self.rabbit):
            if server is not None:
                spent += server.spent()
        return spent

    @abstractmethod
    def _worker_command(self, options: Sequence[str]) -> Sequence[str]: ...

    @abstractmethod
    def _producer_command(self) -> Sequence[str]: ...

    def worker(self, *options: str) -> Tree:
        """Start a worker by its command line; without options, with two processes."""
        command = self._worker_command(options)
        return Tree(command, self.environment, self._logs / f"worker-{self.name}.log", times=self.times)

    def beat(self, environment: Mapping[str, str], name: str = "beat") -> Tree:
        """Start its beat by its command line, with more of an environment: that says which entries there are."""
        log = self._logs / f"{name}-{self.name}.log"
        return Tree(self._beat_command(name), {**self.environment, **environment}, log)

    def _beat_command(self, name: str) -> Sequence[str]:
        raise NotImplementedError(f"{self.name} has no beat here")

    def produce(self, task: str, mode: str, count: int) -> dict[str, Any]:
        """Run a producer process (see `benchmarks.produce`) to its end; what it measured.

        Raises:
            ProgramError: It failed; the message ends with its error output.
        """
        command = [*self._producer_command(), task, mode, str(count)]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=_PRODUCE_WITHIN_S
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise ProgramError(f"the producer of {self.name} ({task}, {mode}) failed: {last}\n{done.stderr[-1500:]}")
        measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return measured

    def fill(self, task: str, count: int) -> dict[str, Any]:
        """Send `count` tasks in the quickest way it has."""
        return self.produce(task, "many", count)

    def check_results(self, count: int, sent: Mapping[str, Any]) -> None:
        """See that the results of `count` tasks are kept; `sent` is what `fill` gave.

        Raises:
            ProgramError: They are not.
        """
        for _ in until(f"{self.name} keeps {count} results", 10, every_s=0.05):
            if self.results_kept() >= count:
                return

    def results_kept(self) -> int:
        """How many; a lower bound will do."""
        assert self.redis is not None
        return self.redis.number("DBSIZE")


class Ours(Side):
    """celeriac with its default settings."""

    name = "celeriac"
    module = "benchmarks.apps.celeriac_app"

    def __init__(self, record: Record, logs: Path, url: str, environment: Mapping[str, str]) -> None:
        self.url = url
        super().__init__(record, logs, {"BENCH_URL": url, **environment})

    def _worker_command(self, options: Sequence[str]) -> Sequence[str]:
        return [
            sys.executable, "-m", "celeriac", "-A", self.module, "worker", "-l", "WARNING",
            *(options or ("-c", "2")),
        ]  # fmt: skip

    def _producer_command(self) -> Sequence[str]:
        return [sys.executable, "-m", "benchmarks.produce", self.module]

    def _beat_command(self, name: str) -> Sequence[str]:
        return [sys.executable, "-m", "celeriac", "-A", self.module, "beat", "-l", "WARNING", "-n", name]

    def check_results(self, count: int, sent: Mapping[str, Any]) -> None:
        """Read the first and the last one."""
        for task_id, expected in ((sent["first_id"], 0), (sent["last_id"], count - 1)):
            if (result := self.result(task_id)) != expected:
                raise ProgramError(f"the result of task {expected} is {result!r}")

    def result(self, task_id: str) -> Any:
        """The result of a task that has run; waits up to ten seconds."""
        from celeriac import Celeriac

        app = Celeriac("benchmarks-reader", broker=self.url, backend=self.environment.get("BENCH_BACKEND"))
        try:
            return app.AsyncResult(task_id).get(timeout=10)
        finally:
            app.close()


class OursOnSqlite(Ours):
    """On a file, with the durability that is asked for."""

    def __init__(self, record: Record, logs: Path, stores: Path, durability: Literal["full", "process"]) -> None:
        self.directory = stores / "store"
        super().__init__(record, logs, f"sqlite:///{self.directory / 'bench.db'}?durability={durability}", {})
        self._empty_store()

    def _empty_store(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()

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


class OursOnRedis(Ours):
    """On a server."""

    def __init__(
        self, record: Record, logs: Path, redis: RedisServer, *, results: bool, environment: Mapping[str, str]
    ) -> None:
        self.redis = redis
        super().__init__(record, logs, redis.url, {"BENCH_RESULTS": "1" if results else "0", **environment})


class OursOnRabbit(Ours):
    """On RabbitMQ, with results in Redis."""

    def __init__(
        self, record: Record, logs: Path, rabbit: RabbitServer, redis: RedisServer | None, *,
        environment: Mapping[str, str],
    ) -> None:  # fmt: skip
        self.rabbit = rabbit
        self.redis = redis
        super().__init__(record, logs, rabbit.url, {**_results_in(redis), **environment})


def _results_in(redis: RedisServer | None) -> dict[str, str]:
    """What tells an application on RabbitMQ where its results go."""
    return {"BENCH_RESULTS": "0"} if redis is None else {"BENCH_RESULTS": "1", "BENCH_BACKEND": redis.url}


class Bare(Side):
    """No task queue: the loops of `benchmarks.apps.bare_app`, `batch` in two processes or `block` in one."""

    name = "bare"
    _module: ClassVar[str] = "benchmarks.apps.bare_app"

    def __init__(self, record: Record, logs: Path, redis: RedisServer, *, payload: int) -> None:
        self.redis = redis
        super().__init__(record, logs, {"BENCH_URL": redis.url, "BENCH_PAYLOAD": str(payload)})

    def worker(self, *options: str) -> Tree:
        """Start it."""
        self.times = 1 if "block" in options else 2
        return super().worker(*options)

    def _worker_command(self, options: Sequence[str]) -> Sequence[str]:
        return [sys.executable, "-m", self._module, *(options or ("batch",))]

    def _producer_command(self) -> Sequence[str]:
        return [sys.executable, "-m", "benchmarks.produce", self._module]


class Opponent(Side):
    """A rival in its own environment."""

    def __init__(
        self, rival: Rival, ready: Ready, record: Record, logs: Path, redis: RedisServer | None, *,
        rabbit: RabbitServer | None = None, results: bool, environment: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._rival = rival
        self._ready = ready
        self.redis = redis
        self.rabbit = rabbit
        self.name = rival.name
        self.times = rival.times
        if rabbit is not None:
            where = {"BENCH_URL": rabbit.url, **_results_in(redis)}
        else:
            assert redis is not None
            where = {"BENCH_URL": redis.url, "BENCH_RESULTS": "1" if results else "0"}
        super().__init__(record, logs, {**where, **rival.environment, **ready.environment, **environment})

    def _worker_command(self, options: Sequence[str]) -> Sequence[str]:
        return [*self._ready.command, *self._rival.worker, *(options or self._rival.two_processes)]

    def _producer_command(self) -> Sequence[str]:
        return [*self._ready.producer]

    def _beat_command(self, name: str) -> Sequence[str]:
        return [*self._ready.command, *self._rival.beat, "-s", str(self.beat_file)]

    @property
    def beat_file(self) -> Path:
        """Where Celery's beat keeps its entries."""
        return self._logs / "celerybeat"

    def fill(self, task: str, count: int) -> dict[str, Any]:
        """By its bulk call, if there is one."""
        return self.produce(task, "many" if self._rival.has_bulk else "one", count)

    def results_kept(self) -> int:
        """By counting keys, or where its results are."""
        assert self.redis is not None
        return self.redis.number(self._rival.count_results)
