"""What every series works with: the scale of the run, its directories, the two sides, and waiting for tasks to run."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from benchmarks.celery_home import UnavailableError, celery_python, versions
from benchmarks.processes import ProgramError
from benchmarks.record import Record
from benchmarks.redis_server import RedisServer
from benchmarks.sides import Celery, Ours

if TYPE_CHECKING:
    from benchmarks.processes import Tree

_STALLED_S = 30.0


class Bench:
    """One run of the benchmarks; a context manager that removes and ends everything it made."""

    def __init__(self, *, scale: float = 1.0, with_celery: bool = True) -> None:
        self.scale = scale
        self._exit = ExitStack()
        self.directory = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="celeriac-bench-")))
        memory = Path("/dev/shm")
        usable = memory.is_dir() and os.access(memory, os.W_OK)
        self.record_directory = Path(
            self._exit.enter_context(
                tempfile.TemporaryDirectory(prefix="celeriac-bench-", dir=memory if usable else None)
            )
        )
        self.record = Record(self.record_directory / "record")
        self._celery: tuple[str, RedisServer] | None = None
        self.why_no_celery = "" if with_celery else "left out (--ours)"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._exit.close()

    def size(self, full: int, *, least: int = 50) -> int:
        """How many tasks to send in this run, where a full one sends `full`."""
        return max(least, round(full * self.scale))

    def ours(self, durability: Literal["full", "process"] = "process") -> Ours:
        """Our side, with an empty store."""
        self.record.clear()
        return Ours(self.record, self.directory, self.directory, durability)

    def celery(self, *, results: bool = False) -> Celery:
        """Celery's side, with an empty store; Redis is started at the first call.

        Raises:
            UnavailableError: There is no redis-server, or no Celery.
        """
        python, redis = self._celery_parts()
        side = Celery(python, self.record, self.directory, redis, results=results)
        side.empty()
        return side

    def celery_python(self) -> str:
        """The interpreter of Celery's environment. Raises as `celery`."""
        return self._celery_parts()[0]

    def celery_facts(self) -> dict[str, str]:
        """Versions of what Celery runs on; empty without it."""
        if self._celery is None:
            return {}
        python, redis = self._celery
        found = versions(python)
        return {
            "Celery": f"{found['celery']} on Python {found['python']}, redis-py {found['redis-py']} with hiredis",
            "Redis": redis.version(),
        }

    def _celery_parts(self) -> tuple[str, RedisServer]:
        if self.why_no_celery:
            raise UnavailableError(self.why_no_celery)
        if self._celery is None:
            try:
                binary = RedisServer.binary()
                if binary is None:
                    raise UnavailableError("no redis-server on the PATH")
                python = celery_python()
                redis = RedisServer.start(binary, self.directory)
            except UnavailableError as exc:
                self.why_no_celery = str(exc)
                raise
            self._exit.callback(redis.end)
            self._celery = python, redis
        return self._celery

    def wait_for(self, worker: Tree, count: int) -> None:
        """Wait until `count` tasks are in the record.

        Raises:
            ProgramError: The worker ended, or for half a minute no task ran.
        """
        last, since = -1, time.monotonic()
        while (ran := len(self.record)) < count:
            worker.check()
            now = time.monotonic()
            if ran != last:
                last, since = ran, now
            elif now - since > _STALLED_S:
                raise ProgramError(
                    f"`{worker.name}` ran {ran} of {count} tasks and then none for {_STALLED_S:.0f} s. "
                    f"Its last words:\n{worker.last_words()}"
                )
            time.sleep(0.005)

    def room(self, name: str) -> Path:
        """A path where a series may keep a filled store for its next repetitions; gone when the series is over."""
        rooms = self.directory / "rooms"
        rooms.mkdir(exist_ok=True)
        return rooms / name

    def drop_rooms(self) -> None:
        """Forget what the series kept: filled stores are large."""
        shutil.rmtree(self.directory / "rooms", ignore_errors=True)
