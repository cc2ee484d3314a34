"""Beats as real processes on one store, and what arrives in its queues, against all that should."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from beaten_app import ORDERS, make_app

from celeriac.app.beats import BeatHost, CodeSource, code_entries
from celeriac.clock import SYSTEM_CLOCK
from celeriac.model import Tick
from celeriac.scheduler.entry import instant_of
from servers import Program, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celeriac.model import Instant, Mark

HERE = Path(__file__).parent
SECOND = 1_000_000
MINUTE = 60 * SECOND
PATIENCE_S = 30.0


def pause(seconds: float) -> None:
    """Let a fault last; not a wait for something to happen."""
    SYSTEM_CLOCK.pause(seconds)


class Arrival(NamedTuple):
    """One message that was handed out."""

    id: str
    deliveries: int
    name: str
    at: Instant
    came: Instant
    """By the drain's wall clock."""


class Crew:
    """Beats, a drain, and an application beside them.

    Args:
        folder: For logs and the ledger.
        url: Of the broker.
        schedule: As `beat_schedule`, of plain data; every schedule is `{"every": seconds}` or `"* * * * *"`.
        environment: Of all programs, added to this process's.
        settings: Of the application.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        schedule: dict[str, Any],
        *,
        environment: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.url = url
        self.schedule = schedule
        self.environment = dict(environment or {})
        self.ledger = folder / "ledger"
        self.settings = {"task_publish_timeout": 2.0, **settings}
        self.app = make_app(url, schedule, **self.settings)
        self.beats: list[Program] = []
        self.programs: list[Program] = []
        self.origins: dict[str, Instant] = {}
        self._entries = code_entries(self.app)
        host = BeatHost(self.app, CodeSource(self.app))
        self.queues = {name: host.queue_of(entry) for name, entry in self._entries.items()}

    # -- who works ------------------------------------------------------------------------------------------------

    def begin(self, *, drains: bool = True, **earlier_s: float) -> None:
        """Have entries begin now, or so many seconds earlier, by the store's clock; start the drain, or a worker."""
        now = round(self.app.schedule_store.look().now * SECOND)
        for name, entry in self._entries.items():
            self.origins[name] = at = now - round(earlier_s.get(name, 0.0) * SECOND)
            (answer,) = self.app.schedule_store.tick(
                [Tick(name=name, queue=self.queues[name], after=0, at=at, fingerprint=entry.fingerprint, note="new")]
            )
            assert answer.verdict == "passed"
        if not drains:
            self._work()
            return
        queues = sorted(set(self.queues.values()))
        self._run(
            "drain", ["drain", self.ledger, *queues], {"url": self.url, "schedule": {}, **self.settings}, "draining"
        )

    def start(
        self,
        *,
        trap: dict[str, Any] | None = None,
        url: str | None = None,
        environment: Mapping[str, str] | None = None,
        ready: bool = True,
    ) -> Program:
        """Start a beat."""
        told = {"url": url or self.url, "schedule": self.schedule, "trap": trap, **self.settings}
        beat = self._run(f"beat{len(self.beats)}", ["beat"], told, "beating" if ready else "", environment)
        self.beats.append(beat)
        return beat

    def _work(self) -> None:
        told = {"url": self.url, "schedule": {}, "ledger": str(self.ledger), **self.settings}
        words = [sys.executable, "-m", "celeriac", "-A", "beaten_app", "worker", "-n", "w@test", "-c", "4"]
        environment = {**os.environ, "PYTHONPATH": str(HERE), ORDERS: json.dumps(told)}
        worker = Program(words, log=self.folder / "worker.log", environment=environment)
        self.programs.append(worker)
        worker.wait_until(lambda: re.search(r"\bready\b", worker.log), "the worker to be ready")

    def change(self, gate: Path, name: str, key: str, times: int) -> Program:
        """Start one who changes an entry."""
        told = {"url": self.url, "schedule": self.schedule, **self.settings}
        return self._run(f"change-{key}", ["change", gate, name, key, times], told, "at the gate")

    def work(self) -> list[tuple[str, str, Instant, float]]:
        """What the worker's tasks have written: what happened, the id, the nominal instant, the monotonic time."""
        if not self.ledger.exists():
            return []
        whole, _, _ = self.ledger.read_text().rpartition("\n")
        lines = (line.split("\t") for line in whole.splitlines())
        return [(what, task_id, instant_of(at), float(when)) for what, task_id, at, when in lines]

    def _run(
        self,
        name: str,
        words: list[Any],
        told: dict[str, Any],
        ready: str,
        environment: Mapping[str, str] | None = None,
    ) -> Program:
        program = Program(
            [sys.executable, HERE / "beaten_app.py", *map(str, words)],
            log=self.folder / f"{name}.log",
            environment={**os.environ, **self.environment, **(environment or {}), ORDERS: json.dumps(told)},
        )
        self.programs.append(program)
        program.wait_for_log(ready)
        return program

    # -- what came ------------------------------------------------------------------------------------------------

    def arrivals(self) -> list[Arrival]:
        if not self.ledger.exists():
            return []
        whole, _, _ = self.ledger.read_text().rpartition("\n")
        lines = (line.split("\t") for line in whole.splitlines())
        return [
            Arrival(task_id, int(times), name, instant_of(at), round(float(came) * SECOND))
            for task_id, times, name, at, came in lines
        ]

    def wait_arrivals(self, more: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait until so many messages have come from now on."""
        before = len(self.arrivals())
        self.wait(lambda: len(self.arrivals()) >= before + more, f"{more} more messages", timeout_s)

    def wait_arrival(self, name: str, after: Instant, timeout_s: float = PATIENCE_S) -> None:
        """Wait until an instant of an entry later than this one has come."""
        self.wait(
            lambda: any(each.name == name and each.at > after for each in self.arrivals()),
            f"an instant of {name!r} after {after}",
            timeout_s,
        )

    def wait(self, condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> None:
        try:
            wait_until(condition, what, timeout_s, every_s=0.03)
        except TimeoutError as exc:
            raise AssertionError(f"{exc}\n{self.logs()}") from None

    def latest(self, name: str) -> Instant:
        return max((each.at for each in self.arrivals() if each.name == name), default=self.origins[name])

    @property
    def leader(self) -> Program:
        """The beat that sent the last message."""
        return max((beat for beat in self.beats if beat.is_running), key=lambda beat: _sent(beat)[-1:])

    def stop(self) -> None:
        """End the beats, and wait until all that was sent has come."""
        for beat in self.beats:
            beat.close()

        def is_empty() -> bool:
            depths = self.app.broker.depth().values()
            return not any(depth.ready + depth.delayed + depth.held for depth in depths)

        self.wait(is_empty, "empty queues")

    def marks(self) -> dict[str, Mark]:
        found = self.app.schedule_store.marks([(name, self.queues[name]) for name in self._entries])
        return {name: mark for name, mark in zip(self._entries, found, strict=True) if mark is not None}

    def instants(self) -> dict[str, list[Instant]]:
        """Of all messages by entry, in order; asserts that none was published twice."""
        arrivals = self.arrivals()
        firsts = Counter((each.name, each.at) for each in arrivals if each.deliveries == 1)
        doubled = {instant: count for instant, count in firsts.items() if count > 1}
        assert not doubled, f"sent more than once: {doubled}\n{self.logs()}"
        found: dict[str, set[Instant]] = defaultdict(set)
        ids = set()
        for each in arrivals:
            found[each.name].add(each.at)
            ids.add(each.id)
        marks = self.marks()
        runs = {name: mark.runs for name, mark in marks.items() if mark.runs}
        counts = {name: len(some) for name, some in found.items()}
        assert counts == runs, f"what came, and what the marks say was published, differ\n{self.logs()}"
        assert len(ids) == sum(counts.values()), "one id for each instant"
        return {name: sorted(found[name]) for name in self._entries}

    def check(self) -> dict[str, int]:
        """End it all: each instant between the first and the last mark has come, and came once.

        Returns:
            How many instants each entry had.
        """
        counts = {}
        for name, (there, missing) in self.account().items():
            assert not missing, f"{name!r}: {len(missing)} are missing: {missing[:5]}\n{self.logs()}"
            counts[name] = len(there)
        return counts

    def account(self) -> dict[str, tuple[list[Instant], list[Instant]]]:
        """End it all; of each entry's instants up to its last mark, those that came, and those that did not.

        None came twice, none came that nobody asked for, and the marks say how many did not.
        """
        self.stop()
        found, told = self.instants(), {}
        for name, mark in self.marks().items():
            expected = lattice(self.schedule[name]["schedule"], self.origins[name], mark.at)
            missing = sorted(set(expected) - set(found[name]))
            assert set(found[name]) <= set(expected), f"{name!r}: instants that nobody asked for\n{self.logs()}"
            assert mark.skipped == len(missing), f"{name!r}: {missing}, but {mark}\n{self.logs()}"
            told[name] = found[name], missing
        return told

    def largest_gap_s(self, name: str) -> float:
        """How late the latest message of an entry was, as the beats have it."""
        return max((late for beat in self.beats for _, late in _sent(beat, name)), default=0.0)

    def logs(self) -> str:
        return "\n".join(f"--- {each.name}\n{each.log[-3000:]}" for each in self.programs)

    def close(self) -> None:
        for program in self.programs:
            program.kill()
        self.app.close()


def _sent(beat: Program, name: str = "") -> list[tuple[float, float]]:
    """Of each message that a beat has sent, of one entry or of all: when, and how late."""
    which = re.escape(name) or ".*"
    found = re.findall(rf"^([\d.]+) beat: sent .* entry '{which}', (-?[\d.]+) s late$", beat.log, re.MULTILINE)
    return [(float(when), float(late)) for when, late in found]


def lattice(schedule: Any, origin: Instant, last: Instant) -> list[Instant]:
    """The instants after `origin` up to and with `last`, by arithmetic of its own."""
    if schedule == "* * * * *":
        return list(range((origin // MINUTE + 1) * MINUTE, last + 1, MINUTE))
    step = round(schedule["every"] * SECOND)
    return list(range(origin + step, last + 1, step))


def instant(text: str) -> Instant:
    return instant_of(datetime.fromisoformat(text))


def state_of(pid: int) -> str:
    """`T` when it is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
