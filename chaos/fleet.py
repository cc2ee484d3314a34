"""Workers, producers and beats of one scenario: real processes, each with a log and a file of the history."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from chaos import application, clock
from chaos.processes import children, family
from chaos.producer import Load, Orders
from servers import Program, ProgramError, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
_READY = re.compile(r"\bready\b")
POOLS = (("-c", "2"), ("-c", "2", "--threads", "4"), ("-c", "2", "--async-slots", "8"))
"""By turns: two processes, two of four threads, two with few slots for async tasks."""


class Member:
    """A process, or a worker with all of its own."""

    def __init__(self, name: str, program: Program, clock_file: Path) -> None:
        self.pool: Sequence[str] = ()
        self._is_ready = False
        self.name = name
        self.program = program
        self.clock_file = clock_file

    @property
    def processes(self) -> int:
        """How many of those that run tasks it has while it replaces none."""
        return int(self.pool[1])

    @property
    def pids(self) -> list[int]:
        """It and everything below it: supervisor, fork server, those that run tasks."""
        return family(self.program.pid)

    @property
    def children(self) -> list[int]:
        """Those that run tasks: what the fork servers below the supervisor have forked."""
        return [pid for server in children(self.program.pid) for pid in children(server)]

    @property
    def is_ready(self) -> bool:
        """Whether a worker has consumed by now; others need not say so."""
        self._is_ready = self._is_ready or not self.name.startswith("worker") or bool(_READY.search(self.log))
        return self._is_ready

    @property
    def is_running(self) -> bool:
        return self.program.is_running

    @property
    def exit_code(self) -> int | None:
        """Negative for the signal that ended it; None while it runs."""
        return self.program.wait() if not self.is_running else None

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
        wire: Of producers; see `Orders.wire`.
    """

    def __init__(self, folder: Path, url: str, settings: dict[str, Any], seed: int, *, wire: str = "") -> None:
        self.folder = folder
        self.url = url
        self.settings = settings
        self.wire = wire
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
        member.pool = pool
        if ready:
            self.wait_ready(member)
        return member

    def start_workers(self, count: int, *options: str, **how: Any) -> list[Member]:
        """Start several at once, with the pools by turns, and wait until they consume."""
        members = [
            self.start_worker(*options, **{"pool": POOLS[number % len(POOLS)], **how, "ready": False})
            for number in range(count)
        ]
        self.wait_ready(*members)
        return members

    def wait_ready(self, *members: Member) -> None:
        """Wait until these workers consume."""
        for one in members:
            one.program.wait_until(lambda one=one: one.is_ready, f"{one.name} to be ready")

    def start_beat(self, *options: str, url: str = "", app: str = "chaos.application") -> Member:
        """Start `celeriac beat`."""
        name = self._name("beat")
        return self._start(
            name, [sys.executable, "-m", "celeriac", "-A", app, "beat", *options], {application.URL: url or self.url}
        )

    def start_monitor(self) -> Member:
        """Start `celeriac events`, which shows what workers tell."""
        name = self._name("monitor")
        words = [sys.executable, "-m", "celeriac", "-A", "chaos.application", "events"]
        return self._start(name, words, {application.URL: self.url})

    def start_producer(self, load: Load, *, url: str = "", clients: int = 1, **settings: Any) -> Member:
        """Start a process that publishes until it gets SIGTERM; of several clients, each publishes by the load."""
        name = self._name("producer")
        orders = Orders(
            name=name,
            folder=str(self.folder),
            url=url or self.url,
            settings={**self.settings, **settings},
            seed=self._seed * 1000 + len(self.members),
            load=load,
            clock=str(self._clock_file(name)),
            wire=self.wire,
        )
        path = self.folder / f"{name}.orders"
        path.write_bytes(msgspec.json.encode(orders))
        program = ["chaos.producer", str(path)] if clients == 1 else ["chaos.crowd", str(path), str(clients)]
        return self._start(name, [sys.executable, "-m", *program], {})

    def end_producers(self, timeout_s: float = 30.0) -> None:
        """Have all producers finish their call and end."""
        producers = [one for one in self.members if one.name.startswith("producer") and one.is_running]
        self._end(producers, timeout_s)

    def end_workers(self, timeout_s: float = 30.0) -> list[str]:
        """End all workers and beats in good order; what was not in order, one line each."""
        return self._end([one for one in self.members if one.is_running], timeout_s)

    def broken(self) -> list[str]:
        """Members that ended by a fault of their own, one line each: not well, and by no signal."""
        return [
            f"{one.name} ended with exit code {one.exit_code} by itself"
            for one in self.members
            if (one.exit_code or 0) > 0 and one.is_ready
        ]

    def _end(self, members: list[Member], timeout_s: float) -> list[str]:
        wrong: list[str] = []
        for one in members:
            one.signal(signal.SIGCONT)
            one.program.signal(signal.SIGTERM)
        for one in members:
            try:
                code = one.program.wait(timeout_s)
            except ProgramError:
                wrong.append(f"{one.name} did not end within {timeout_s:g} s after SIGTERM")
            else:
                if code and one.is_ready:  # who is still being imported just goes
                    wrong.append(f"{one.name} ended with exit code {code} after SIGTERM")
        return wrong

    def stop(self, member: Member, timeout_s: float = 30.0) -> int:
        """End it in good order (SIGTERM); its exit code."""
        member.program.signal(signal.SIGTERM)
        return member.program.wait(timeout_s)

    @property
    def workers(self) -> list[Member]:
        """Those that run."""
        return [one for one in self.members if one.name.startswith("worker") and one.is_running]

    def wait_fresh(self, member: Member, before: Sequence[int], gone: int, timeout_s: float = 30.0) -> int:
        """Wait until a worker has a process that runs tasks for one that has died or leaves; its number.

        Args:
            member: The worker.
            before: Its processes before that, by age, as the children of a process are. Where it was about to replace
                one by another, that other is the one.
            gone: The one that has died; it may be younger than those before.
            timeout_s: Then it is an error.
        """
        others = [pid for pid in before if pid != gone]
        replacing = before[-1:] if len(before) > member.processes else []

        def fresh() -> list[int]:
            now = [pid for pid in member.children if pid != gone]
            return [pid for pid in now if pid not in others] or [pid for pid in now if pid in replacing]

        found: list[int] = self.wait(fresh, f"another process of {member.name}", timeout_s)
        return found[-1]

    def has_begun(self, member: Member) -> bool:
        """Whether it has written anything into the history."""
        path = self.folder / f"{member.name}.jsonl"
        return path.exists() and path.stat().st_size > 0

    def member_of(self, process: str) -> Member:
        """Whose a process is, by its `name:pid` in the history."""
        name = process.partition(":")[0]
        return next(one for one in self.members if one.name == name)

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
