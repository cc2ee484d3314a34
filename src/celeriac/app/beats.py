"""The application as a beat sees it: its entries, their messages, and the store."""

from __future__ import annotations

import hashlib
import logging
import uuid
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.errors import ScheduleError
from celeriac.scheduler import Beat
from celeriac.scheduler.entry import entry_of, iso_of
from celeriac.scheduler.schedule import SECOND
from celeriac.scheduler.walltime import moment_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celeriac.app.application import Celeriac
    from celeriac.interfaces import ScheduleStore
    from celeriac.model import Instant, Mark, Outgoing, ScheduleRow, TaskId, Tick, Ticked
    from celeriac.scheduler import Entry, Source

_log = logging.getLogger("celeriac.beat")
_LONGEST_LOOK_S: Final = 5.0
"""Who does not look for longer counts as gone."""
_NAMESPACE: Final = uuid.UUID("5a1e1b7c-3b5d-5d0a-9a43-6c2f1e0b7a55")


class CodeSource:
    """The entries of the code: `beat_schedule`, `add_periodic_task`, `@app.periodic`."""

    def __init__(self, app: Celeriac) -> None:
        self._app = app
        self._was_read = False

    def read(self) -> Mapping[str, Entry] | None:
        if self._was_read:
            return None
        found = self.entries()
        self._was_read = True
        return found

    def entries(self) -> Mapping[str, Entry]:
        """All of them, by name; asked for until it was answered once."""
        return code_entries(self._app)

    def fired(self, entry: Entry, mark: Mark, /) -> None:
        """Nobody asks."""


def code_entries(app: Celeriac) -> dict[str, Entry]:
    """The entries of the code by name, checked.

    Raises:
        ScheduleError: One is wrong, or two share a name; the message names it. Of several, each has a line.
    """
    found: dict[str, Entry] = {}
    wrong: list[ScheduleError] = []
    settings = app.settings.beat_schedule
    for name, spec in (*settings.items(), *app.periodic_tasks.items()):
        try:
            if name in settings and spec is not settings[name]:
                raise ScheduleError(
                    f"schedule entry {name!r} is there twice: in setting beat_schedule, and by add_periodic_task or "
                    "@app.periodic; give one another name="
                )
            found[name] = make_entry(app, name, spec)
        except ScheduleError as exc:
            wrong.append(exc)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise ScheduleError("\n  ".join((f"{len(wrong)} entries of the schedule are wrong:", *map(str, wrong))))
    return found


def make_entry(app: Celeriac, name: str, spec: Mapping[str, Any], **more: Any) -> Entry:
    """Check an entry, its task, options and arguments included.

    Args:
        app: Whose.
        name: The entry's.
        spec: As in `beat_schedule`.
        more: As of `entry_of`: `origin`, `since`.

    Raises:
        ScheduleError: Something is wrong with it; the message names the entry.
    """
    conf = app.settings
    entry = entry_of(name, spec, zone=conf.timezone, deadline_s=conf.beat_cron_starting_deadline, **more)
    check_overlap(app, entry)
    try:
        app.check_call(entry.task, entry.args, entry.kwargs, entry.options)
    except Exception as exc:
        raise ScheduleError(f"schedule entry {name!r}: {exc}") from exc
    return entry


def check_overlap(app: Celeriac, entry: Entry) -> None:
    """What the broker must know for it, it must be able to know.

    Raises:
        ScheduleError: It cannot say whether the entry's last message has ended.
    """
    if entry.overlap == "skip" and not app.broker.traits.schedules:
        raise ScheduleError(
            f"schedule entry {entry.name!r}: overlap='skip' needs a broker that can say whether the last message has "
            f"ended, and {app.broker.traits.name} cannot; use 'allow' or 'cancel_previous', or expires="
        )


class BeatHost:
    """What a beat wants of an application."""

    def __init__(self, app: Celeriac, source: Source) -> None:
        self._app = app
        self.source = source

    @property
    def store(self) -> ScheduleStore:
        return self._app.schedule_store

    def entry_of(self, row: ScheduleRow, /) -> Entry:
        spec = msgspec.json.decode(row.spec or b"{}")
        return make_entry(self._app, row.name, spec, origin="store", since=row.since)

    def queue_of(self, entry: Entry, /) -> str:
        return self._app.queue_of(entry)

    def build(self, entry: Entry, at: Instant, task_id: TaskId, /) -> Outgoing:
        jitter_s = _share(task_id) * entry.jitter_s
        due = moment_of(at + round(jitter_s * SECOND)) if jitter_s else None
        return self._app.periodic_message(entry, at=iso_of(at, entry.zone), task_id=task_id, eta=due)

    def tick(self, ticks: Sequence[Tick], /) -> Sequence[Ticked]:
        messages = [tick.message for tick in ticks if tick.message is not None]
        if not messages:
            return self.store.tick(ticks)
        answers: list[Ticked | None] = [None] * len(ticks)

        def send(out: Sequence[Outgoing]) -> set[TaskId]:
            known = {message.id: message for message in out}
            return settle(
                {
                    place: msgspec.structs.replace(tick, message=known[tick.message.id])
                    for place, tick in enumerate(ticks)
                    if tick.message is not None and tick.message.id in known and answers[place] is None
                }
            )

        def settle(chosen: Mapping[int, Tick]) -> set[TaskId]:
            done = self.store.tick(list(chosen.values())) if chosen else ()
            for place, answer in zip(chosen, done, strict=True):
                answers[place] = answer
            fired = (
                tick.message for tick, answer in zip(chosen.values(), done, strict=True) if answer.verdict == "fired"
            )
            return {message.id for message in fired if message is not None}

        try:
            self._app.hand_over(messages, send)
        except Exception:
            if any(answers[place] is None for place, tick in enumerate(ticks) if tick.message is not None):
                raise
            _log.exception("beat: all is sent, but a middleware or a receiver of a signal failed after that")
        settle(  # those without a message, and those whose message a middleware has kept
            {
                place: msgspec.structs.replace(tick, message=None, note=tick.note or "middleware")
                for place, tick in enumerate(ticks)
                if answers[place] is None
            }
        )
        return [answer for answer in answers if answer is not None]

    def cancel(self, task_id: TaskId, /) -> None:
        broker = self._app.broker
        if not broker.traits.shows_all or broker.peek(ids=(task_id,), limit=1):
            self._app.control.revoke(task_id, terminate=True)

    def task_id(self, name: str, at: Instant, /) -> TaskId:
        return uuid5_of(f"{self._app.schedule_scope}\0{name}\0{at}")


def make_beat(
    app: Celeriac,
    *,
    source: Source | None = None,
    name: str | None = None,
    host: type[BeatHost] = BeatHost,
    kind: type[Beat] = Beat,
) -> Beat:
    """The beat of an application, not yet running.

    Args:
        app: With its task modules imported.
        source: Of its entries, instead of the application's own.
        name: Shown where beats are listed.
        host: What stands between the beat and the application.
        kind: Of beat.

    Raises:
        ScheduleError: An entry of the code is wrong.
        ConfigError: The broker keeps no schedules, and `beat_store` is no store that does.
    """
    conf = app.settings
    _ = app.marks_location  # what is wrong with it is said now
    chosen = source or app.schedule_source()
    return kind(
        host(app, _Ready(chosen)),
        clock=app.clock,
        name=name,
        grace_s=conf.beat_misfire_grace,
        **({"look_s": min(conf.beat_max_loop_interval, _LONGEST_LOOK_S)} if conf.beat_max_loop_interval else {}),
    )


def tell_of_marks(app: Celeriac) -> None:
    """Warn where the marks are in a file that nobody has asked for."""
    place = app.marks_location
    if place is not None and place.path is not None and app.settings.beat_store is None:
        _log.warning(
            "beat: %s keeps no schedules, so their marks are in %s: a beat on another host would send everything once "
            "more. Set beat_store: redis://… for beats on several hosts, this file for one",
            app.broker.traits.name, place.path,
        )  # fmt: skip


class _Ready:
    """A source that has been read once already, so that what is wrong with it is known before anything starts."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._first = source.read()
        self.fired = source.fired

    def read(self) -> Mapping[str, Entry] | None:
        first, self._first = self._first, None
        return self._source.read() if first is None else first


def uuid5_of(name: str) -> TaskId:
    """`str(uuid.uuid5(_NAMESPACE, name))`, in a quarter of the time: in a rush it counts."""
    text = hashlib.sha1(_NAMESPACE.bytes + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"


def _share(task_id: TaskId) -> float:
    """A number from 0 to 1 that every beat finds for this id."""
    return int(task_id[:8], 16) / 0xFFFFFFFF
