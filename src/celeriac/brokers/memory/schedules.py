"""Schedules in a space: marks, rows, and who keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from celeriac.errors import ScheduleChangedError
from celeriac.model import BeatInfo, Mark, ScheduleNews, ScheduleRow, Tick, Ticked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celeriac.brokers.memory.queues import Queues
    from celeriac.clock import Clock
    from celeriac.model import Outgoing
    from celeriac.storage.memory import MemorySpace

REMOVED_KEPT_S = 30 * 86_400.0


class Timetable:
    """What is stored of one scope; the space's lock guards it."""

    def __init__(self) -> None:
        self.marks: dict[str, Mark] = {}
        self.rows: dict[str, ScheduleRow] = {}
        self.revision = 0
        self.beats: dict[str, tuple[BeatInfo, float]] = {}
        """Each with the time, on the monotonic clock, until when it counts as being there."""


class Timetables:
    """Those of a space, by scope."""

    def __init__(self) -> None:
        self.all: dict[str, Timetable] = {}


class MemorySchedules:
    """The schedules of one scope in this process's memory. Made by `MemoryBroker.schedules`."""

    def __init__(
        self,
        url: str,
        space: MemorySpace,
        queues: Queues,
        scope: str,
        clock: Clock,
        published: Callable[[int], None],
        check: Callable[[Sequence[Outgoing]], None],
    ) -> None:
        self._url = url
        self._space = space
        self._queues = queues
        self._clock = clock
        self._published = published
        self._check = check
        tables = space.part(Timetables)
        with space.lock:
            self._table = tables.all.setdefault(scope, Timetable())

    @property
    def url(self) -> str:
        return self._url

    def look(self, revision: int = 0, /) -> ScheduleNews:
        table = self._table
        with self._space.lock:
            if table.revision <= revision:
                return ScheduleNews(self._clock.time(), table.revision, ())
            rows = sorted((row for row in table.rows.values() if row.revision > revision), key=lambda row: row.revision)
            return ScheduleNews(self._clock.time(), table.revision, tuple(rows))

    def marks(self, entries: Sequence[tuple[str, str]], /) -> Sequence[Mark | None]:
        with self._space.lock:
            return [self._table.marks.get(name) for name, _ in entries]

    def tick(self, ticks: Sequence[Tick], /) -> Sequence[Ticked]:
        self._check([tick.message for tick in ticks if tick.message is not None])
        with self._space.lock:
            answers = [self._tick(tick) for tick in ticks]
        self._published(sum(answer.verdict == "fired" for answer in answers))
        return answers

    def _tick(self, tick: Tick) -> Ticked:
        marks, now = self._table.marks, self._clock.time()
        old = marks.get(tick.name)
        if (0 if old is None else old.at) != tick.after:
            return Ticked("lost", old)
        message, verdict = tick.message, "passed"
        mark = old or Mark(at=0)
        if message is not None:
            verdict = "overlap" if tick.unless_live and mark.task_id in self._queues.entries else "fired"
            dropped: dict[str, str] = {}
            if verdict == "fired":
                self._queues.publish((message,), now, self._space.results, dropped)
                verdict = "overlap" if dropped else "fired"
        fired = verdict == "fired"
        mark = marks[tick.name] = msgspec.structs.replace(
            mark,
            at=tick.at,
            fingerprint=tick.fingerprint,
            task_id=message.id if message is not None and fired else mark.task_id,
            fired_at=now if fired else mark.fired_at,
            runs=mark.runs + fired,
            skipped=mark.skipped + tick.skipped + (verdict == "overlap"),
            note="overlap" if verdict == "overlap" else "" if fired else tick.note,
        )
        return Ticked(verdict, mark)  # type: ignore[arg-type]

    def put(self, row: ScheduleRow, /, *, expected: int) -> ScheduleRow:
        table = self._table
        with self._space.lock:
            old = table.rows.get(row.name)
            there = old.revision if old is not None and not old.removed else 0
            if there != expected:
                raise ScheduleChangedError(row.name, old)
            table.revision += 1
            stored = msgspec.structs.replace(row, revision=table.revision, changed_at=self._clock.time())
            table.rows[row.name] = stored
            return stored

    def forget(self, names: Sequence[tuple[str, str]], /) -> int:
        with self._space.lock:
            return sum(self._table.marks.pop(name, None) is not None for name, _ in names)

    def hail(self, beat: BeatInfo, /, *, ttl_s: float) -> None:
        table, old = self._table, self._clock.time() - REMOVED_KEPT_S
        with self._space.lock:
            table.beats.pop(beat.name, None)
            if ttl_s > 0:
                table.beats[beat.name] = beat, self._clock.monotonic() + ttl_s
            for name in [name for name, row in table.rows.items() if row.removed and row.changed_at < old]:
                del table.rows[name]

    def beats(self) -> Sequence[BeatInfo]:
        now = self._clock.monotonic()
        with self._space.lock:
            return [beat for name, (beat, until) in sorted(self._table.beats.items()) if until > now]

    def close(self) -> None:
        """There is no connection."""
