"""Celery's schedules: intervals, crontabs, and positions of the sun."""

from __future__ import annotations

import inspect
import re
from collections import namedtuple
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Final

from celeriac.compat.celery._state import get_current_app
from celeriac.errors import ScheduleError
from celeriac.scheduler.asked import Asked
from celeriac.scheduler.at import at
from celeriac.scheduler.crontab import crontab as _ours
from celeriac.scheduler.entry import instant_of
from celeriac.scheduler.every import every
from celeriac.scheduler.walltime import moment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from celeriac.scheduler.schedule import Schedule

__all__ = [
    "BaseSchedule",
    "ParseException",
    "crontab",
    "crontab_parser",
    "maybe_schedule",
    "schedstate",
    "schedule",
    "solar",
]

schedstate = namedtuple("schedstate", ("is_due", "next"))

_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_EVENTS = frozenset(
    {
        "dawn_astronomical",
        "dawn_civil",
        "dawn_nautical",
        "dusk_astronomical",
        "dusk_civil",
        "dusk_nautical",
        "solar_noon",
        "sunrise",
        "sunset",
    }
)
_SHORTEST = timedelta(milliseconds=1)
_NEVER_DAYS = 36_500
_DECIDING = ("is_due", "remaining_estimate", "remaining_delta")
_SAME_AS_OURS: Final[Mapping[str, Callable[[Any], Schedule]]] = {
    "django_celery_beat.tzcrontab.TzAwareCrontab": lambda known: known._twin(),  # its zone is the entry's
    "django_celery_beat.clockedschedule.clocked": lambda known: at(known.clocked_time),
}
"""Subclasses of which we know what they decide."""


class ParseException(Exception):
    """A part of a crontab is not one."""


class BaseSchedule:
    """When something happens.

    The arithmetic of the classes here is celeriac's; a beat takes their twins of `celeriac`, by `as_schedule`. A
    subclass that decides by itself, in `is_due`, is asked.

    Args:
        nowfun: Returns this moment; the application's clock unless given.
        app: Whose time zone counts; the current one unless given.
    """

    _tz: tzinfo | None = None

    def __init__(self, nowfun: Callable[[], datetime] | None = None, app: Any = None) -> None:
        self.nowfun = nowfun
        self._app = app

    @property
    def app(self) -> Any:
        return self._app if self._app is not None else get_current_app()

    @app.setter
    def app(self, app: Any) -> None:
        self._app = app

    @property
    def tz(self) -> tzinfo:
        """Where the wall is; may be set, as django-celery-beat does."""
        found: tzinfo = self._tz or self.app.timezone
        return found

    @tz.setter
    def tz(self, zone: tzinfo | None) -> None:
        self._tz = zone

    @property
    def own_zone(self) -> tzinfo | None:
        """The zone that it brings along, which is then its entry's; None: the application's."""
        own = inspect.getattr_static(type(self), "tz") is not inspect.getattr_static(BaseSchedule, "tz")
        return self.tz if own else self._tz

    @property
    def utc_enabled(self) -> bool:
        return True

    def now(self) -> datetime:
        """This moment."""
        moment: datetime = (self.nowfun or self.app.now)()
        return moment

    def maybe_make_aware(self, dt: datetime, naive_as_utc: bool = True) -> datetime:
        """With a time zone."""
        return dt if dt.tzinfo is not None else dt.replace(tzinfo=UTC if naive_as_utc else self.tz)

    def to_local(self, dt: datetime) -> datetime:
        return self.maybe_make_aware(dt).astimezone(self.tz)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """How long until it is due."""
        raise NotImplementedError

    def is_due(self, last_run_at: datetime) -> Any:
        """Whether it is due, and in how many seconds to look again."""
        raise NotImplementedError

    def as_schedule(self) -> Schedule:
        """What a beat works with.

        Raises:
            ScheduleError: It says something impossible.
        """
        kind = type(self)
        if (known := _SAME_AS_OURS.get(f"{kind.__module__}.{kind.__qualname__}")) is not None:
            found: Schedule = known(self)
            return found
        mine = next((each for each in kind.__mro__ if each.__module__ == __name__), BaseSchedule)
        if any(getattr(kind, name, None) is not getattr(mine, name, None) for name in _DECIDING):
            return Asked(self)
        return self._twin() or Asked(self)

    def _twin(self) -> Schedule | None:
        """The same schedule of celeriac's."""
        return None

    def _left(self, last_run_at: datetime) -> timedelta:
        """From now until the first instant after `last_run_at`."""
        last = instant_of(self.maybe_make_aware(last_run_at))
        twin = self._twin()
        following = None if twin is None else twin.next_after(last, self.tz)
        if following is None:
            return timedelta(days=_NEVER_DAYS)
        return timedelta(microseconds=following - instant_of(self.maybe_make_aware(self.now())))


class schedule(BaseSchedule):
    """Every so often.

    Args:
        run_every: Seconds, or a timedelta.
        relative: Rounded to whole units of it: every two hours means full hours.
        nowfun: As of the base.
        app: As of the base.
    """

    relative = False

    def __init__(self, run_every: Any = None, relative: bool = False, nowfun: Any = None, app: Any = None) -> None:
        super().__init__(nowfun, app)
        self.run_every = run_every if isinstance(run_every, timedelta) else timedelta(seconds=run_every or 0)
        self.relative = relative

    @property
    def seconds(self) -> float:
        return max(self.run_every.total_seconds(), 0)

    @property
    def human_seconds(self) -> str:
        from celeriac.compat.celery.utils.time import humanize_seconds

        return humanize_seconds(self.seconds)

    def _twin(self) -> Schedule:
        return every(self.run_every, aligned=self.relative)

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        if self.run_every < _SHORTEST:  # Celery has such an interval, and it is always over
            return self.maybe_make_aware(last_run_at) + self.run_every - self.maybe_make_aware(self.now())
        return self._left(last_run_at)

    def is_due(self, last_run_at: datetime) -> Any:
        left_s = max(self.remaining_estimate(last_run_at).total_seconds(), 0)
        if left_s > 0:
            return schedstate(is_due=False, next=left_s)
        next_s = self.remaining_estimate(self.now()).total_seconds() if self.relative else 0
        return schedstate(is_due=True, next=next_s if next_s > 0 else self.seconds)

    def __repr__(self) -> str:
        return f"<freq: {self.human_seconds}>"

    def __eq__(self, other: object) -> bool:
        return self.run_every == (other.run_every if isinstance(other, schedule) else other)

    def __hash__(self) -> int:
        return hash(self.run_every)

    def __reduce__(self) -> Any:
        return type(self), (self.run_every, self.relative, self.nowfun)


class crontab_parser:
    """Reads one field of a crontab: `*`, `*/5`, `1-5`, `mon,wed`, `10-20/2`, `22-4`.

    Args:
        max_: How many values there are.
        min_: The first one.
    """

    ParseException = ParseException

    def __init__(self, max_: int = 60, min_: int = 0) -> None:
        self.max_ = max_
        self.min_ = min_

    def parse(self, spec: str) -> set[int]:
        """The values it means.

        Raises:
            ParseException: It is none.
            ValueError: A value is out of range.
        """
        found: set[int] = set()
        for part in spec.split(","):
            if not part:
                raise ParseException(f"{spec!r} has an empty part")
            found |= set(self._part(part.strip()))
        return found

    def _part(self, part: str) -> Iterable[int]:
        match = re.fullmatch(r"(\*|[\w]+(?:-[\w]+)?)(?:/(\w+))?", part)
        if match is None:
            raise ParseException(f"{part!r} is no field of a crontab")
        body, step = match.groups()
        last = self.min_ + self.max_ - 1
        if body == "*":
            values = list(range(self.min_, last + 1))
        else:
            first, dash, end = body.partition("-")
            start = self._number(first)
            stop = self._number(end) if dash else start
            if stop < start:  # over the end of the week, the day, the year
                values = [*range(start, last + 1), *range(self.min_, stop + 1)]
            else:
                values = list(range(start, stop + 1))
        if step is None:
            return values
        every = int(step) if step.isdigit() else 0
        if every < 1:
            raise ParseException(f"{part!r} has a step that is no number from 1")
        return values[::every]

    def _number(self, text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            lower = text.lower()[:3]
            if lower in _WEEKDAYS and self.max_ == 7:
                number = _WEEKDAYS.index(lower)
            elif lower in _MONTHS and self.max_ == 12:
                number = _MONTHS.index(lower) + 1
            else:
                raise ValueError(f"{text!r} is neither a number nor a name that fits here") from None
        if number == 7 and self.max_ == 7 and self.min_ == 0:
            number = 0
        if not self.min_ <= number <= self.min_ + self.max_ - 1:
            raise ValueError(f"{number} is not between {self.min_} and {self.min_ + self.max_ - 1}")
        return number


class crontab(BaseSchedule):
    """At the minutes that these fields mean, as in a crontab; each is a number, a text, or a set of numbers.

    Args:
        minute: 0 to 59.
        hour: 0 to 23.
        day_of_week: 0 (Sunday) to 6, or names.
        day_of_month: 1 to 31.
        month_of_year: 1 to 12, or names.
        nowfun: As of the base.
        app: As of the base.
    """

    def __init__(
        self,
        minute: Any = "*",
        hour: Any = "*",
        day_of_week: Any = "*",
        day_of_month: Any = "*",
        month_of_year: Any = "*",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._orig_minute = _cronspec(minute)
        self._orig_hour = _cronspec(hour)
        self._orig_day_of_week = _cronspec(day_of_week)
        self._orig_day_of_month = _cronspec(day_of_month)
        self._orig_month_of_year = _cronspec(month_of_year)
        self._orig_kwargs = kwargs
        self.minute = self._expand_cronspec(minute, 60)
        self.hour = self._expand_cronspec(hour, 24)
        self.day_of_week = self._expand_cronspec(day_of_week, 7)
        self.day_of_month = self._expand_cronspec(day_of_month, 31, 1)
        self.month_of_year = self._expand_cronspec(month_of_year, 12, 1)
        try:
            self._twin()
        except ScheduleError as exc:  # no day of it ever comes
            raise ValueError(str(exc)) from None

    @classmethod
    def from_string(cls, crontab: str) -> crontab:
        """Of the five fields in one text, in the order of a crontab file."""
        fields = crontab.split()
        if len(fields) != 5:
            raise ValueError(f"a crontab has five fields, minute to weekday; {crontab!r} has {len(fields)}")
        minute, hour, day_of_month, month_of_year, day_of_week = fields
        return cls(minute, hour, day_of_week, day_of_month, month_of_year)

    @staticmethod
    def _expand_cronspec(cronspec: Any, max_: int, min_: int = 0) -> set[int]:
        values: set[Any]
        if isinstance(cronspec, int):
            values = {cronspec}
        elif isinstance(cronspec, str):
            values = crontab_parser(max_, min_).parse(cronspec)
        elif isinstance(cronspec, (set, frozenset, list, tuple)) or hasattr(cronspec, "__iter__"):
            values = set(cronspec)
        else:
            raise TypeError(f"a field of a crontab is a number, a text or several numbers, not {cronspec!r}")
        for number in values:
            if not isinstance(number, int) or not min_ <= number <= min_ + max_ - 1:
                raise ValueError(f"a field of a crontab takes {min_} to {min_ + max_ - 1}, not {number!r}")
        return values

    def _twin(self) -> Schedule:
        return _ours(self.minute, self.hour, self.day_of_week, self.day_of_month, self.month_of_year)

    def remaining_delta(
        self, last_run_at: datetime, tz: Any = None, ffwd: Any = None
    ) -> tuple[datetime, timedelta, datetime]:
        """When it ran, how long from then to the next time on the wall, and this moment."""
        from celeriac.compat.celery.utils.time import timezone

        zone = timezone.get_timezone(tz) if tz else self.tz
        last = self.maybe_make_aware(last_run_at).astimezone(zone)
        following = self._twin().next_after(instant_of(last), zone)
        delta = timedelta(days=_NEVER_DAYS)
        if following is not None:
            delta = moment_of(following, zone).replace(tzinfo=None) - last.replace(tzinfo=None)
        return last, delta, self.maybe_make_aware(self.now()).astimezone(zone)

    def remaining_estimate(self, last_run_at: datetime, ffwd: Any = None) -> timedelta:
        if type(self).remaining_delta is not crontab.remaining_delta:
            start, delta, now = self.remaining_delta(last_run_at)
            return (start + delta) - now
        return self._left(last_run_at)

    def is_due(self, last_run_at: datetime) -> Any:
        left_s = self.remaining_estimate(last_run_at).total_seconds()
        is_due = left_s <= 0
        deadline_s = self._deadline_s() if is_due else None
        if deadline_s is not None:
            # the last one that came must not be older than that
            is_due = self.remaining_estimate(self.now() - timedelta(seconds=deadline_s, microseconds=1)) <= timedelta(0)
        if left_s <= 0:
            left_s = self.remaining_estimate(self.now()).total_seconds()
        return schedstate(is_due=is_due, next=max(left_s, 0))

    def _deadline_s(self) -> float | None:
        conf = getattr(self.app, "conf", None)
        found: float | None = None if conf is None else conf.beat_cron_starting_deadline
        return found

    def _fields(self) -> tuple[Any, ...]:
        return self.month_of_year, self.day_of_month, self.day_of_week, self.hour, self.minute

    def __repr__(self) -> str:
        fields = (
            self._orig_minute, self._orig_hour, self._orig_day_of_month, self._orig_month_of_year,
            self._orig_day_of_week,
        )  # fmt: skip
        return "<crontab: {} {} {} {} {} (m/h/dM/MY/d)>".format(*fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, crontab) and other._fields() == self._fields()

    def __hash__(self) -> int:
        return hash(tuple(frozenset(field) for field in self._fields()))

    def __reduce__(self) -> Any:
        return (
            type(self),
            (
                self._orig_minute, self._orig_hour, self._orig_day_of_week, self._orig_day_of_month,
                self._orig_month_of_year,
            ),
            self._orig_kwargs,
        )  # fmt: skip

    def __setstate__(self, state: Any) -> None:
        super().__init__(**state)


class solar(BaseSchedule):
    """At a position of the sun; needs the extra `celeriac[solar]` when it is asked, not when it is made.

    Args:
        event: Such as `sunrise`.
        lat: Degrees north.
        lon: Degrees east.
        kwargs: As of the base.
    """

    _all_events = _EVENTS

    def __init__(self, event: str, lat: float, lon: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if event not in _EVENTS:
            raise ValueError(f"event {event!r} is none of {sorted(_EVENTS)}")
        if not -90 <= lat <= 90:
            raise ValueError(f"lat={lat} is not between -90 and 90")
        if not -180 <= lon <= 180:
            raise ValueError(f"lon={lon} is not between -180 and 180")
        self.event, self.lat, self.lon = event, lat, lon

    def _twin(self) -> Schedule:
        from celeriac.scheduler.solar import solar as ours

        found: Schedule = ours(self.event, float(self.lat), float(self.lon))
        return found

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return self._left(last_run_at)

    def is_due(self, last_run_at: datetime) -> Any:
        left_s = max(self.remaining_estimate(last_run_at).total_seconds(), 0)
        if left_s > 0:
            return schedstate(is_due=False, next=left_s)
        return schedstate(is_due=True, next=max(self.remaining_estimate(self.now()).total_seconds(), 0))

    def __repr__(self) -> str:
        return f"<solar: {self.event} at latitude {self.lat}, longitude: {self.lon}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, solar) and (self.event, self.lat, self.lon) == (other.event, other.lat, other.lon)

    def __hash__(self) -> int:
        return hash((self.event, self.lat, self.lon))

    def __reduce__(self) -> Any:
        return type(self), (self.event, self.lat, self.lon)


def _cronspec(value: Any) -> Any:
    return value if isinstance(value, (int, str)) else ",".join(map(str, sorted(value)))


def maybe_schedule(s: Any, relative: bool = False, app: Any = None) -> Any:
    """A schedule of a number of seconds or a timedelta; a schedule as it is."""
    if isinstance(s, bool) or s is None:
        return s
    if isinstance(s, (int, float, timedelta)):
        return schedule(s, relative, app=app)
    if app is not None and isinstance(s, BaseSchedule):
        s.app = app
    return s
