"""Schedules in the file: marks move in one transaction with their messages.

What is stored is drawn in `storage/sqlite/schema/0004_schedules.sql`.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.brokers.sqlite.lines import insert_special
from celeriac.brokers.sqlite.publisher import refuse_bad
from celeriac.brokers.sqlite.rows import SQL as MESSAGES
from celeriac.brokers.sqlite.rows import Row, row_of, to_json
from celeriac.clock import boot_id
from celeriac.errors import BrokerError, EnqueueRejectedError, ScheduleChangedError
from celeriac.model import BeatInfo, Mark, ScheduleNews, ScheduleRow, Ticked
from celeriac.storage.sqlite import faults, transaction
from celeriac.storage.sqlite.statements import load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celeriac.model import Outgoing, TaskId, Tick
    from celeriac.model.schedule import Verdict
    from celeriac.storage.sqlite import Database

SQL: Final = load(__package__ or "", "schedules.sql")

_TICKS_AT_ONCE: Final = 500
"""Ticks of one transaction: others get at the lock in between."""
_REMOVED_KEPT_S: Final = 30 * 86_400.0
_NOWHERE: Final = Mark(at=0)
_decode_beat = msgspec.json.Decoder(BeatInfo).decode


class SqliteSchedules:
    """The schedules of one scope in the broker's file. Made by `SqliteBroker.schedules`."""

    def __init__(
        self, database: Database, scope: str, max_body: int, published: Callable[[Sequence[Outgoing]], None]
    ) -> None:
        self._database = database
        self._scope = scope
        self._max_body = max_body
        self._published = published

    @property
    def url(self) -> str:
        return self._database.url

    # -- marks

    def marks(self, entries: Sequence[tuple[str, str]], /) -> Sequence[Mark | None]:
        names = [name for name, _ in entries]
        if not names:
            return []
        found = self._database.run("read the marks of schedules in", lambda link: _marks(link, self._scope, names))
        return [found.get(name) for name in names]

    def tick(self, ticks: Sequence[Tick], /) -> Sequence[Ticked]:
        refuse_bad(_messages_of(ticks), self._max_body)
        answers: list[Ticked] = []
        for start in range(0, len(ticks), _TICKS_AT_ONCE):
            some = ticks[start : start + _TICKS_AT_ONCE]
            try:
                told = self._tick(some)
            except BrokerError as exc:
                cause = exc.__cause__
                if isinstance(cause, sqlite3.Error) and faults.is_refusal(cause):
                    raise EnqueueRejectedError(
                        f"cannot publish what is due to {self._database.path}: {cause} ({cause.sqlite_errorname}); is "
                        f"the disk full? {start} of {len(ticks)} ticks were made, no mark of the others has moved",
                        task_ids=tuple(message.id for message in _messages_of(some)),
                    ) from cause
                raise
            answers += told
            fired = [tick for tick, answer in zip(some, told, strict=True) if answer.verdict == "fired"]
            if fired:
                self._published(_messages_of(fired))  # after the commit: who is woken finds them
        return answers

    def _tick(self, ticks: Sequence[Tick]) -> list[Ticked]:
        database, scope = self._database, self._scope

        def move(link: sqlite3.Connection) -> list[Ticked]:
            return _Round(link, scope, database.clock.time()).run(ticks)

        whole = transaction(move)

        def write(link: sqlite3.Connection) -> list[Ticked]:
            answers = whole(link)
            database.keep_wal_small(link)
            return answers

        return database.run("tick the schedules of", write)

    def forget(self, names: Sequence[tuple[str, str]], /) -> int:
        if not names:
            return 0
        asked = self._scope, to_json([name for name, _ in names])
        return self._database.run(
            "forget marks of schedules in", lambda link: link.execute(SQL["forget"], asked).rowcount
        )

    # -- rows

    def look(self, revision: int = 0, /) -> ScheduleNews:
        def look(link: sqlite3.Connection) -> tuple[int, list[Any]]:
            last = link.execute(SQL["revision"], (self._scope,)).fetchone()
            if last is None or last[0] <= revision:
                return last[0] if last else 0, []
            return last[0], link.execute(SQL["rows_since"], (self._scope, revision)).fetchall()

        last, found = self._database.run("look at the schedules of", look)
        rows = tuple(map(_row_of, found))
        if rows:
            last = max(last, rows[-1].revision)  # a change came in between the two statements
        return ScheduleNews(self._database.clock.time(), last, rows)

    def put(self, row: ScheduleRow, /, *, expected: int) -> ScheduleRow:
        clock, scope = self._database.clock, self._scope

        def put(link: sqlite3.Connection) -> ScheduleRow | ScheduleChangedError:
            found = link.execute(SQL["row"], (scope, row.name)).fetchone()
            old = None if found is None else _row_of(found)
            if (0 if old is None or old.removed else old.revision) != expected:
                return ScheduleChangedError(row.name, old)
            ((revision,),) = link.execute(SQL["next_revision"], (scope,)).fetchall()
            new = msgspec.structs.replace(row, revision=revision, changed_at=clock.time())
            link.execute(SQL["put_row"], (scope, *msgspec.structs.astuple(new)))
            return new

        stored = self._database.run("change a schedule in", transaction(put))
        if isinstance(stored, ScheduleChangedError):
            raise stored
        return stored

    # -- beats

    def hail(self, beat: BeatInfo, /, *, ttl_s: float) -> None:
        clock, scope = self._database.clock, self._scope

        def hail(link: sqlite3.Connection) -> None:
            now = clock.monotonic()
            if ttl_s > 0:
                link.execute(SQL["hail"], (scope, beat.name, msgspec.json.encode(beat), now + ttl_s, boot_id()))
            else:
                link.execute(SQL["leave"], (scope, beat.name))
            link.execute(SQL["drop_gone"], (scope, now, boot_id()))
            link.execute(SQL["drop_removed"], (scope, clock.time() - _REMOVED_KEPT_S))

        self._database.run("hail in", transaction(hail))

    def beats(self) -> Sequence[BeatInfo]:
        asked = self._scope, self._database.clock.monotonic(), boot_id()
        found = self._database.run("read the beats of", lambda link: link.execute(SQL["beats"], asked).fetchall())
        return [_decode_beat(info) for (info,) in found]

    def close(self) -> None:
        self._database.close()


class _Round:
    """Some ticks in one transaction. Marks are read once at the start, kept here, and written once at the end."""

    def __init__(self, link: sqlite3.Connection, scope: str, now: float) -> None:
        self._link = link
        self._scope = scope
        self._now = now
        self._rows: list[Row] = []
        """Messages without a limit or a unique key, which nobody has asked about yet."""

    def run(self, ticks: Sequence[Tick]) -> list[Ticked]:
        marks = _marks(self._link, self._scope, [tick.name for tick in ticks])
        moved: dict[str, Mark] = {}
        answers = []
        for tick in ticks:
            old = marks.get(tick.name)
            if (0 if old is None else old.at) != tick.after:
                answers.append(Ticked("lost", old))
                continue
            mark = old or _NOWHERE
            verdict: Verdict = "passed"
            task_id, fired_at, note = mark.task_id, mark.fired_at, tick.note
            message = tick.message
            if message is not None:
                if not (tick.unless_live and task_id and self._is_live(task_id)) and self._publish(message):
                    verdict, task_id, fired_at, note = "fired", message.id, self._now, ""
                else:
                    verdict = note = "overlap"
            moved[tick.name] = marks[tick.name] = mark = Mark(
                at=tick.at,
                fingerprint=tick.fingerprint,
                task_id=task_id,
                fired_at=fired_at,
                runs=mark.runs + (verdict == "fired"),
                skipped=mark.skipped + tick.skipped + (verdict == "overlap"),
                note=note,
            )
            answers.append(Ticked(verdict, mark))
        self._flush()
        if moved:
            scope = self._scope
            self._link.executemany(
                SQL["set_mark"], [(scope, name, *msgspec.structs.astuple(mark)) for name, mark in moved.items()]
            )
        return answers

    def _is_live(self, task_id: TaskId) -> bool:
        self._flush()
        return bool(self._link.execute(SQL["is_live"], (task_id,)).fetchone()[0])

    def _publish(self, message: Outgoing) -> bool:
        """Take a message in; False: another one holds its unique key."""
        row = row_of(message, self._now)
        if message.limit is None and message.unique is None:
            self._rows.append(row)
            return True
        self._flush()
        dropped: dict[TaskId, TaskId] = {}
        if insert_special(self._link, ((message, row),), self._now, dropped=dropped):
            return True
        self._link.execute(MESSAGES["store_revoked"], (row[0], self._now))
        return not dropped

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        if rows and self._link.executemany(MESSAGES["insert"], rows).rowcount < len(rows):
            dropped = [(row[0], self._now) for row in rows]  # they may have been cancelled
            self._link.executemany(MESSAGES["store_revoked"], dropped)


def _messages_of(ticks: Sequence[Tick]) -> list[Outgoing]:
    return [tick.message for tick in ticks if tick.message is not None]


def _marks(link: sqlite3.Connection, scope: str, names: Sequence[str]) -> dict[str, Mark]:
    return {
        name: Mark(
            at=at, fingerprint=fingerprint, task_id=task_id, fired_at=fired_at, runs=runs, skipped=skipped, note=note
        )
        for name, at, fingerprint, task_id, fired_at, runs, skipped, note in link.execute(
            SQL["marks"], (scope, to_json(names))
        )
    }


def _row_of(found: Sequence[Any]) -> ScheduleRow:
    name, spec, paused, since, removed, change, changed_by, changed_at, revision = found
    return ScheduleRow(
        name=name,
        spec=spec,
        paused=bool(paused),
        since=since,
        removed=bool(removed),
        change=change,
        changed_by=changed_by,
        changed_at=changed_at,
        revision=revision,
    )
