"""Workers, producers and beats of one scenario: real processes, each with a log and a file of the history."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from chaos import application, clock
from chaos.producer import Load, Orders
from servers import Program, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
POOLS = (("-c", "2"), ("-c", "2", "--threads", "4"), ("-c", "1", "--async-slots", "8"))
"""By turns: two processes, two of four threads, one for async tasks."""


class Member:
    """A process, or a worker with all of its own."""

    def __init__(self, name: str, program: Program, clock_file: Path) -> None:
        self.name = name
        self.program = program
        self.clock_file = clock_file

    @property
    def pids(self) -> list[int]:
        """It and everything below it: supervisor, fork server, those that run tasks."""
        found = [self.program.pid]
        for pid in found:
            with suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    @property
    def children(self) -> list[int]:
        """Those that run tasks: what the fork server below the supervisor has forked."""
        return self.pids[2:]

    @property
    def is_running(self) -> bool:
        return self.program.is_running

    @property
    def log(self) -> str:
        return self.program.log

    def signal(self, number: int) -> None:
        """To all of it at once."""
        self.program.signal_all(number)


class Fleet:
    """Starts members; ends all of them in `close`.

    Args:
        folder: For history and logs.
        url: Of the broker.
        settings: Of every application.
        seed: Producers' loads are drawn from it.
    """

    def __init__(self, folder: Path, url: str, settings: dict[str, Any], seed: int) -> None:
        self.folder = folder
        self.url = url
        self.settings = settings
        self.members: list[Member] = []
        self._seed = seed

    def start_worker(
        self,
        *options: str,
        url: str = "",
        pool: Sequence[str] = POOLS[0],
        ready: bool = True,
        environment: dict[str, str] | None = None,
        app: str = "chaos.application",
    ) -> Member:
        """Start a worker and wait until it consumes."""
        name = self._name("worker")
        member = self._start(
            name,
            [sys.executable, "-m", "celeriac", "-A", app, "worker", "-n", f"{name}@chaos", *pool, *options],
            {application.URL: url or self.url, **(environment or {})},
        )
        if ready:
            member.program.wait_until(lambda: re.search(r"\bready\b", member.log), f"{name} to be ready")
        return member

    def start_beat(self, *options: str, url: str = "", app: str = "chaos.application") -> Member:
        """Start `celeriac beat`."""
        name = self._name("beat")
        return self._start(
            name, [sys.executable, "-m", "celeriac", "-A", app, "beat", *options], {application.URL: url or self.url}
        )

    def start_producer(self, load: Load, *, url: str = "", **settings: Any) -> Member:
        """Start a process that publishes until it gets SIGTERM."""
        name = self._name("producer")
        orders = Orders(
            name=name,
            folder=str(self.folder),
            url=url or self.url,
            settings={**self.settings, **settings},
            seed=self._seed * 1000 + len(self.members),
            load=load,
            clock=str(self._clock_file(name)),
        )
        path = self.folder / f"{name}.orders"
        path.write_bytes(msgspec.json.encode(orders))
        return self._start(name, [sys.executable, "-m", "chaos.producer", str(path)], {})

    def end_producers(self, timeout_s: float = 30.0) -> None:
        """Have all producers finish their call and end."""
        producers = [one for one in self.members if one.name.startswith("producer") and one.is_running]
        for one in producers:
            one.program.signal(signal.SIGCONT)
            one.program.signal(signal.SIGTERM)
        for one in producers:
            one.program.wait(timeout_s)

    def stop(self, member: Member, timeout_s: float = 30.0) -> int:
        """End it in good order (SIGTERM); its exit code."""
        member.program.signal(signal.SIGTERM)
        return member.program.wait(timeout_s)

    @property
    def workers(self) -> list[Member]:
        """Those that run."""
        return [one for one in self.members if one.name.startswith("worker") and one.is_running]

    def logs(self, size: int = 3000) -> str:
        """The last words of all."""
        return "\n".join(f"--- {one.name}\n{one.log[-size:]}" for one in self.members)

    def close(self) -> None:
        for one in self.members:
            one.program.kill()

    def wait(self, condition: Any, what: str, timeout_s: float = 30.0) -> Any:
        """As `wait_until`; the error shows the logs."""
        try:
            return wait_until(condition, what, timeout_s)
        except TimeoutError as exc:
            raise TimeoutError(f"{exc}\n{self.logs()}") from None

    def _name(self, kind: str) -> str:
        return f"{kind}{sum(one.name.startswith(kind) for one in self.members) + 1}"

    def _clock_file(self, name: str) -> Path:
        path = self.folder / f"{name}.clock"
        clock.shift(path)
        return path

    def _start(self, name: str, words: list[str], environment: dict[str, str]) -> Member:
        clock_file = self._clock_file(name)
        program = Program(
            words,
            log=self.folder / f"{name}.log",
            environment={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
                application.FOLDER: str(self.folder),
                application.NAME: name,
                application.SETTINGS: json.dumps(self.settings),
                application.CLOCK: str(clock_file),
                **environment,
            },
        )
        member = Member(name, program, clock_file)
        self.members.append(member)
        return member
