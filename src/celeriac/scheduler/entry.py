"""An entry of a schedule: what is sent, when, and by which policies."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import msgspec

from celeriac.errors import ConfigError, NotSupportedError, ScheduleError
from celeriac.scheduler.asked import Asked
from celeriac.scheduler.at import at
from celeriac.scheduler.crontab import crontab
from celeriac.scheduler.every import every
from celeriac.scheduler.forms import schedule_of
from celeriac.scheduler.schedule import SECOND, Schedule
from celeriac.scheduler.walltime import instant, moment_of
from celeriac.scheduler.walltime import zone as zone_of

if TYPE_CHECKING:
    from celeriac.model import Instant

CatchUp = Literal["latest", "skip", "all"]
Overlap = Literal["allow", "skip", "cancel_previous"]

POLICIES: Final = (
    "catch_up",
    "catch_up_limit",
    "overlap",
    "jitter",
    "start",
    "end",
    "max_lateness",
    "timezone",
    "enabled",
    "description",
)
"""Keys of an entry that Celery has not."""
KEYS: Final = ("task", "schedule", "args", "kwargs", "options", "relative", *POLICIES)
_KNOWN_KEYS: Final = frozenset(KEYS)


_STRANGE: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What no name has: it could not be shown, or not be stored everywhere."""


class Late:
    """An argument that is worked out when the message is built.

    Args:
        function: Returns it.
        args: For the function.
        kwargs: For the function.
    """

    def __init__(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        self._function, self._args, self._kwargs = function, args, kwargs

    def __call__(self) -> Any:
        return self._function(*self._args, **self._kwargs)


class Entry(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One line of a schedule, checked."""

    name: str
    task: str
    schedule: Schedule
    zone: tzinfo
    """What the schedule's times of day mean."""
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {}
    """As of `apply_async`."""
    catch_up: CatchUp = "latest"
    """Of the instants that were missed: send once for all of them, for none, or for each."""
    catch_up_limit: int = 100
    """With `all`: for at most so many, the last ones."""
    overlap: Overlap = "allow"
    """While the last message of this entry has not ended: send all the same, skip, or revoke that one first."""
    jitter_s: float = 0.0
    """Each message is held back by some time up to this."""
    start: Instant = 0
    """Nothing is due before."""
    end: Instant | None = None
    """Nothing is due after."""
    max_lateness_s: float | None = None
    """An instant that is missed by more is skipped, whatever `catch_up` says."""
    enabled: bool = True
    description: str = ""
    origin: Literal["code", "store"] = "code"
    since: Instant = 0
    """Instants up to here are not due, because it was added, changed or paused then."""
    fingerprint: str = ""
    """Of all that decides when it is due."""

    @property
    def is_late(self) -> bool:
        """Whether its message is another at each moment."""
        return "expires" in self.options or any(isinstance(each, Late) for each in (*self.args, *self.kwargs.values()))

    def call(self) -> tuple[list[Any], dict[str, Any]]:
        """Its arguments, as they are now."""
        args = [each() if isinstance(each, Late) else each for each in self.args]
        kwargs = {key: each() if isinstance(each, Late) else each for key, each in self.kwargs.items()}
        return args, kwargs

    def when(self) -> str:
        """For people: `every day at 07:30, Europe/Warsaw`."""
        said = self.schedule.describe()
        return said if self.schedule.is_elapsed else f"{said}, {zone_name(self.zone)}"


def entry_of(
    name: str,
    spec: Mapping[str, Any],
    *,
    zone: str,
    deadline_s: float | None = None,
    origin: Literal["code", "store"] = "code",
    since: Instant = 0,
) -> Entry:
    """Check an entry, as it stands in `beat_schedule` or as `spec_of` has written it.

    Args:
        name: Of the entry.
        spec: Keys: see `KEYS`.
        zone: Of entries that name none.
        deadline_s: `beat_cron_starting_deadline`: the `max_lateness` of crontabs that say nothing.
        origin: Where it comes from.
        since: See the attribute.

    Raises:
        ScheduleError: Something is wrong with it; the message names the entry and the key.
    """
    if not (name and isinstance(name, str)) or _STRANGE.search(name):
        raise ScheduleError(f"schedule entry {name!r}: a name is a line of text, not empty, without control characters")
    check_keys(name, spec)
    get = spec.get
    task = get("task")
    if not isinstance(task, str) or not task:
        raise ScheduleError(f"schedule entry {name!r}: task={task!r} is not the name of a task")

    def checked(key: str, make: Any) -> Any:
        try:
            return make(get(key))
        except (ConfigError, TypeError, ValueError) as exc:
            raise ScheduleError(f"schedule entry {name!r}: {key}={get(key)!r}: {exc}") from exc

    where = checked("timezone", lambda value: _zone(value, getattr(get("schedule"), "own_zone", None) or zone))
    schedule: Schedule = checked("schedule", lambda value: as_schedule(value, relative=bool(get("relative"))))
    start: Instant = checked("start", lambda value: 0 if value is None else instant_of(value))
    end: Instant | None = checked("end", lambda value: None if value is None else instant_of(value))
    if end is not None and end <= start:
        raise ScheduleError(f"schedule entry {name!r}: end={get('end')!r} is not after start={get('start')!r}")
    if start:
        schedule = schedule.begun_at(start)
    args, kwargs, options = get("args") or (), get("kwargs") or {}, get("options") or {}
    if not isinstance(args, Sequence) or isinstance(args, (str, bytes)):
        raise ScheduleError(f"schedule entry {name!r}: args={args!r} is not a list; for one argument write ({args!r},)")
    if not isinstance(kwargs, Mapping):
        raise ScheduleError(f"schedule entry {name!r}: kwargs={kwargs!r} is not a dict")
    if not isinstance(options, Mapping):
        raise ScheduleError(f"schedule entry {name!r}: options={options!r} is not a dict")
    if taken := [key for key in ("task_id", "countdown", "eta") if options.get(key) is not None]:
        raise ScheduleError(f"schedule entry {name!r}: option {taken[0]!r} is the schedule's own to set")
    late = checked("max_lateness", lambda value: None if value is None else seconds_of(value))
    if late is None and isinstance(schedule, crontab):
        late = deadline_s
    enabled = checked("enabled", lambda value: True if value is None else _flag(value))
    return Entry(
        name=name,
        task=task,
        schedule=schedule,
        zone=where,
        args=args,
        kwargs=kwargs,
        options=options,
        catch_up=checked("catch_up", lambda value: _choice("latest" if value is None else value, CatchUp)),
        catch_up_limit=checked("catch_up_limit", lambda value: 100 if value is None else _count(value)),
        overlap=checked("overlap", lambda value: _choice("allow" if value is None else value, Overlap)),
        jitter_s=checked("jitter", lambda value: 0.0 if value is None else seconds_of(value)),
        start=start,
        end=end,
        max_lateness_s=late,
        enabled=enabled,
        description=str(get("description") or ""),
        origin=origin,
        since=since,
        fingerprint=_fingerprint(schedule, where, start, enabled),
    )


def check_keys(name: str, spec: Mapping[str, Any]) -> None:
    """Refuse what no entry has.

    Raises:
        ScheduleError: Names the entry, the key and the nearest known one.
    """
    if spec.keys() <= _KNOWN_KEYS:
        return
    import difflib

    for key in spec:
        if key not in _KNOWN_KEYS:
            near = difflib.get_close_matches(str(key), KEYS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(KEYS)}"
            raise ScheduleError(f"schedule entry {name!r}: unknown key {key!r}; {hint}")


def spec_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """An entry's spec as plain data, for a store; `entry_of` reads it.

    Raises:
        NotSupportedError: Its schedule has no such form.
        TypeError: A value is of a type that has none; the caller knows the entry's name.
    """
    plain = {key: value for key, value in spec.items() if value is not None}
    relative = bool(plain.pop("relative", False))
    schedule = as_schedule(plain["schedule"], relative=relative)
    if isinstance(schedule, Asked):
        raise NotSupportedError(f"{schedule.schedule!r} has no form that others could read; keep it in the code")
    plain["schedule"] = form = schedule.form()
    try:
        schedule_of(form)
    except ConfigError:  # of a class of the application's own
        raise NotSupportedError(f"{form!r} is no form that every beat can read; keep it in the code") from None
    for key in ("start", "end"):
        if key in plain:
            plain[key] = iso_of(instant_of(plain[key]))
    for key in ("jitter", "max_lateness"):
        if key in plain:
            plain[key] = seconds_of(plain[key])
    if isinstance(plain.get("timezone"), tzinfo):
        plain["timezone"] = zone_name(plain["timezone"])
    return plain


def split_options(name: str, how: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Policies, and options of the call, of keyword arguments that are both; `options` holds more of the latter.

    Raises:
        ScheduleError: `options` is no dict.
    """
    more = how.get("options")
    if not isinstance(more, Mapping | None):
        raise ScheduleError(f"schedule entry {name!r}: options={more!r} is not a dict")
    policies = {key: value for key, value in how.items() if key in POLICIES or key == "relative"}
    options = {key: value for key, value in how.items() if key not in policies and key != "options"}
    return policies, {**(more or {}), **options}


def as_schedule(value: Any, *, relative: bool = False) -> Schedule:
    """A schedule, from what stands under `schedule`: one of ours, seconds, a timedelta, a moment, a crontab's text, a
    form, or an object with Celery's `is_due`.

    Raises:
        ConfigError: It is none of these, or says something impossible.
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, (int, float, timedelta)) and not isinstance(value, bool):
        return every(value, aligned=relative)
    if isinstance(value, datetime):
        return at(value)
    if isinstance(value, str):
        return crontab.from_string(value)
    if isinstance(value, Mapping):
        return schedule_of(value)
    if callable(ours := getattr(value, "as_schedule", None)):
        found: Schedule = ours()
        return found
    if callable(getattr(value, "is_due", None)):
        return Asked(value)
    raise ConfigError(
        "expected crontab(…), every(…), at(…), solar(…), rrule(…), a number of seconds, a timedelta, or a crontab's "
        "five fields as a text"
    )


def instant_of(value: datetime | str | float) -> Instant:
    """Microseconds since the epoch, of an aware datetime or its ISO text, or of epoch seconds.

    Raises:
        ConfigError: It has no time zone, or is nothing of these.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not -_FAR_S <= value <= _FAR_S:
            raise ConfigError("no moment of this calendar; epoch seconds were taken for granted")
        return round(value * SECOND)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ConfigError("no moment; write it like 2026-12-01T10:00+01:00") from None
    if not isinstance(value, datetime):
        raise ConfigError("no moment; give a datetime with a time zone")
    if value.tzinfo is None:
        raise ConfigError(f"it has no time zone, so nobody knows when that is; write {value.isoformat()}+00:00, say")
    return instant(value)


_FAR_S: Final = 62e9
"""Two thousand years: what is added to the epoch or taken away leaves a date."""
_LONGEST_S: Final = 100 * 366 * 86_400.0


def iso_of(at: Instant, zone: tzinfo = UTC) -> str:
    """An instant as a text."""
    return moment_of(at, zone).isoformat()


def seconds_of(value: float | timedelta) -> float:
    """Seconds from 0, of a number or a timedelta.

    Raises:
        ConfigError: It is neither, negative, or longer than a hundred years.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if type(value) not in (int, float) or not 0 <= value <= _LONGEST_S:
        raise ConfigError("expected seconds from 0 to a hundred years, or a timedelta")
    return float(value)


def zone_name(zone: tzinfo) -> str:
    """As people know it."""
    return str(zone)


def _zone(value: Any, default: str | tzinfo) -> tzinfo:
    found = value or default
    return found if isinstance(found, tzinfo) else zone_of(found)


def _choice(value: Any, kind: Any) -> Any:
    if value not in get_args(kind):
        raise ConfigError(f"expected one of {', '.join(get_args(kind))}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError("expected True or False")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 10_000:
        raise ConfigError("expected a whole number from 1 to 10,000")
    return value


def _fingerprint(schedule: Schedule, zone: tzinfo, start: Instant, enabled: bool) -> str:
    facts = [schedule.form(), "" if schedule.is_elapsed else zone_name(zone), start, enabled]
    return hashlib.blake2s(msgspec.json.encode(facts, order="deterministic"), digest_size=8).hexdigest()
