"""What every series works with: the scale of the run, its directories, the contestants, and waiting for tasks."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from benchmarks.environments import UnavailableError
from benchmarks.figure import CELERY
from benchmarks.processes import ProgramError
from benchmarks.rabbit_server import RabbitServer
from benchmarks.record import Record
from benchmarks.redis_server import RedisServer
from benchmarks.rivals import RIVALS
from benchmarks.sides import Bare, Opponent, Ours, OursOnRabbit, OursOnRedis, OursOnSqlite, Side

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.processes import Tree
    from benchmarks.rivals import Ready

Engine = Literal["sqlite", "redis", "rabbitmq"]
AnySide = TypeVar("AnySide", bound=Side)

_STALLED_S = 30.0
_PROBE = 1_000
_LPUSH_BYTES = 46
"""What the protocol and the key add to a message that is sent by LPUSH."""


class Bench:
    """One run of the benchmarks; a context manager that removes and ends everything it made."""

    def __init__(
        self, *, engine: Engine = "sqlite", scale: float = 1.0, with_rivals: bool = True, is_long: bool = False
    ) -> None:
        self.engine = engine
        self.scale = scale
        self.with_rivals = with_rivals
        self.is_long = is_long
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
        self._redis: RedisServer | None = None
        self._rabbit: RabbitServer | None = None
        self._messages: Path | None = None
        self._ready: dict[str, Ready] = {}
        self._payload: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._exit.close()

    def size(self, full: int, *, least: int = 50) -> int:
        """How many tasks to send in this run, where a full one sends `full`."""
        return max(least, round(full * self.scale))

    def ours(self, *, results: bool = True, environment: Mapping[str, str] | None = None) -> Ours:
        """Our side on the engine of this run, with an empty store.

        Args:
            results: Whether tasks keep them; not for SQLite, where they do.
            environment: More of it, for the application; not for SQLite.
        """
        if self.engine == "sqlite":
            return self.sqlite()
        if self.engine == "rabbitmq":
            kept = self.redis if results else None
            return self._emptied(
                OursOnRabbit(self.record, self.directory, self.rabbit, kept, environment=environment or {})
            )
        return self._emptied(
            OursOnRedis(self.record, self.directory, self.redis, results=results, environment=environment or {})
        )

    def sqlite(self, durability: Literal["full", "process"] = "process") -> OursOnSqlite:
        """Our side on an empty file."""
        self.record.clear()
        return OursOnSqlite(self.record, self.directory, self.directory, durability)

    def celery(self, *, results: bool = False) -> Opponent:
        """Celery's side, with an empty store. Raises as `rival`."""
        return self.rival(CELERY, results=results)

    def rival(self, name: str, *, results: bool = False, environment: Mapping[str, str] | None = None) -> Opponent:
        """A rival's side, with an empty store; its environment is built and servers are started at the first call.

        Args:
            name: Whose.
            results: Whether tasks keep them.
            environment: More of it, for the application.

        Raises:
            UnavailableError: There is no server, or no environment for the rival.
        """
        if not self.with_rivals:
            raise UnavailableError("left out (--ours)")
        ready = self._prepared(name)
        rabbit = self.rabbit if self.engine == "rabbitmq" else None
        return self._emptied(
            Opponent(
                RIVALS[name], ready, self.record, self.directory, self.redis if results or rabbit is None else None,
                rabbit=rabbit, results=results, environment=environment or {},
            )
        )  # fmt: skip

    def bare(self) -> Bare:
        """Loops without a task queue, with an empty store; their messages are as long as ours are on the wire."""
        return self._emptied(Bare(self.record, self.directory, self.redis, payload=self._bytes_per_message()))

    @property
    def redis(self) -> RedisServer:
        """The server of this run, started when it is first needed.

        Raises:
            UnavailableError: There is none, and none can be installed.
        """
        if self._redis is None:
            self._redis = RedisServer.start(self.directory)
            self._exit.callback(self._redis.end)
        return self._redis

    @property
    def message_directory(self) -> Path:
        """Where RabbitMQ keeps messages: beside the record, which is in memory where that can be had, or where
        `BENCH_MESSAGES` says.
        """
        if self._messages is None:
            chosen = os.environ.get("BENCH_MESSAGES")
            self._messages = (
                Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="celeriac-bench-", dir=chosen)))
                if chosen
                else self.record_directory
            )
        return self._messages

    @property
    def rabbit(self) -> RabbitServer:
        """The RabbitMQ server of this run, started when it is first needed.

        Raises:
            UnavailableError: There is none, and none can be installed.
        """
        if self._rabbit is None:
            self._rabbit = RabbitServer.start(self.message_directory)
            self._exit.callback(self._rabbit.end)
        return self._rabbit

    def rival_facts(self) -> dict[str, str]:
        """Versions of everything that was started so far, beside ours."""
        facts = {RIVALS[name].title: ready.versions for name, ready in self._ready.items()}
        if self._rabbit is not None:
            facts["RabbitMQ"] = self._rabbit.version()
        if self._redis is not None:
            facts["Redis"] = self._redis.version()
        return facts

    def celery_python(self) -> str:
        """The interpreter of Celery's environment. Raises as `rival`."""
        if not self.with_rivals:
            raise UnavailableError("left out (--ours)")
        return self._prepared(CELERY).command[0]

    def _prepared(self, name: str) -> Ready:
        if name not in self._ready:
            self._ready[name] = RIVALS[name].prepare()
        return self._ready[name]

    def _emptied(self, side: AnySide) -> AnySide:
        side.empty()
        return side

    def _bytes_per_message(self) -> int:
        """What one `delay` of ours sends to Redis; the bare loops send as much."""
        if self._payload is None:
            side = self.ours()
            before = self.redis.spent()
            side.produce("noop", "one", _PROBE)
            self._payload = self.redis.spent().since(before).received // _PROBE - _LPUSH_BYTES
        return self._payload

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
