"""One engine, a fleet and a nemesis for one run of a scenario, and what is collected when it is over."""

from __future__ import annotations

import random
import re
import threading
import time
from contextlib import ExitStack, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import CeleriacError
from celeriac.model import new_task_id
from celeriac.model.states import is_final
from chaos.application import make_app
from chaos.fleet import Fleet
from chaos.history import Recorder
from chaos.nemesis import Nemesis
from chaos.processes import holdings, is_gone
from chaos.producer import ENOUGH, make_producer
from chaos.tail import Standing
from chaos.verdict import Terms

if TYPE_CHECKING:
    from pathlib import Path

    from celeriac import Celeriac
    from chaos.engines import Engine
    from chaos.history import Event
    from chaos.producer import Producer
    from chaos.scenario import Scenario

SETTINGS: dict[str, Any] = {
    "worker_lease": 2.0,
    "worker_reap_every": 0.5,
    "task_publish_timeout": 5.0,
    "worker_grace": 5.0,
    "result_expires": 3600,
}
"""Of the campaign: everything happens faster than by default."""
SETTLES_S = 0.3
"""What ran has been acknowledged so long after it ended."""
TROUBLE = re.compile(
    "the claim loop failed|a part of the supervisor failed|the supervisor failed|the broker refuses the outcome"
    "|was never retrieved|was never awaited|Exception ignored in|receiver .* raised"
)
"""Lines of a log that are a fault of ours, whatever was done to the worker."""
MOST_WAITING = 1000
"""So many tasks may wait before producers do: a campaign is about faults, and a deep queue hides how long they last."""
GIVES_UP_S = 10.0
"""Nothing began or ended for so long: what is not final will never be."""


class Stage:
    """A context manager; `history` lies in `folder`.

    Args:
        engine: Started.
        scenario: Whose settings hold.
        folder: Empty; for history, logs and files of the engine.
        seed: Of all that is drawn.
        share: Of the repetitions of the ten-minute profile; 0.15 for a short one, 12 for a long one.
    """

    def __init__(self, engine: Engine, scenario: Scenario, folder: Path, *, seed: int, share: float = 1.0) -> None:
        self.engine = engine
        self.scenario = scenario
        self.folder = folder
        self.cleanup = ExitStack()
        """Of what a scenario has made; when all processes have ended."""
        self.share = share
        self.luck = random.Random(f"{seed} {scenario.key} {engine.name}")
        self.url = engine.fresh(folder)
        self.settings = {**SETTINGS, **engine.settings(folder), **scenario.settings}
        self.terms = Terms(
            **{
                "scenario": scenario.key,
                "title": scenario.title,
                "engine": engine.name,
                "seed": seed,
                "lease_s": self.settings["worker_lease"],
                "reap_s": self.settings["worker_reap_every"],
                "timeout_s": self.settings["task_publish_timeout"],
                "connection_lease": engine.connection_lease,
                "keeps_doubles": engine.keeps_doubles,
                **scenario.terms,
            }
        )
        (folder / "terms.json").write_bytes(msgspec.json.encode(self.terms))
        self.notes = Recorder(folder, "campaign")
        self.nemesis = Nemesis(Recorder(folder, "nemesis"), self.luck, folder)
        wire = "celery" if engine.name == "redis-celery" else ""
        self.fleet = Fleet(folder, self.url, self.settings, seed, wire=wire)
        self.standing = Standing(folder)
        self._final: set[str] = set()
        self._sampling = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="samples", daemon=True)

    # -- for scenarios -------------------------------------------------------------------------------------------

    def times(self, least: int = 1) -> range:
        """The faults to make: the scenario's repetitions on this engine, by the profile's share."""
        return range(max(least, round(self.scenario.repetitions[self.engine.name] * self.share)))

    @cached_property
    def app(self) -> Celeriac:
        """An application of this process, past every proxy."""
        return make_app(self.url, self.notes, **self.settings)

    @cached_property
    def producer(self) -> Producer:
        """Publishes from this process."""
        return make_producer(self.app, self.notes, url=self.url, wire=self.fleet.wire)

    def pause(self, least_s: float, most_s: float | None = None) -> None:
        """Let the load run, or a fault last, for a seeded time."""
        SYSTEM_CLOCK.pause(least_s if most_s is None else self.luck.uniform(least_s, most_s))

    def figure(self, name: str, value: float) -> None:
        """Note a figure of the scenario's own for the report."""
        self.notes.note("figure", what=name, at=value)

    def burst(self, count: int, seconds: float, task: str = "work") -> None:
        """Publish so many of one length at once, so that every worker has its hands full for a while."""
        self.producer.send_all([(new_task_id(), task, (seconds,)) for _ in range(count)])

    def wait_own(self, number: str, timeout_s: float = 20.0) -> Event:
        """Wait for a fault that a process notes itself (`Nemesis.reserve`), and until those that it ends are gone.

        Returns:
            What it noted. That it is over is noted, too, unless the process lives and has done so.
        """

        def begun() -> Event | None:
            self.standing.look()
            return self.standing.faults.get(number)

        event: Event = self.fleet.wait(begun, f"fault {number} to come", timeout_s)
        pids = (event.value or {}).get("pids", ())

        def ended() -> bool:
            self.standing.look()
            return number in self.standing.over or (bool(pids) and all(map(is_gone, pids)))

        self.fleet.wait(ended, f"fault {number} of {pids} to be over", timeout_s)
        if number not in self.standing.over:
            self.nemesis.note_over(event)
        return event

    def wait_back(self, number: str, *, where: str = "", timeout_s: float = 30.0) -> float:
        """Wait until somebody consumes again after a fault, and note how long that took. There must be a load.

        Args:
            number: Of the fault.
            where: Only in a process `name:pid`, or in those of a name.
            timeout_s: Then it is an error.
        """

        def started() -> float | None:
            self.standing.look()
            over = self.standing.over.get(number)
            return None if over is None else self.standing.first_start(over, where)

        first = self.fleet.wait(started, f"a task to start after fault {number}", timeout_s)
        took_s: float = first - self.standing.over[number]
        self.notes.note("back", id=number, at=round(took_s, 4))
        return took_s

    def drain(self, timeout_s: float = 60.0, *, idle_s: float = 0.0) -> None:
        """End the producers and wait until the queues are empty, on every engine by what it can show."""
        self.notes.note("phase", what="drain")
        self.fleet.end_producers()
        if not self.fleet.workers:
            self.fleet.start_worker()

        try:
            self.fleet.wait(self._is_over, f"everything to be over on {self.engine.name}", timeout_s)
        except TimeoutError as exc:
            left = {queue: depth for queue, depth in self.app.broker.depth().items() if depth.ready or depth.held}
            raise TimeoutError(f"{left or 'what is delayed'} is left: {exc}") from None
        self.pause(idle_s)

    def _is_over(self) -> bool:
        """Nothing waits, nothing is held, and what was acknowledged is final."""
        self.standing.look()
        quiet_s = time.monotonic() - self.standing.latest_s
        with suppress(CeleriacError):
            if any(one.ready + one.delayed + one.held for one in self.app.broker.depth().values()):
                return False
            # A broker whose connection is the lease shows nobody what it has handed out
            return not self.terms.connection_lease or (quiet_s > SETTLES_S and not self._open(quiet_s))
        return False

    def _open(self, quiet_s: float) -> set[str]:
        """Acknowledged ids that are not final, as far as somebody may still work on them."""
        self._final &= self.standing.acknowledged
        left = self.standing.acknowledged - self._final
        if not self.terms.stores_results or self.app.results is None:
            self._final |= left & (self.standing.ended - self.standing.running.keys())
        else:
            ids = sorted(left)
            for first in range(0, len(ids), 500):
                found = self.app.results.get(ids[first : first + 500])
                self._final |= {task_id for task_id, stored in found.items() if is_final(stored.state)}
        left -= self._final
        if left and quiet_s > 1.0:
            left -= {letter.id for letter in self.app.broker.dead_letters(limit=100_000)}
        return left if quiet_s < GIVES_UP_S else set()  # the checker says that they are lost

    # -- what the runner does ------------------------------------------------------------------------------------

    def __enter__(self) -> Stage:
        self.notes.note("phase", what="begin")
        self._sampler.start()
        return self

    def finish(self, timeout_s: float = 60.0) -> None:
        """Drain, collect, end the workers in good order, and look again: what was final is still the same."""
        self.drain(timeout_s)
        ids = sorted(self.standing.acknowledged | self.standing.ended)
        self.collect(ids)
        for line in self.fleet.end_workers():
            self.notes.note("log", id=line.partition(" ")[0], what=line)
        self.collect(ids, look=2)
        self.notes.note("phase", what="end")

    def note_logs(self) -> None:
        """Note what workers logged that none must, whatever happens to it."""
        for line in self.fleet.broken():
            self.notes.note("log", id=line.partition(" ")[0], what=line)
        for member in self.fleet.members:
            lines = member.log.splitlines()
            for number, line in enumerate(lines):
                if TROUBLE.search(line):
                    around = "\n".join(lines[max(0, number - 3) : number + 25])
                    self.notes.note("log", id=member.name, what=line[:300], value=around[:4000])

    def _sample(self) -> None:
        recorder = Recorder(self.folder, "samples")
        standing, enough = Standing(self.folder), self.folder / ENOUGH
        while not self._sampling.wait(1.0):
            for member in list(self.fleet.members):
                for pid in member.pids if member.is_running and member.is_ready else ():
                    if held := holdings(pid):
                        recorder.note("sample", id=f"{member.name}:{pid}", value=held)
            standing.look()
            if len(standing.acknowledged - standing.ended) > MOST_WAITING:
                enough.touch()
            else:
                enough.unlink(missing_ok=True)
        recorder.close()

    def collect(self, ids: list[str], *, look: int = 1) -> None:
        """Note what is stored at the end: results, dead letters, depths.

        Args:
            ids: Whose results are wanted.
            look: The number of this look; what was final at an earlier one must be the same at a later one. What
                lies in queues is noted at the last one.
        """
        app = self.app
        if app.results is not None:
            for first in range(0, len(ids), 500):
                found = app.results.get(ids[first : first + 500])
                for task_id, stored in found.items():
                    value = msgspec.json.decode(stored.payload).get("result")
                    token = value if isinstance(value, str) else ""
                    self.notes.note("result", "ok", id=task_id, what=stored.state, token=token, n=look)
        if look < 2:
            return
        for letter in app.broker.dead_letters(limit=100_000):
            self.notes.note("dead", "ok", id=letter.id, what=letter.reason)
        for queue, depth in app.broker.depth().items():
            self.notes.note("depth", "ok", what=queue, value=msgspec.to_builtins(depth))

    def __exit__(self, *exc_info: object) -> None:
        self._sampling.set()
        self._sampler.join()
        self.fleet.close()
        if "app" in self.__dict__:
            self.app.close()
        self.cleanup.close()
