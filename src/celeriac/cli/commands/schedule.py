"""`celeriac schedule`: what is sent when, and changes of it while beats run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from celeriac.cli import exits, screen
from celeriac.cli.jsontext import json_text
from celeriac.cli.moments import duration, in_zone, moment
from celeriac.cli.root import Group
from celeriac.cli.session import session
from celeriac.errors import ConfigError, ScheduleError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import tzinfo

    from celeriac.app.application import Celeriac
    from celeriac.app.schedules import Scheduled
    from celeriac.model import BeatInfo

_COMING = 5
"""Instants that `show` foretells."""

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_by = click.option("--by", metavar="WHO", help="Who does it, for the record; user and host unless given.")


@click.group(
    cls=Group,
    epilog="""\b
Examples:
  celeriac -A shop schedule list
  celeriac -A shop schedule next                                      each entry once, the soonest first
  celeriac -A shop schedule preview nightly --until 2026-12-31        every time that it will be due
  celeriac -A shop schedule run nightly                               now, beside its schedule
  celeriac -A shop schedule pause nightly --by ann
  celeriac -A shop schedule add nightly shop.report --cron '30 7 * * mon-fri' --timezone Europe/Warsaw
  celeriac -A shop schedule add poll shop.poll --every 90s --args '["eu"]' --overlap skip
  celeriac -A shop schedule add lamps shop.on --solar sunset,52.2,21.0
  celeriac -A shop schedule add waste shop.bins --rrule 'DTSTART:20260106T070000 FREQ=WEEKLY;INTERVAL=2;BYDAY=TU'
  celeriac -A shop schedule remove poll

\b
Entries of the code can be paused, not changed or removed. Changes reach every beat within a second.""",
)
def command() -> None:
    """The schedule: its entries of the code, and those that were added here."""


def _app() -> Celeriac:
    here = session()
    if here.app_text is None:
        raise ConfigError("a schedule belongs to an application: celeriac -A MODULE schedule, or set CELERIAC_APP")
    here.shared_app  # noqa: B018 - what is said here must reach beats in other processes
    return here.loaded_app


# -- looking -----------------------------------------------------------------------------------------------------------


@command.command("list")
@_as_json
def list_(*, as_json: bool) -> None:
    """List all entries, by name, and the beats that run them."""
    here, app = session(), _app()
    entries, beats = app.schedules.list(), app.schedules.beats()
    if as_json:
        screen.data({"entries": [_facts(entry) for entry in entries], "beats": [_beat_facts(beat) for beat in beats]})
    elif not entries:
        click.echo("no entries")
    else:
        _list(entries, app.clock.time(), color=here.color)
    if beats and not as_json:
        now = app.schedule_store.look().now
        shown = ", ".join(f"{beat.name} (up {screen.age(max(0.0, now - beat.started_at))})" for beat in beats)
        click.echo()
        screen.line(f"{len(beats)} {'beat' if len(beats) == 1 else 'beats'}: {shown}")
    for entry in entries:
        if entry.error and not as_json:
            click.echo(f"celeriac: {screen.visible(entry.error)}", err=True)
    _warn_without_beat(app, is_needed=bool(entries))


_SHRUNK = {"when": 26, "changed": 16}
"""Columns that may be folded, and how narrow they may become."""


def _list(entries: Sequence[Scheduled], now: float, *, color: bool) -> None:
    """Print entries as a table where it has room, with moments if they have, too; else one below the other."""
    for with_moments, shrunk in ((True, None), (True, _SHRUNK), (False, _SHRUNK)):
        columns, rows = _table(entries, now, with_moments=with_moments)
        if screen.fits(columns, rows, shrunk=shrunk):
            whole = [name for name in columns if name not in _SHRUNK]
            screen.table(columns, rows, right=("runs", "skipped"), whole=whole, color=color)
            return
    for entry in entries:
        runs = f"{entry.runs} run{'' if entry.runs == 1 else 's'}" if entry.runs else ""
        skipped = f"{entry.skipped} skipped" if entry.skipped else ""
        facts = (
            entry.when,
            f"next {_near(entry.next_at, now)}" if entry.next_at else "",
            f"last {_near(entry.last_at, now)}" if entry.last_at else "",
            ", ".join(fact for fact in (runs, skipped) if fact),
            _change(entry, now),
        )
        screen.block(f"{entry.name}  {entry.state}, {entry.origin}", filter(None, facts), color=color)


def _table(entries: Sequence[Scheduled], now: float, *, with_moments: bool) -> tuple[list[str], list[list[Any]]]:
    """The columns in which something stands, and the rows."""
    near = _near if with_moments else _away
    cells: dict[str, list[Any]] = {
        "name": [entry.name for entry in entries],
        "origin": [entry.origin for entry in entries],
        "state": [entry.state for entry in entries],
        "when": [entry.when for entry in entries],
        "next": [near(entry.next_at, now) for entry in entries],
        "last": [near(entry.last_at, now) for entry in entries],
        "runs": [entry.runs for entry in entries],
        "skipped": [entry.skipped for entry in entries],
        "changed": [_change(entry, now) for entry in entries],
    }
    cells = {name: column for name, column in cells.items() if any(column)}
    return list(cells), [list(row) for row in zip(*cells.values(), strict=True)]


@command.command("show")
@click.argument("name")
@_as_json
def show(*, name: str, as_json: bool) -> int:
    """Print all that is known about an entry."""
    app = _app()

    def look(name: str) -> None:
        entry = app.schedules.get(name)
        live = entry.state == "active"
        coming = [at for at, _ in app.schedules.preview(name, limit=_COMING)] if live else []
        facts = _facts(entry)
        if as_json:
            screen.data({**facts, "coming": coming})
            return
        now = app.clock.time()
        spec = facts.pop("spec")
        for key, value in {**facts, **{key: spec[key] for key in spec if key not in facts}}.items():
            if value not in (None, "", {}, []):
                is_moment = isinstance(value, datetime)
                shown = f"{_second(value)} ({_away(value, now)})" if is_moment else screen.value_text(value)
                screen.line(f"{key + ':':<15} {shown}")
        for number, at in enumerate(coming):
            screen.line(f"{'' if number else 'coming:':<15} {_moment(at)}")

    return _each((name,), look)


@command.command("next")
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many.")
@_as_json
def next_(*, limit: int, as_json: bool) -> None:
    """List when each entry is due next, the soonest first."""
    here, app = session(), _app()
    live = [(entry.next_at, entry) for entry in app.schedules.list() if entry.next_at is not None]
    live.sort(key=lambda each: each[0])
    shown = live[:limit]
    if as_json:
        screen.data([{"at": at, "name": entry.name, "task": entry.task} for at, entry in shown])
    elif not shown:
        click.echo("nothing is due")
    else:
        now = app.clock.time()
        screen.table(
            ("at", "in", "name", "task", "when"),
            [(_second(at), _span(at, now), entry.name, entry.task, entry.when) for at, entry in shown],
            right=("in",),
            whole=("at", "in", "name"),
            color=here.color,
        )
    if len(shown) < len(live):
        here.notice(f"{len(shown)} of {len(live)}; more with --limit")
    _warn_without_beat(app, is_needed=bool(live))


@command.command("preview")
@click.argument("name", required=False)
@click.option("--until", callback=moment, metavar="MOMENT", help="Up to this (ISO 8601).")
@click.option("-n", "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most so many.")
@_as_json
def preview(*, name: str | None, until: datetime | None, limit: int, as_json: bool) -> int:
    """List every time that an entry (or any, without NAME) is due, as things stand now."""
    here, app = session(), _app()
    end = None if until is None else _placed(until, _zone(app, None))

    def look(name: str | None) -> None:
        found = app.schedules.preview(name, until=end, limit=limit)
        if as_json:
            screen.data([{"at": at, "name": each} for at, each in found])
        elif not found:
            click.echo("nothing is due")
        else:
            now = app.clock.time()
            screen.table(
                ("at", "in", "name"),
                [(_moment(at), _span(at, now), each) for at, each in found],
                right=("in",),
                whole=("at", "in", "name"),
                color=here.color,
            )
        if until is not None and len(found) == limit:
            here.notice(f"the first {limit}; more with --limit")

    return _each((name,), look)


# -- changing ----------------------------------------------------------------------------------------------------------


_OPTIONS = (
    click.option("--cron", metavar="TEXT", help="Five fields: minute, hour, day of month, month, day of week."),
    click.option("--every", callback=duration, metavar="DURATION", help="Such as 10s, 5m, 1h30m."),
    click.option("--at", callback=moment, metavar="MOMENT", help="Once (ISO 8601)."),
    click.option("--solar", metavar="EVENT,LAT,LON", help="Such as sunset,52.2,21.0."),
    click.option(
        "--rrule", metavar="TEXT", help="RFC 5545, such as 'DTSTART:20260106T090000 FREQ=WEEKLY;INTERVAL=2;BYDAY=TU'."
    ),
    click.option(
        "-a", "--args", callback=json_text(list, "a JSON array", '[1, "two"]'), metavar="JSON", help="Arguments."
    ),
    click.option(
        "-k",
        "--kwargs",
        callback=json_text(dict, "a JSON object", '{"size": 3}'),
        metavar="JSON",
        help="Keyword arguments.",
    ),
    click.option("-Q", "--queue", metavar="NAME", help="Instead of the one that routing finds."),
    click.option("--priority", type=click.IntRange(0, 9), help="0 to 9, higher sooner."),
    click.option("--expires", callback=duration, metavar="DURATION", help="Not run when it waited longer than this."),
    click.option("--timezone", metavar="ZONE", help="What its times of day mean, instead of the application's."),
    click.option(
        "--catch-up",
        type=click.Choice(["latest", "skip", "all"]),
        help="What of those missed while no beat ran is sent.",
    ),
    click.option("--catch-up-limit", type=click.IntRange(1, 10_000), metavar="N", help="With 'all': the last N."),
    click.option(
        "--overlap",
        type=click.Choice(["allow", "skip", "cancel_previous"]),
        help="While the message before has not ended.",
    ),
    click.option("--jitter", callback=duration, metavar="DURATION", help="Held back by some time up to this."),
    click.option("--start", callback=moment, metavar="MOMENT", help="Not before this."),
    click.option("--end", callback=moment, metavar="MOMENT", help="Not after this."),
    click.option("--max-lateness", callback=duration, metavar="DURATION", help="Skipped when it was missed by more."),
    click.option("--description", metavar="TEXT", help="What it is for."),
)


def _entry_options(function: Any) -> Any:
    """Give a command the options that say what an entry is."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _said(app: Celeriac, name: str, options: dict[str, Any], *, is_new: bool = False) -> dict[str, Any]:
    """What these options say of an entry, as `app.schedules` takes it; what is not said is left out."""
    for key in ("at", "start", "end"):
        if options[key] is not None:
            try:
                options[key] = _placed(options[key], _zone(app, options["timezone"]))
            except ConfigError as exc:
                raise ScheduleError(f"schedule entry {name!r}: {exc}") from None
    kinds = {key: options.pop(key) for key in ("cron", "every", "at", "solar", "rrule")}
    if is_new or any(value is not None for value in kinds.values()):
        options["schedule"] = _schedule(kinds)
    return {key: value for key, value in options.items() if value is not None}


@command.command("add")
@click.argument("name")
@click.argument("task")
@_entry_options
@_by
@_as_json
def add(*, name: str, task: str, by: str | None, as_json: bool, **options: Any) -> None:
    """Add the entry NAME, which sends TASK, to the store."""
    app = _app()
    entry = app.schedules.add(name, task, by=by, **_said(app, name, options, is_new=True))
    if as_json:
        screen.data(_facts(entry))
    else:
        screen.line(f"added {entry.name}: {entry.when}; next {_near(entry.next_at, app.clock.time())}")
    _warn_without_beat(app)


@command.command("update")
@click.argument("name")
@click.option("--task", metavar="TASK", help="Another task.")
@_entry_options
@_by
@_as_json
def update(*, name: str, by: str | None, as_json: bool, **options: Any) -> None:
    """Change the entry NAME of the store; what is not said stays. A change of when it is due counts from now."""
    app = _app()
    changes = _said(app, name, options)
    if not changes:
        raise click.UsageError("say what is to change: see --help")
    entry = app.schedules.update(name, by=by, **changes)
    if as_json:
        screen.data(_facts(entry))
    else:
        screen.line(f"changed {entry.name}: {entry.when}; next {_near(entry.next_at, app.clock.time())}")


@command.command("remove")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_by
def remove(*, names: tuple[str, ...], by: str | None) -> int:
    """Remove entries from the store. What they have sent stays."""
    app = _app()

    def one(name: str) -> None:
        app.schedules.remove(name, by=by)
        screen.line(f"removed {name}")

    return _each(names, one)


@command.command("pause")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_by
@_as_json
def pause(*, names: tuple[str, ...], by: str | None, as_json: bool) -> int:
    """Send nothing of these entries until they are resumed."""
    app = _app()
    return _set(names, lambda name: app.schedules.pause(name, by=by), "paused", as_json)


@command.command("resume")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_by
@_as_json
def resume(*, names: tuple[str, ...], by: str | None, as_json: bool) -> int:
    """Go on with entries that were paused, from now on."""
    app = _app()
    code = _set(names, lambda name: app.schedules.resume(name, by=by), "resumed", as_json)
    _warn_without_beat(app)
    return code


@command.command("run")
@click.argument("name")
@_as_json
def run(*, name: str, as_json: bool) -> int:
    """Send an entry's task now, whatever its schedule says, and print the id."""
    app = _app()

    def one(name: str) -> None:
        sent = app.schedules.run(name)
        if as_json:
            screen.data({"id": sent.id})
        else:
            click.echo(sent.id)

    return _each((name,), one)


# -- parts -------------------------------------------------------------------------------------------------------------


def _each(names: Sequence[Any], act: Callable[[Any], None]) -> int:
    """Do it with each entry; what cannot be done with one is said, and the others are not left out."""
    code = exits.OK
    for name in names:
        try:
            act(name)
        except ScheduleError as exc:
            click.echo(f"celeriac: {screen.visible(str(exc))}", err=True)
            code = exits.FAILED
    return code


def _set(names: Sequence[str], act: Callable[[str], Scheduled], what: str, as_json: bool) -> int:
    done: list[Scheduled] = []
    code = _each(names, lambda name: done.append(act(name)))
    if as_json:
        screen.data([_facts(entry) for entry in done])
    else:
        for entry in done:
            screen.line(f"{what} {entry.name}")
    return code


def _schedule(chosen: dict[str, Any]) -> Any:
    """What the one option of the five says."""
    given = {key: value for key, value in chosen.items() if value is not None}
    if len(given) != 1:
        raise click.UsageError("say when: one of --cron, --every, --at, --solar or --rrule")
    ((kind, value),) = given.items()
    if kind in ("cron", "every", "at"):
        return value
    if kind == "rrule":
        return {"rrule": value}
    event, *place = (part.strip() for part in value.split(","))
    try:
        latitude, longitude = map(float, place)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not EVENT,LATITUDE,LONGITUDE; write for example sunset,52.2,21.0", param_hint="--solar"
        ) from None
    return {"solar": [event, latitude, longitude]}


def _zone(app: Celeriac, wanted: str | None) -> tzinfo:
    from celeriac.scheduler.walltime import zone

    return zone(wanted or app.settings.timezone)


def _placed(written: datetime, zone: tzinfo) -> datetime:
    meant, notice = in_zone(written, zone)
    if notice:
        session().notice(notice)
    return meant


def _warn_without_beat(app: Celeriac, *, is_needed: bool = True) -> None:
    if is_needed and not app.schedules.beats():
        click.echo(
            "celeriac: no beat is there, so nothing is sent: start `celeriac beat`, or a worker with --beat", err=True
        )


def _facts(entry: Scheduled) -> dict[str, Any]:
    return msgspec.structs.asdict(entry)


def _beat_facts(beat: BeatInfo) -> dict[str, Any]:
    times = {key: datetime.fromtimestamp(getattr(beat, key), UTC) for key in ("started_at", "looked_at")}
    return msgspec.structs.asdict(beat) | times


def _moment(at: datetime) -> str:
    return at.isoformat(sep=" ", timespec="milliseconds" if at.microsecond else "seconds")


def _second(at: datetime) -> str:
    return at.isoformat(sep=" ", timespec="seconds")


def _span(at: datetime, now: float) -> str:
    return screen.age(max(0.0, at.timestamp() - now))


def _away(at: datetime | None, now: float) -> str:
    """How far a moment is from now."""
    if at is None:
        return ""
    away = at.timestamp() - now
    return f"in {screen.age(away)}" if away >= 0 else f"{screen.age(-away)} ago"


def _near(at: datetime | None, now: float) -> str:
    """The same, and the moment to the second, in the entry's zone; without the date where that is today's."""
    if at is None:
        return ""
    is_today = datetime.fromtimestamp(now, at.tzinfo).date() == at.date()
    return f"{_away(at, now)}, {f'{at:%H:%M:%S}' if is_today else f'{at:%Y-%m-%d %H:%M:%S}'}"


def _change(entry: Scheduled, now: float) -> str:
    """`paused by ann, 3 min ago`."""
    if not entry.change or entry.changed_at is None:
        return ""
    by = f" by {entry.changed_by}" if entry.changed_by else ""
    return f"{entry.change}{by}, {screen.age(max(0.0, now - entry.changed_at.timestamp()))} ago"
