"""Times on the wall, by minute, hour, day, month and weekday."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Self
from weakref import WeakValueDictionary

from celeriac.errors import ScheduleError
from celeriac.scheduler.crontab_words import describe, field_text
from celeriac.scheduler.schedule import Due
from celeriac.scheduler.value import Value
from celeriac.scheduler.walltime import (
    DAY,
    EARLIEST,
    HOUR,
    LATEST,
    SECOND,
    from_wall,
    is_shown,
    next_change,
    offset,
    stretches,
    wall,
)

if TYPE_CHECKING:
    from datetime import tzinfo

    from celeriac.model import Instant

Field = int | str | Iterable[int | str] | None
"""What a field may be given as."""

WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Kind(NamedTuple):
    """One of the five fields."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    allowed: str = ""


MINUTE = Kind("minute", 0, 59)
HOURS = Kind("hour", 0, 23)
DAY_OF_MONTH = Kind("day_of_month", 1, 31, allowed=", 'L' (the last day), 'L-2' (two days before it)")
MONTH_OF_YEAR = Kind("month_of_year", 1, 12, MONTHS, ", or names such as 'feb'")
DAY_OF_WEEK = Kind(
    "day_of_week", 0, 6, WEEKDAYS, " (Sunday is 0 or 7), names such as 'tue', 'tue#2' (the second), 'fri#L' (the last)"
)


class Days(NamedTuple):
    """Which days of a month: bits of numbers."""

    days: int
    """Bit 1 is the 1st."""
    from_end: int
    """Bit 0 is the last day."""
    weekdays: int
    """Bit 0 is Sunday."""
    nth: int
    """Bit 6 x weekday + n is the n-th of them in the month; n = 0 is the last."""

    def in_month(self, length: int, first: int) -> int:
        """Bits of the days of a month of this length that begins on this weekday."""
        all_days = (2 << length) - 2
        days = self.days & all_days
        if self.from_end:
            for back in _bits(self.from_end):
                if back < length:
                    days |= 1 << (length - back)
        if self.weekdays == 0b111_1111:
            return days
        chosen = 0
        for weekday in _bits(self.weekdays):
            chosen |= _WEEKLY << ((weekday - first) % 7)
        for place in _bits(self.nth):
            weekday, n = divmod(place, 6)
            day = 1 + (weekday - first) % 7
            day += 7 * ((length - day) // 7 if n == 0 else n - 1)
            if day <= length:
                chosen |= 1 << day
        return days & chosen


class Months:
    """The matching days of each of the 28 kinds of months: four lengths, seven weekdays to begin on."""

    __slots__ = ("__weakref__", "_by_shape", "days")

    def __init__(self, days: Days) -> None:
        self.days = days
        self._by_shape: list[int | None] = [None] * 28

    def of(self, year: int, month: int) -> int:
        return self.by_shape(_shape(year, month))

    def by_shape(self, shape: int) -> int:
        found = self._by_shape[shape]
        if found is None:
            found = self._by_shape[shape] = self.days.in_month(28 + shape // 7, shape % 7)
        return found


_LONGEST_TEXT = 1000
_COMMA = re.compile(r"\s*,\s*")
_EVERY_DAY = (1 << 32) - 2
_WEEKLY = sum(2 << week * 7 for week in range(5))
_months: WeakValueDictionary[Days, Months] = WeakValueDictionary()
_crontabs: WeakValueDictionary[tuple[Any, ...], crontab] = WeakValueDictionary()


def _fields(text: str) -> list[str]:
    return _COMMA.sub(",", text).split()


def _five(text: str) -> list[str]:
    fields = _fields(text)
    if len(fields) != 5:
        raise ScheduleError(
            f"crontab {text!r} has {len(fields)} field{'' if len(fields) == 1 else 's'}; five are wanted: minute, "
            "hour, day of month, month, day of week"
        )
    return fields


def _bits(mask: int) -> Iterable[int]:
    while mask:
        yield (mask & -mask).bit_length() - 1
        mask &= mask - 1


@lru_cache(maxsize=4096)
def _shape(year: int, month: int) -> int:
    from calendar import monthrange

    first, length = monthrange(year, month)
    return (length - 28) * 7 + (first + 1) % 7


def _refuse(kind: Kind, found: Any, why: str = "") -> NoReturn:
    names = kind.allowed
    raise ScheduleError(
        f"crontab: {kind.name}={found!r}{f': {why}' if why else ''}; "
        f"allowed are {kind.low} to {kind.high}{names}, and '*', '*/5', '1-5', '1-20/3', '1,3'"
    )


def _days(days: int, from_end: int, weekdays: int, nth: int) -> Days:
    """Without what is counted though it is chosen anyway, so that equal ones are one."""
    for place in _bits(nth):
        if weekdays >> place // 6 & 1:
            nth &= ~(1 << place)
    return Days(days, 0 if days == _EVERY_DAY else from_end, weekdays, nth)


def _number(kind: Kind, word: str, found: Any) -> int:
    if word.isascii() and word.isdecimal():
        number = int(word)
        if kind is DAY_OF_WEEK and number == 7:
            return 0
        if not kind.low <= number <= kind.high:
            _refuse(kind, found, f"{number} is out of range")
        return number
    if len(word) >= 3:
        for place, name in enumerate(kind.names):
            if name.startswith(word):
                return kind.low + place
    _refuse(kind, found, f"{word!r} is not one of its values" if word else "a value is missing")


def _part(kind: Kind, part: str, found: Any) -> tuple[int, int]:
    """Bits of the values that one part between commas means, and of what is counted otherwise."""
    if kind is DAY_OF_MONTH and part.startswith("l"):
        back = part[2:] if part[1:2] == "-" else "0" if part == "l" else ""
        if not (back.isascii() and back.isdecimal()) or int(back) > 30:
            _refuse(kind, found, f"{part.upper()!r} is not 'L' or 'L-1' to 'L-30'")
        return 0, 1 << int(back)
    if kind is DAY_OF_WEEK and "#" in part:
        name, _, n = part.partition("#")
        weekday = _number(kind, name, found)
        if n not in ("1", "2", "3", "4", "5", "l"):
            _refuse(kind, found, f"{part!r} never comes: '#' takes 1 to 5, or L for the last")
        return 0, 1 << (6 * weekday + (0 if n == "l" else int(n)))
    span, slash, step = part.partition("/")
    if slash and not (step.isascii() and step.isdecimal() and int(step) > 0):
        _refuse(kind, found, f"the step {step!r} is not a number above zero")
    values: Iterable[int]
    if span == "*":
        values = range(kind.low, kind.high + 1)
    else:
        begin, dash, end = span.partition("-")
        first = _number(kind, begin, found)
        if slash and not dash:
            _refuse(kind, found, f"a step needs a range: '{span}-{kind.high}/{step}'")
        last = _number(kind, end, found) if dash else first
        if kind is DAY_OF_WEEK and end == "7" and begin == "0":
            last = 6
        if last >= first:
            values = range(first, last + 1)
        else:  # around the end: 22-4
            values = [*range(first, kind.high + 1), *range(kind.low, last + 1)]
    mask = 0
    for value in list(values)[:: int(step) if slash else 1]:
        mask |= 1 << value
    return mask, 0


@lru_cache(maxsize=1024)
def _read_text(kind: Kind, text: str) -> tuple[int, int]:
    if len(text) > _LONGEST_TEXT:
        _refuse(kind, f"{text[:40]}…", f"the text has {len(text)} characters")
    plain, counted = 0, 0
    for part in text.lower().split(","):
        more, more_counted = _part(kind, part.strip(), text)
        plain |= more
        counted |= more_counted
    return plain, counted


def _read(kind: Kind, value: Any) -> tuple[int, int]:
    if value is None:
        value = "*"
    if isinstance(value, str):
        return _read_text(kind, value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _read_text(kind, str(value)) if value >= 0 else _refuse(kind, value, "it is negative")
    if isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
        plain, counted = 0, 0
        items = list(value)
        if not items:
            _refuse(kind, value, "it is empty")
        for item in items:
            if not isinstance(item, (int, str)) or isinstance(item, bool):
                _refuse(kind, value, f"{item!r} is neither a number nor a text")
            more, more_counted = _read(kind, item)
            plain |= more
            counted |= more_counted
        return plain, counted
    _refuse(kind, value, f"a {type(value).__name__} is neither a number, a text, nor several of them")


class crontab(Value):  # noqa: N801 -- Celery's name
    """Times on the wall, by the fields of a crontab.

    Each field is a number, a text (`"*"`, `"*/5"`, `"1-5"`, `"1-20/3"`, `"mon,wed"`, `"22-4"`), or several of them.
    All fields must match, day of month **and** weekday too: that is Celery's rule; cron's own is "or" for those two.

    Besides Celery's: `day_of_month="L"` is the last day of the month, `"L-2"` two days before it; `day_of_week="tue#2"`
    is the second Tuesday, `"fri#L"` the last Friday; Sunday is 0 or 7. All of them may stand in lists.

    A time that the wall does not show (a gap, in spring) is due right after the gap, all of one gap together once; a
    time that it shows twice (autumn) is due the first time. Where `hour` is all hours, what counts is time that passes:
    it is due in both passes, and nothing is due because of a gap.

    Args:
        minute: 0 to 59. Or, as the only argument, all five fields in the order of a crontab file: `"30 7 * * mon-fri"`.
        hour: 0 to 23.
        day_of_week: 0 to 6, Sunday is 0 (or 7); names.
        day_of_month: 1 to 31, `L`.
        month_of_year: 1 to 12; names.

    Raises:
        ScheduleError: A field is wrong, or no day ever matches.
    """

    __slots__ = ("__weakref__", "_hours", "_minutes", "_months", "_table")

    _minutes: int
    _hours: int
    _months: int
    _table: Months

    def __new__(
        cls,
        minute: Field = "*",
        hour: Field = "*",
        day_of_week: Field = "*",
        day_of_month: Field = "*",
        month_of_year: Field = "*",
    ) -> Self:
        if isinstance(minute, str) and len(_fields(minute)) > 1:
            if any(field != "*" for field in (hour, day_of_week, day_of_month, month_of_year)):
                raise ScheduleError(
                    f"crontab({minute!r}, …): a text of several fields is a whole crontab and stands alone; other "
                    "arguments were given, too"
                )
            minute, hour, day_of_month, month_of_year, day_of_week = _five(minute)
        minutes, hours, months = (
            _read(kind, value)[0] for kind, value in ((MINUTE, minute), (HOURS, hour), (MONTH_OF_YEAR, month_of_year))
        )
        days = _days(*_read(DAY_OF_MONTH, day_of_month), *_read(DAY_OF_WEEK, day_of_week))
        key = (cls, minutes, hours, months, *days)
        found = _crontabs.get(key)
        if found is None:
            table = _months.get(days)
            if table is None:
                table = _months.setdefault(days, Months(days))
            found = super().__new__(cls)
            found._put(_minutes=minutes, _hours=hours, _months=months, _table=table)
            found._check()
            found = _crontabs.setdefault(key, found)
        return found  # type: ignore[return-value]

    @classmethod
    def from_string(cls, crontab: str) -> Self:
        """Of the five fields in one text, in the order of a crontab file: minute, hour, day, month, weekday."""
        minute, hour, day_of_month, month_of_year, day_of_week = _five(crontab)
        return cls(minute, hour, day_of_week, day_of_month, month_of_year)

    def _check(self) -> None:
        for month in _bits(self._months):
            lengths = (0, 1) if month == 2 else (_LONGEST[month - 1] - 28,)
            if any(self._table.by_shape(7 * length + first) for length in lengths for first in range(7)):
                return
        day, months, weekday = str(self).split()[2:]
        raise ScheduleError(
            f"crontab {str(self)!r} never comes: no day is day_of_month={day!r} and day_of_week={weekday!r} in "
            f"month_of_year={months!r}"
        )

    def next_after(self, moment: Instant, zone: tzinfo, /) -> Instant | None:
        if not EARLIEST < moment < LATEST:
            return None
        if self._hours == 0xFFFFFF:
            return self._next_passing(moment, zone)
        nominal = self._following(datetime.fromtimestamp(moment // SECOND, zone))
        while nominal is not None:
            found = from_wall(nominal, zone)
            if found > moment:
                return found
            nominal = self._following(nominal)  # shown for the second time, or its gap is over
        return None

    def _next_passing(self, moment: Instant, zone: tzinfo) -> Instant | None:
        """The next instant at which the wall shows what matches, be it for the second time."""
        ahead, here = offset(moment, zone), wall(moment, zone)
        if (found := self._following(here)) is None:
            return None
        while True:
            then = moment // SECOND * SECOND + _microseconds(found, here)
            # Without a change of the offset it is there. Until a change the wall shows nothing that matches, and after
            # one nothing that it has not shown, but for one that soon follows: it can put the wall back before `here`.
            change = None
            for hours in range(3, 28, 3):
                probe = min(moment + hours * HOUR, then)
                if offset(probe, zone) != ahead:
                    change = next_change(moment, probe, zone)
                    break
                if probe == then:
                    return then
            if change is None:
                if is_shown(found, zone):
                    return from_wall(found, zone)
                change = from_wall(found, zone)
            moment, ahead, here = change, offset(change, zone), wall(change, zone)
            if self._matches(here):
                return change
            if (following := self._following(here)) is None:
                return None
            found = following

    def _matches(self, shown: datetime) -> bool:
        return bool(
            shown.second == 0
            and self._minutes >> shown.minute & 1
            and self._hours >> shown.hour & 1
            and self._months >> shown.month & 1
            and self._table.of(shown.year, shown.month) >> shown.day & 1
        )

    def _following(self, shown: datetime) -> datetime | None:
        """The first time on the wall after this minute that matches; None: none before the calendar ends."""
        year, month, day = shown.year, shown.month, shown.day
        minutes, hours, months = self._minutes, self._hours, self._months
        days = self._table.of(year, month) if months >> month & 1 else 0
        if days >> day & 1:
            hour = shown.hour
            if hours >> hour & 1 and (rest := minutes >> (minute := shown.minute + 1)):
                minute += (rest & -rest).bit_length() - 1
                return datetime(year, month, day, hour, minute)  # noqa: DTZ001
            if rest := hours >> (hour := hour + 1):
                hour += (rest & -rest).bit_length() - 1
                minute = (minutes & -minutes).bit_length() - 1
                return datetime(year, month, day, hour, minute)  # noqa: DTZ001
        days = days >> day + 1 << day + 1
        while not days:
            if rest := months >> (month + 1):
                month += (rest & -rest).bit_length()
            else:
                year, month = year + 1, (months & -months).bit_length() - 1
                if year > 9996:
                    return None
            days = self._table.of(year, month)
        day = (days & -days).bit_length() - 1
        hour = (hours & -hours).bit_length() - 1
        minute = (minutes & -minutes).bit_length() - 1
        return datetime(year, month, day, hour, minute)  # noqa: DTZ001

    def due(self, after: Instant, until: Instant, zone: tzinfo, /, *, newest: int) -> Due:
        if until - after < 2 * DAY:
            return super().due(after, until, zone, newest=newest)
        total = 0  # by arithmetic: a beat that was away for a week has no time to walk through it
        for begin, end, steady in stretches(after, until, zone):
            if steady:
                total += self._count(wall(end, zone)) - self._count(wall(begin, zone))
                total += self._full_months(wall(begin, zone), wall(end, zone))
            else:
                total += super().due(begin, end, zone, newest=0).total
        span = HOUR
        while True:
            begin = max(after, until - span)
            found = super().due(begin, until, zone, newest=newest)
            if len(found.newest) == newest or begin == after:
                return Due(found.newest, total)
            span *= 8

    def _count(self, shown: datetime) -> int:
        """How many times match in its month, up to and with this minute."""
        if not self._months >> shown.month & 1:
            return 0
        days = self._table.of(shown.year, shown.month)
        count = (days & ((1 << shown.day) - 1)).bit_count() * self._hours.bit_count() * self._minutes.bit_count()
        if days >> shown.day & 1:
            count += (self._hours & ((1 << shown.hour) - 1)).bit_count() * self._minutes.bit_count()
            if self._hours >> shown.hour & 1:
                count += (self._minutes & ((2 << shown.minute) - 1)).bit_count()
        return count

    def _full_months(self, begin: datetime, end: datetime) -> int:
        """How many times match from the month of `begin`, with it, to that of `end`, without it."""
        days = 0
        for place in range(begin.year * 12 + begin.month - 1, end.year * 12 + end.month - 1):
            year, month = divmod(place, 12)
            if self._months >> month + 1 & 1:
                days += self._table.of(year, month + 1).bit_count()
        return days * self._hours.bit_count() * self._minutes.bit_count()

    def __str__(self) -> str:
        days = self._table.days
        return " ".join(
            (
                field_text(self._minutes, 0, 59),
                field_text(self._hours, 0, 23),
                field_text(days.days, 1, 31, [f"L-{back}" if back else "L" for back in _bits(days.from_end)]),
                field_text(self._months, 1, 12, names=MONTHS),
                field_text(
                    days.weekdays, 0, 6,
                    [f"{WEEKDAYS[place // 6][:3]}#{place % 6 or 'L'}" for place in _bits(days.nth)],
                    names=WEEKDAYS,
                ),
            )
        )  # fmt: skip

    def describe(self) -> str:
        return describe(self._minutes, self._hours, self._months, *self._table.days) or f"crontab {self}"

    def form(self) -> dict[str, Any]:
        return {"crontab": str(self)}

    def _key(self) -> tuple[int, ...]:
        return (self._minutes, self._hours, self._months, *self._table.days)

    def __repr__(self) -> str:
        return f"crontab({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return crontab.from_string, (str(self),)


def _microseconds(later: datetime, earlier: datetime) -> int:
    passed = later - earlier
    return (passed.days * 86_400 + passed.seconds) * SECOND
