"""A stage on which Celery's programs act."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from chaos import application
from chaos.fleet import Fleet, Member
from chaos.stage import Stage
from servers import CeleryEnvironment, Program, ProgramError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.celery.manners import Manner
    from chaos.engines import Engine
    from chaos.producer import Load
    from chaos.scenario import Scenario

HERE = Path(__file__).parent
MODULE = "celery_side"
STARTS_IN_S = 60.0
"""A worker, on cores that all contestants share."""
LEFT = "still_held"
"""A figure: acknowledged, not run, and a message of it is still there."""
HUNG = "hung"
"""A figure: producers that did not come back from a publish."""


class CeleryMember(Member):
    @property
    def children(self) -> list[int]:
        """The pool's processes are the worker's own children."""
        return self.pids[1:]


class CeleryFleet(Fleet):
    """Starts Celery's workers, and producers that use it."""

    def __init__(self, folder: Path, url: str, manner: Manner, seed: int) -> None:
        super().__init__(folder, url, manner.settings, seed)
        self.python = CeleryEnvironment.build("newest").python
        self.hung = 0

    def start_worker(self, *options: str, url: str = "", pool: Sequence[str] = ("-c", "4"), **rest: Any) -> Member:
        name = self._name("worker")
        words = ["-m", "celery", "-A", MODULE, "worker", "-l", "INFO", "-n", f"{name}@chaos", *pool, *options]
        member = self._start(name, words, {application.URL: url or self.url})
        member.program.wait_until(lambda: re.search(r"\bready\.", member.log), f"{name} to be ready", STARTS_IN_S)
        return member

    def start_producer(self, load: Load, *, url: str = "", **settings: Any) -> Member:
        name = self._name("producer")
        path = self.folder / f"{name}.orders"
        drawn = {"per_second": load.per_second, "most_s": load.most_s, "long_share": load.long_share}
        path.write_text(json.dumps({"seed": self._seed * 1000 + len(self.members), "load": drawn}))
        return self._start(name, [str(HERE / f"{MODULE}.py"), "produce", str(path)], {application.URL: url or self.url})

    def end_producers(self, timeout_s: float = 10.0) -> None:
        for one in self.members:
            if one.name.startswith("producer") and one.is_running:
                one.program.signal(signal.SIGTERM)
                try:
                    one.program.wait(timeout_s)
                except ProgramError:
                    self.hung += 1
                    one.program.kill()

    def left(self) -> list[str]:
        """Ids of what the broker still has."""
        done = subprocess.run(
            [self.python, str(HERE / f"{MODULE}.py"), "left"],
            env=self._environment("look", {application.URL: self.url}),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        found: list[str] = json.loads(done.stdout)
        return found

    def _environment(self, name: str, more: dict[str, str]) -> dict[str, str]:
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "CELERY"))},
            "PYTHONPATH": str(HERE),
            "PYTHONUNBUFFERED": "1",
            "C_FORCE_ROOT": "1",
            application.FOLDER: str(self.folder),
            application.NAME: name,
            application.SETTINGS: json.dumps(self.settings),
            **more,
        }

    def _start(self, name: str, words: list[str], environment: dict[str, str]) -> Member:
        program = Program(
            [self.python, *words], log=self.folder / f"{name}.log", environment=self._environment(name, environment)
        )
        member = CeleryMember(name, program, self._clock_file(name))
        self.members.append(member)
        return member


class CeleryStage(Stage):
    """As a Stage, for Celery in one of its manners. It has no ids to publish again under, no leases, and no states
    that we could ask for: what ran is known from the history alone.
    """

    def __init__(
        self, engine: Engine, scenario: Scenario, folder: Path, *, manner: Manner, seed: int, share: float = 1.0
    ) -> None:
        super().__init__(engine, scenario, folder, seed=seed, share=share)
        self.url = self.url.partition("?")[0]
        self.manner = manner
        self.terms = msgspec.structs.replace(self.terms, keeps_doubles=True, stores_results=False)
        (folder / "terms.json").write_bytes(msgspec.json.encode(self.terms))
        self.fleet = CeleryFleet(folder, self.url, manner, seed)

    def drain(self, timeout_s: float = 90.0, *, idle_s: float = 0.0) -> None:
        self.notes.note("phase", what="drain")
        self.fleet.end_producers()
        if not self.fleet.workers:
            self.fleet.start_worker()
        began = time.monotonic()

        def is_over() -> bool:
            self.standing.look()
            if not (self.standing.acknowledged - self.standing.ended or self.standing.running):
                return True
            return time.monotonic() - max(began, self.standing.latest_s) > self.manner.quiet_s

        self.fleet.wait(is_over, "Celery to be done", timeout_s)

    def collect(self, ids: list[str], *, look: int = 1) -> None:
        if look > 1:
            return
        for worker in self.fleet.workers:
            worker.program.kill()  # with AMQP, what they hold goes back and can be seen
        self.standing.look()
        left: set[str] = set()
        with suppress(subprocess.SubprocessError):
            left = set(self.fleet.left())
        self.figure(LEFT, len(left & (self.standing.acknowledged - self.standing.ended)))
        self.figure(HUNG, self.fleet.hung)
        self.notes.note("phase", what="end")


__all__ = ["HUNG", "LEFT", "CeleryFleet", "CeleryStage"]
