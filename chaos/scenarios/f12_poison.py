"""F12: poison of every kind, and thousands of broken messages, among good tasks; nobody is hurt by any of them.

One message of twenty is poison. Broken ones come as fast as they can be written, through a queue of their own: what
becomes of one nobody can say beforehand, but that it ends, and that there is a reason where it is buried.
"""

from __future__ import annotations

import re
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from celeriac.codec import Codec
from celeriac.codec.amqp import AmqpForm
from celeriac.codec.kombu import KombuForm
from celeriac.errors import CeleriacError
from celeriac.model import new_task_id
from chaos.hostile.messages import WRITERS
from chaos.hostile.mutations import Mutator
from chaos.hostile.poison import poisons
from chaos.hostile.raw import FORMS, place
from chaos.producer import Load
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from chaos.fleet import Member
    from chaos.stage import Stage

HOSTILE: Final = "hostile"
"""The queue of broken messages."""
GROWTH_KIB: Final = 96 * 1024
"""A body may take 36 MiB while it is decoded, and a header block as much (`Limits.growth`), and the allocator keeps it.
It is the same however long this runs."""
BROKEN: Final = 4000
"""Of a whole run."""
PER_SECOND: Final = 8.0
"""Poison, beside 150 tasks."""
_OURS: Final = ("work", "awork")


def run(stage: Stage) -> None:
    fleet = stage.fleet
    workers = fleet.start_workers(2, "-Q", f"celery,{HOSTILE}", app="chaos.hostile.application")
    stage.burst(20, 0.01)
    fleet.wait(lambda: stage.standing.look() and len(stage.standing.ended) >= 20, "the first tasks")
    before = {pid: _kib(pid, "VmRSS") for member in workers for pid in member.pids}
    fleet.start_producer(Load(per_second=150, long_share=0.01))
    with closing(_Poisoner(stage)) as poisoner:
        poisoner.run(stage.times())
        grown = max(_kib(pid, "VmHWM") - kib for pid, kib in before.items() if _is_there(pid))
        _wait_for_end(stage, workers)
        stage.figure("broken", poisoner.broken)
        stage.figure("growth_mib", round(grown / 1024, 1))
        dropped = _bury_for_good(stage, poisoner)
        stage.figure("broken_dead", dropped)
    gone = [pid for pid in before if not _is_there(pid)]
    assert not gone, f"of {sorted(before)} these processes have ended: {gone}"
    assert grown < GROWTH_KIB, f"a worker's process grew by {grown / 1024:.0f} MiB"


class _Poisoner:
    """Publishes what no producer of ours would."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._form = FORMS[stage.engine.name]
        self._place = place(stage.engine.name, stage.url)
        codec = Codec()
        self._reads: dict[str, Any] = {"kombu": KombuForm(codec), "amqp": AmqpForm(codec)}
        self._mutator = Mutator(f"{stage.terms.seed} {stage.engine.name}")
        self._kinds: dict[str, list[Any]] = {}
        self.ids: set[str] = set()
        self.unnamed = 0
        """Poison whose id nobody knows: of an id that is none comes a digest, and RabbitMQ writes tables anew."""
        self.broken = 0

    def run(self, times: range) -> None:
        """Poison at its pace, one of each form at least, and broken messages between."""
        luck = self._stage.luck
        todo = list(poisons())
        luck.shuffle(todo)
        todo += [luck.choice([one for one in poisons() if not one.large]) for _ in range(len(times) - len(todo))]
        for number, poison in enumerate(todo):
            next_at = time.monotonic() + 1.0 / PER_SECOND
            self._poison(poison)
            wanted = BROKEN * self._stage.share * (number + 1) / len(todo)
            while self.broken < wanted and time.monotonic() < next_at + 0.5:  # a busy machine breaks fewer
                self._break()
            self._stage.pause(max(0.0, next_at - time.monotonic()))

    def _poison(self, poison: Any) -> None:
        """Whoever reads its history is told under which id it will be buried."""
        task_id = new_task_id()
        raw = WRITERS[self._form](poison.under(task_id))
        row = task_id
        if self._form != "native":
            task_id = self._reads[self._form].decode(*raw.parts, "celery").id
            if task_id in self.ids:
                return
        if self._form == "amqp" and poison.kind == "id":
            self.unnamed += self._place.put(row, "celery", raw.parts)
            return
        note = self._stage.notes.note
        what = f"poison.{poison.kind}"
        note("enqueue", "invoke", id=task_id, what=what, value={"name": poison.name})
        if self._place.put(row, "celery", raw.parts):
            self.ids.add(task_id)
            note("enqueue", "ok", id=task_id)
        else:
            note("enqueue", "fail", id=task_id, what="refused by the server")

    def _break(self) -> None:
        self.broken += self._place.put(new_task_id(), HOSTILE, self._mutator.draw(self._form).parts)

    def close(self) -> None:
        self._place.close()


def _wait_for_end(stage: Stage, workers: list[Member]) -> None:
    """Until nothing broken, nor what came of it, waits or runs any more."""

    def is_over() -> bool:
        with suppress(CeleriacError):
            depths = stage.app.broker.depth([HOSTILE])
            return not any(one.ready + one.held for one in depths.values())
        return False

    stage.fleet.wait(is_over, "the broken messages to be over", 60.0)
    stage.app.broker.purge([HOSTILE])  # some are broken in such a way that they are due in years
    stage.drain()
    assert all(member.is_running for member in workers)


def _bury_for_good(stage: Stage, poisoner: _Poisoner) -> int:
    """Drop the dead letters of broken messages, each of which has its reason; what is left is for the checker."""
    broker = stage.app.broker
    letters: list[Any] = []

    def are_all_there() -> bool:
        """RabbitMQ shows dead letters by taking them out, and back in by and by: a look at once may find few."""
        found = [one for queue in ("celery", HOSTILE) for one in broker.dead_letters(queue, limit=100_000)]
        rest = [one for one in found if one.id not in poisoner.ids]
        letters[:] = [one for one in rest if one.task not in _OURS or "cannot be read" in one.reason]
        unnamed = sum(one.queue == "celery" and "cannot be read" in one.reason for one in letters)
        return {one.id for one in found} >= poisoner.ids and unnamed >= poisoner.unnamed

    for _ in range(20):
        if are_all_there():
            break
        stage.pause(2.0)
    else:
        raise TimeoutError(f"of {len(poisoner.ids)} + {poisoner.unnamed} dead letters of poison not all are there")
    silent = [one for one in letters if not one.reason.strip()]
    assert not silent, f"{len(silent)} are buried without a reason, as {silent[0]!r:.500}"
    ids = sorted({one.id for one in letters})
    for first in range(0, len(ids), 500):
        broker.drop_dead(ids[first : first + 500])
    return len(letters)


def _kib(pid: int, name: str) -> int:
    try:
        found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _is_there(pid: int) -> bool:
    return _kib(pid, "VmRSS") > 0


SCENARIO = Scenario(
    key="F12",
    title="poison and broken messages among good tasks",
    run=run,
    repetitions={"sqlite": 240, "redis": 240, "redis-celery": 120, "rabbitmq": 120},
    seconds={"sqlite": 40, "redis": 40, "redis-celery": 30, "rabbitmq": 30},
    settings={"task_unknown_wait": 0},  # F19 is about unknown tasks that wait; here they are poison
    terms={
        "expected_dead": True,
        "skip": ("M1",),  # one message of 10 MB takes more than a queue full of small ones may; X1's 64 MiB hold, above
    },
)
