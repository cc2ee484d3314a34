"""The schedule of an application, to look at and to change while beats run: `app.schedules`."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec

from celeriac.app.beats import make_entry
from celeriac.app.options import entry_parts
from celeriac.errors import NotSupportedError, ScheduleError
from celeriac.model import ScheduleRow
from celeriac.scheduler.asked import Asked
from celeriac.scheduler.entry import POLICIES, Entry, instant_of, iso_of, spec_of, zone_name
from celeriac.scheduler.plan import MOVED, upcoming
from celeriac.scheduler.schedule import SECOND
from celeriac.scheduler.walltime import moment_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from celeriac.app.application import Celeriac
    from celeriac.app.result import AsyncResult
    from celeriac.app.task import Task
    from celeriac.model import BeatInfo, Instant, Mark

T = TypeVar("T")

State = Literal["active", "paused", "disabled", "finished", "faulty"]

_TIMING: Final = frozenset({"schedule", "relative", "timezone", "start", "end", "enabled"})
"""What decides when an entry is due: where it changes, nothing is due before the change."""


class Scheduled(msgspec.Struct, frozen=True, kw_only=True):
    """An entry and where it stands."""

    name: str
    origin: Literal["code", "store"]
    """Whether it is in the code, or was added at run time."""
    task: str
    when: str
    """For people: `every day at 07:30, Europe/Warsaw`."""
    zone: str
    state: State
    """`disabled`: by the code. `paused`: at run time. `finished`: nothing of it is still to come. `faulty`: left out,
    see `error`."""
    next_at: datetime | None = None
    last_at: datetime | None = None
    """The last instant that it was due; None: never yet."""
    last_task_id: str | None = None
    runs: int = 0
    """Messages so far."""
    skipped: int = 0
    """Instants so far that had none, by its policies."""
    note: str = ""
    """Of the last instant without a message: why. `new`, `schedule changed`: it has none before that. '' when the last
    one had a message."""
    description: str = ""
    error: str = ""
    """What is wrong: of a faulty one, or that the store has an entry of the same name, which is left out."""
    changed_by: str = ""
    """Who added, changed, paused or resumed it last, at run time."""
    changed_at: datetime | None = None
    change: str = ""
    """What that was."""
    spec: dict[str, Any] = {}
    """What is sent, when, and by which policies, as plain data. In the code there may be what has no such form, which
    is here as its repr."""


class Schedules:
    """The entries of one application, those of the code and those of the store; made as `app.schedules`.

    Changes are seen by all beats within a second. Every one says who made it: `by`, or else user and host.
    """

    def __init__(self, app: Celeriac) -> None:
        self._app = app

    # -- looking

    def list(self) -> list[Scheduled]:
        """All entries, by name."""
        return [*self._all(*self._read())]

    def _all(self, code: Mapping[str, Entry], rows: Mapping[str, ScheduleRow], now: Instant) -> Sequence[Scheduled]:
        entries: dict[str, Entry | str] = {
            name: self._entry(row) for name, row in rows.items() if row.spec is not None and name not in code
        }
        entries.update(code)
        marks = self._marks({name: entry for name, entry in entries.items() if not isinstance(entry, str)})
        return [self._shown(name, entries[name], rows.get(name), marks.get(name), now) for name in sorted(entries)]

    def get(self, name: str) -> Scheduled:
        """One entry.

        Raises:
            ScheduleError: There is none of the name; the message names the nearest.
        """
        code, rows, now = self._read()
        found = self._all(_only(name, code), _only(name, rows), now)
        if not found:
            raise self._unknown(name)
        return found[0]

    def preview(
        self, name: str | None = None, *, until: datetime | None = None, limit: int = 100
    ) -> Sequence[tuple[datetime, str]]:
        """What is still to come as things stand now: moments, each with the entry's name, in order.

        Args:
            name: Of one entry; None: of all.
            until: None: as far as `limit` goes.
            limit: At most so many.

        Raises:
            ScheduleError: There is no entry of the name, or `until` has no time zone.
        """
        end = None if until is None else instant_of(until)
        code, rows, now = self._read()
        entries = {**{each: entry for each, entry in self._stored(rows).items() if each not in code}, **code}
        if name is not None:
            if name not in entries:
                raise self._unknown(name)
            entries = {name: entries[name]}
        live = {
            each: entry
            for each, entry in entries.items()
            if entry.enabled and not ((row := rows.get(each)) is not None and row.paused and not _is_other(row, entry))
        }
        marks = self._marks(live)
        found = sorted(
            (at, each) for each, entry in live.items() for at in upcoming(entry, marks.get(each), now, limit, end)
        )
        return [(moment_of(at, live[each].zone), each) for at, each in found[:limit]]

    def beats(self) -> Sequence[BeatInfo]:
        """The beats that are there."""
        return self._app.schedule_store.beats()

    # -- changing

    def add(
        self,
        name: str,
        task: str | Task[Any, Any],
        schedule: Any,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        by: str | None = None,
        **how: Any,
    ) -> Scheduled:
        """Add an entry to the store.

        Args:
            name: Of no other entry.
            task: A task, or its name.
            schedule: As of `Celeriac.periodic`; a schedule of Celery's own making has no form that could be stored.
            args: For the task; with a form in JSON.
            kwargs: Likewise.
            by: Who adds it; user and host unless given.
            how: Policies and options, as of `Celeriac.periodic`.

        Raises:
            ScheduleError: Something is wrong with it, the name is taken, or it would never be due.
        """
        policies, options = entry_parts(name, how)
        spec = {
            "task": task if isinstance(task, str) else task.name,
            "schedule": schedule,
            "args": args,
            "kwargs": kwargs or {},
            "options": options,
            **policies,
        }
        code, rows, now = self._read()
        if name in code:
            raise ScheduleError(f"schedule entry {name!r} is in the code already; choose another name")
        old = rows.get(name)  # without a spec, it was an entry of the code that is there no more
        if old is not None and old.spec is not None:
            raise ScheduleError(f"schedule entry {name!r} is in the store already; change it, or choose another name")
        revision = 0 if old is None else old.revision
        return self._put(name, spec, ScheduleRow(name=name, since=now, change="added", revision=revision), by, now)

    def update(self, name: str, *, by: str | None = None, **changes: Any) -> Scheduled:
        """Change an entry of the store; a change of when it is due counts from now.

        Args:
            name: Of the entry.
            by: Who changes it.
            changes: As of `add`. None takes a policy or an option away; `options={…}` stands in place of all options.

        Raises:
            ScheduleError: It is not there, it is in the code, or something is wrong with the change.
            ScheduleChangedError: Somebody else has changed it in between.
        """
        row, now = self._own_row(name, "changed")
        old = msgspec.json.decode(row.spec or b"{}")
        call = {key: changes[key] for key in ("task", "schedule", "args", "kwargs") if key in changes}
        if "task" in call:
            call["task"] = getattr(call["task"], "name", call["task"])
        policies, options = entry_parts(name, {key: value for key, value in changes.items() if key not in call})
        kept = {} if "options" in changes else old.get("options", {})
        merged = {key: value for key, value in {**kept, **options}.items() if value is not None}
        spec = {**old, **call, **policies, "options": merged}
        since = now if not _TIMING.isdisjoint(changes) else row.since
        return self._put(name, spec, msgspec.structs.replace(row, since=since, change="changed"), by, now)

    def remove(self, name: str, *, by: str | None = None) -> None:
        """Remove an entry from the store. What it has sent already stays.

        Raises:
            ScheduleError: It is not there, or in the code only.
            ScheduleChangedError: Somebody else has changed it in between.
        """
        row, _ = self._own_row(name, "removed")
        store = self._app.schedule_store
        store.put(
            msgspec.structs.replace(row, removed=True, change="removed", changed_by=by or _whoami()),
            expected=row.revision,
        )
        entry = self._entry(row)
        if not isinstance(entry, str) and name not in self._code():
            store.forget([(name, self._app.queue_of(entry))])

    def pause(self, name: str, *, by: str | None = None) -> Scheduled:
        """Send nothing of an entry, in the code or in the store, until it is resumed.

        Raises:
            ScheduleError: There is none of the name.
            ScheduleChangedError: Somebody else has changed it in between.
        """
        return self._set_paused(name, True, by)

    def resume(self, name: str, *, by: str | None = None) -> Scheduled:
        """Go on with an entry that was paused; what was due meanwhile was not missed. Raises as `pause`."""
        return self._set_paused(name, False, by)

    def run(self, name: str) -> AsyncResult[Any]:
        """Send an entry's task now, whatever its schedule says; the schedule goes on as it was.

        Raises:
            ScheduleError: There is none of the name, or it is faulty.
            EnqueueError: The broker did not take it.
        """
        code, rows, now = self._read()
        entry: Entry | str | None = code.get(name)
        if entry is None:
            row = rows.get(name)
            if row is None:
                raise self._unknown(name)
            entry = self._entry(row)
        if isinstance(entry, str):
            raise ScheduleError(entry)
        return self._app.send_message(self._app.periodic_message(entry, at=iso_of(now, entry.zone)))

    # -- parts

    def _read(self) -> tuple[dict[str, Entry], dict[str, ScheduleRow], Instant]:
        """The entries of the code, the rows of the store, and the store's time."""
        app = self._app
        news = app.schedule_store.look()
        return self._code(), {row.name: row for row in news.rows if not row.removed}, round(news.now * SECOND)

    def _code(self) -> dict[str, Entry]:
        return dict(self._app.schedule_source().read() or {})

    def _stored(self, rows: Mapping[str, ScheduleRow]) -> dict[str, Entry]:
        found = {name: self._entry(row) for name, row in rows.items() if row.spec is not None}
        return {name: entry for name, entry in found.items() if not isinstance(entry, str)}

    def _entry(self, row: ScheduleRow) -> Entry | str:
        """The entry of a row, or what is wrong with it."""
        try:
            return make_entry(
                self._app, row.name, msgspec.json.decode(row.spec or b"{}"), origin="store", since=row.since
            )
        except ScheduleError as exc:
            return str(exc)

    def _marks(self, entries: Mapping[str, Entry]) -> dict[str, Mark | None]:
        asked = [(name, self._app.queue_of(entry)) for name, entry in entries.items()]
        return dict(zip(entries, self._app.schedule_store.marks(asked), strict=True))

    def _shown(
        self,
        name: str,
        entry: Entry | str,
        row: ScheduleRow | None,
        mark: Mark | None,
        now: Instant,
    ) -> Scheduled:
        changed: dict[str, Any] = {}
        if row is not None and _is_other(row, entry):
            row = None
            changed["error"] = (
                f"schedule entry {name!r} is in the store, too; the code's runs. Remove the other: "
                f"celeriac schedule remove {name!r}"
            )
        if row is not None:
            changed = {
                "changed_by": row.changed_by,
                "changed_at": datetime.fromtimestamp(row.changed_at, UTC),
                "change": row.change,
                "spec": msgspec.json.decode(row.spec) if row.spec is not None else {},
            }
        if isinstance(entry, str):
            task = str(changed.get("spec", {}).get("task", ""))
            return Scheduled(
                name=name, origin="store", task=task, when="", zone="", state="faulty", error=entry, **changed
            )
        if entry.origin == "code":
            changed["spec"] = _plain_spec(entry, self._app.settings.timezone)
        following = upcoming(entry, mark, now, 1)
        is_asked = isinstance(entry.schedule, Asked) and (entry.end is None or entry.end > now)
        state: State = "active" if following or is_asked else "finished"
        if row is not None and row.paused:
            state = "paused"
        elif not entry.enabled:
            state = "disabled"
        counts: dict[str, Any] = {} if mark is None else {"runs": mark.runs, "skipped": mark.skipped, "note": mark.note}
        last = None
        if mark is not None and mark.runs:
            last = round(mark.fired_at * SECOND) if mark.note in MOVED else mark.at
        return Scheduled(
            name=name,
            origin=entry.origin,
            task=entry.task,
            when=entry.when(),
            zone=zone_name(entry.zone),
            state=state,
            next_at=moment_of(following[0], entry.zone) if following and state == "active" else None,
            last_at=None if last is None else moment_of(last, entry.zone),
            last_task_id=mark.task_id if mark is not None and mark.runs else None,
            description=entry.description,
            **counts,
            **changed,
        )

    def _put(self, name: str, spec: Mapping[str, Any], row: ScheduleRow, by: str | None, now: Instant) -> Scheduled:
        app = self._app
        given = {key: value for key, value in spec.items() if value is not None}
        make_entry(app, name, given, origin="store")
        try:
            encoded = msgspec.json.encode(spec_of(given))
        except (TypeError, ValueError, NotSupportedError) as exc:
            raise ScheduleError(f"schedule entry {name!r} cannot be stored: {exc}; in the store all is JSON") from exc
        kept = msgspec.json.decode(encoded)
        for key in ("args", "kwargs", "options"):
            if (back := kept.get(key, given.get(key))) != _plain(given.get(key)):
                raise ScheduleError(
                    f"schedule entry {name!r} cannot be stored: {key}={given[key]!r} would come back from JSON as "
                    f"{back!r}; use texts, numbers, True, False, None, lists, and dicts with texts as keys"
                )
        entry = make_entry(app, name, kept, origin="store")
        if not upcoming(entry, None, now, 1):
            raise ScheduleError(
                f"schedule entry {name!r} would never be due: nothing of {entry.when()} is still to come"
            )
        try:
            app.periodic_message(entry, at=iso_of(now, entry.zone))
        except Exception as exc:
            raise ScheduleError(f"schedule entry {name!r} could not be sent: {exc}") from exc
        app.schedule_store.put(
            msgspec.structs.replace(row, spec=encoded, changed_by=by or _whoami()), expected=row.revision
        )
        return self.get(name)

    def _set_paused(self, name: str, paused: bool, by: str | None) -> Scheduled:
        code, rows, now = self._read()
        row = rows.get(name)
        if name not in code and (row is None or row.spec is None):
            raise self._unknown(name)
        if name in code and row is not None and row.spec is not None:
            raise ScheduleError(
                f"schedule entry {name!r} is in the code and in the store; before anything is said of the code's, "
                f"remove the other: celeriac schedule remove {name!r}"
            )
        row = row or ScheduleRow(name=name)
        if row.paused != paused:
            self._app.schedule_store.put(
                msgspec.structs.replace(
                    row,
                    paused=paused,
                    since=row.since if paused else now,
                    change="paused" if paused else "resumed",
                    changed_by=by or _whoami(),
                ),
                expected=row.revision,
            )
        return self.get(name)

    def _own_row(self, name: str, what: str) -> tuple[ScheduleRow, Instant]:
        code, rows, now = self._read()
        row = rows.get(name)
        if row is None or row.spec is None:
            if name in code:
                raise ScheduleError(
                    f"schedule entry {name!r} is in the code and cannot be {what} here; change the code, or pause it"
                )
            raise self._unknown(name)
        return row, now

    def _unknown(self, name: str) -> ScheduleError:
        import difflib

        code, rows, _ = self._read()
        known = sorted({*code, *(each for each, row in rows.items() if row.spec is not None)})
        near = difflib.get_close_matches(name, known, 1)
        some = ", ".join(known[:10]) or "none"
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {some}"
        if len(known) > 10 and not near:
            hint += f", … ({len(known)} in all)"
        return ScheduleError(f"there is no schedule entry {name!r}; {hint}")

    def __iter__(self) -> Iterator[Scheduled]:
        return iter(self.list())


_USUAL: Final = {
    name: usual
    for name, usual in zip(reversed(Entry.__struct_fields__), reversed(Entry.__struct_defaults__), strict=False)
    if name.removesuffix("_s") in POLICIES and name not in ("start", "end")
}


def _is_other(row: ScheduleRow, entry: Entry | str) -> bool:
    """Whether a row is another entry of the same name, which is left out."""
    return row.spec is not None and not isinstance(entry, str) and entry.origin == "code"


def _plain_spec(entry: Entry, zone: str) -> dict[str, Any]:
    """An entry of the code in the form of those of the store; what is as usual is left out."""
    schedule = entry.schedule
    said: dict[str, Any] = {
        "task": entry.task,
        "schedule": repr(schedule.schedule) if isinstance(schedule, Asked) else schedule.form(),
        "args": list(entry.args),
        "kwargs": entry.kwargs,
        "options": entry.options,
    }
    for name, usual in _USUAL.items():
        if (value := getattr(entry, name)) != usual:
            said[name.removesuffix("_s")] = value
    for key, instant in (("start", entry.start), ("end", entry.end)):
        if instant:
            said[key] = iso_of(instant, entry.zone)
    if zone_name(entry.zone) != zone:
        said["timezone"] = zone_name(entry.zone)
    return {key: _printable(value) for key, value in said.items()}


def _printable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _printable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable(each) for each in value]
    try:
        return msgspec.to_builtins(value)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _only(name: str, table: Mapping[str, T]) -> dict[str, T]:
    return {name: table[name]} if name in table else {}


def _plain(value: Any) -> Any:
    """With lists instead of tuples, as workers get them in any case."""
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


def _whoami() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
