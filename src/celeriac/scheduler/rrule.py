"""Recurrence rules of calendars, RFC 5545."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from celeriac.errors import ScheduleError
from celeriac.scheduler.crontab_words import join, ordinal
from celeriac.scheduler.value import Value
from celeriac.scheduler.walltime import EARLIEST, LATEST, from_wall, instant, wall

if TYPE_CHECKING:
    from datetime import tzinfo

    from celeriac.model import Instant

_FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
_UNITS = {"DAILY": "day", "WEEKLY": "week", "MONTHLY": "month", "YEARLY": "year"}
_WEEKDAYS = {
    "MO": "Monday", "TU": "Tuesday", "WE": "Wednesday", "TH": "Thursday", "FR": "Friday", "SA": "Saturday",
    "SU": "Sunday",
}  # fmt: skip
_CODES = tuple(_WEEKDAYS)
_RANGES = {
    "BYMONTH": (1, 12), "BYMONTHDAY": (-31, 31), "BYYEARDAY": (-366, 366), "BYWEEKNO": (-53, 53),
    "BYHOUR": (0, 23), "BYMINUTE": (0, 59), "BYSECOND": (0, 59), "BYSETPOS": (-366, 366),
}  # fmt: skip
_PARTS = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYMONTH", "BYWEEKNO", "BYYEARDAY", "BYMONTHDAY", "BYDAY",
          "BYHOUR", "BYMINUTE", "BYSECOND", "BYSETPOS")  # fmt: skip
_DAY_PARTS = ("BYWEEKNO", "BYYEARDAY", "BYMONTHDAY", "BYDAY")
_TIME_PARTS = ("BYHOUR", "BYMINUTE", "BYSECOND")
_WEEKDAY = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)")
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ANCHOR = date(1970, 1, 5)
"""Where a rule begins that does not ask when it begins. A Monday."""
_MOST_TIMES = 10_000
_LONGEST_TEXT = 1000
_RARE_YEARS = 41
"""A rule that matches nothing in so many of its periods, in years, matches nothing: a 29th of February that is a given
weekday may need forty."""


class rrule(Value):  # noqa: N801
    """By a rule of calendars, such as every second Tuesday: `rrule("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU", at="09:00", …)`.

    It speaks of the wall: what a crontab's gap and fold are is the same here. FREQ is DAILY, WEEKLY, MONTHLY or YEARLY;
    what comes more often is better said by a crontab or `every`.

    Args:
        rule: RFC 5545's text. A line `DTSTART:20260106T090000` may stand before it, instead of the other arguments.
        at: The time of day, `"09:00"`; midnight unless given. For several, BYHOUR and BYMINUTE.
        start: The first day that may match, `"2026-01-06"`; from it, INTERVAL and COUNT count, and it gives what the
            rule leaves open (FREQ=YEARLY alone is this day each year). A rule that asks for none needs none.

    Raises:
        ScheduleError: The rule is wrong, never matches, or the package `python-dateutil` is missing
            (`pip install celeriac[rrule]`).
    """

    __slots__ = ("_last", "_rule", "_start", "_time")

    _rule: str
    _time: str
    _start: str
    _last: datetime | None
    """By COUNT."""

    def __init__(
        self, rule: str, /, *, at: str | time | None = None, start: str | date | datetime | None = None
    ) -> None:
        if not isinstance(rule, str):
            raise ScheduleError(f"rrule({rule!r}): the text of a rule is wanted, such as 'FREQ=WEEKLY;BYDAY=TU'")
        if len(rule) > _LONGEST_TEXT:
            raise ScheduleError(f"rrule('{rule[:40]}…'): a rule of {len(rule)} characters; at most {_LONGEST_TEXT}")
        text, begin, hour = _split(rule)
        call = f"rrule({rule!r})"
        if begin is not None and (start is not None or (at is not None and hour is not None)):
            raise ScheduleError(f"{call}: DTSTART stands in the rule; leave out start= and at=")
        if start is not None:
            begin, hour = _read_start(call, start)
        if at is not None:
            if hour is not None:
                raise ScheduleError(f"{call}: start={start!r} has a time of day, and so has at={at!r}; give one")
            hour = _read_time(call, at)
        parts = _read_rule(call, text)
        if hour is not None and any(part in parts for part in _TIME_PARTS):
            raise ScheduleError(f"{call}: the time of day is given twice, by at= or DTSTART and by BYHOUR and its like")
        self._check_start(call, parts, begin)
        try:
            import dateutil.rrule  # noqa: F401
        except ImportError:
            raise ScheduleError(
                f"{call}: rules are computed by the package python-dateutil, which is not installed; "
                "pip install 'celeriac[rrule]'"
            ) from None
        self._put(
            _rule=";".join(f"{name}={parts[name]}" for name in _PARTS if name in parts),
            _time="" if hour is None else hour.isoformat("auto" if hour.second else "minutes"),
            _start="" if begin is None else begin.isoformat(),
            _last=None,
        )
        first = next(self._from(None), None) if _may_come(*_options(self._rule)) else None
        if first is None:
            raise ScheduleError(f"{call} never comes")
        if "UNTIL" in parts:
            end = _moment(parts["UNTIL"])
            assert end is not None
            if first.date() > end.date() + timedelta(days=1 if parts["UNTIL"].endswith("Z") else 0):
                raise ScheduleError(f"{call} never comes: its first time would be {first}, after its UNTIL")
        if "COUNT" in parts:
            self._put(_last=self._nth(int(parts["COUNT"])))

    def _nth(self, number: int) -> datetime | None:
        """The time on the wall that is its last one, when there are so many; None: there are fewer."""
        last = None
        while number:
            more = False
            for nominal in self._from(last):
                if last is None or nominal > last:
                    last, number, more = nominal, number - 1, True
                    if not number:
                        break
            if not more:
                return None
        return last

    @staticmethod
    def _check_start(call: str, parts: Mapping[str, str], begin: date | None) -> None:
        if begin is not None:
            return
        why = ""
        if parts.get("INTERVAL", "1") != "1":
            why = "INTERVAL counts from a first day"
        elif "COUNT" in parts:
            why = "COUNT counts from a first day"
        elif parts["FREQ"] != "DAILY" and not any(part in parts for part in _DAY_PARTS):
            why = f"FREQ={parts['FREQ']} without a day means that of the first one"
        if why:
            raise ScheduleError(f"{call}: {why}; give start='2026-01-06'")

    def _from(self, shown: datetime | None) -> Iterator[datetime]:
        """Its times on the wall in order, from a little before this one, or from the first.

        Not from the first on always: a rule would get slower with the years.
        """
        import dateutil.rrule as dateutil

        parts, options = _options(self._rule)
        begin = date.fromisoformat(self._start) if self._start else _ANCHOR
        at = time.fromisoformat(self._time) if self._time else time()
        interval: int = options["interval"]
        options = dict(options)
        if not any(part in parts for part in _DAY_PARTS):
            if parts["FREQ"] == "YEARLY":
                options.setdefault("bymonth", begin.month)
                options["bymonthday"] = begin.day
            elif parts["FREQ"] == "MONTHLY":
                options["bymonthday"] = begin.day
            elif parts["FREQ"] == "WEEKLY":
                options["byweekday"] = begin.weekday()
        if shown is not None:
            begin = _ahead(parts["FREQ"], interval, begin, shown.date())
        years = _RARE_YEARS * (interval if parts["FREQ"] == "YEARLY" else 1 + interval // 12)
        until = datetime(min(begin.year + years, 9996), 12, 31)  # noqa: DTZ001
        options["dtstart"] = datetime.combine(begin, at)
        made: Iterator[datetime] = iter(dateutil.rrule(**options, until=until))
        return made

    def next_after(self, moment: Instant, zone: tzinfo, /) -> Instant | None:
        if not EARLIEST < moment < LATEST:
            return None
        shown = wall(moment, zone)
        until = _options(self._rule)[0].get("UNTIL", "")
        for nominal in self._from(shown):
            if nominal <= shown:
                continue
            if self._last is not None and nominal > self._last:
                return None
            found = from_wall(nominal, zone)
            if until and not _is_within(nominal, found, until):
                return None
            if found > moment:  # not so in the second pass of a fold
                return found
        return None

    def describe(self) -> str:
        parts, _ = _options(self._rule)
        text = _words(parts, self._start)
        if text is None or any(part in parts for part in _TIME_PARTS):
            text = f"by the rule {self._rule}" if self._rule else ""
            text += f" at {self._time}" if self._time else ""
        else:
            text += f" at {self._time or '00:00'}"
            if "UNTIL" in parts:
                text += f", until {_written(parts['UNTIL'])}"
            if "COUNT" in parts:
                text += f", {parts['COUNT']} times" if parts["COUNT"] != "1" else ", once"
        return f"{text}, from {self._start}" if self._start else text

    def form(self) -> dict[str, Any]:
        form = {"rrule": self._rule, "time": self._time, "start": self._start}
        return {key: value for key, value in form.items() if value}

    def _key(self) -> tuple[str, str, str]:
        return self._rule, self._time, self._start

    def __repr__(self) -> str:
        options = "".join(
            f", {name}={value!r}" for name, value in (("at", self._time), ("start", self._start)) if value
        )
        return f"rrule({self._rule!r}{options})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (*self._key(), self._last)


def _again(rule: str, at: str, start: str, last: datetime | None) -> rrule:
    made = rrule.__new__(rrule)
    made._put(_rule=rule, _time=at, _start=start, _last=last)
    return made


def _split(text: str) -> tuple[str, date | None, time | None]:
    """The rule itself, and what a line DTSTART says."""
    rule, begin, hour = "", None, None
    for line in text.upper().split():
        name, colon, value = line.partition(":")
        if not colon or name == "RRULE":
            if rule:
                raise ScheduleError(f"rrule({text!r}): one rule is wanted, found a second one, {line!r}")
            rule = value if colon else line
        elif name.partition(";")[0] == "DTSTART":
            if "TZID" in name or value.endswith("Z"):
                raise ScheduleError(
                    f"rrule({text!r}): DTSTART with a zone; the zone is the entry's: write DTSTART:20260106T090000, "
                    "and timezone= with the entry"
                )
            found = _moment(value)
            if found is None:
                raise ScheduleError(f"rrule({text!r}): DTSTART {value!r}; write DTSTART:20260106T090000")
            begin, hour = found.date(), found.time() if "T" in value else None
        else:
            raise ScheduleError(f"rrule({text!r}): {name} is not supported; lines are DTSTART and RRULE")
    return rule, begin, hour


def _moment(text: str) -> datetime | None:
    """`20260106`, `20260106T090000`, and the latter with Z, which is left out here."""
    for pattern in ("%Y%m%dT%H%M%SZ", "%Y%m%dT%H%M%S", "%Y%m%d"):
        try:
            return datetime.strptime(text, pattern)  # noqa: DTZ007
        except ValueError:
            continue
    return None


def _read_start(call: str, start: Any) -> tuple[date, time | None]:
    found = start
    if isinstance(found, str):
        try:
            found = datetime.fromisoformat(found) if len(found.strip()) > 10 else date.fromisoformat(found.strip())
        except ValueError:
            found = None
    if isinstance(found, datetime):
        if found.tzinfo is not None:
            raise ScheduleError(f"{call}: start={start!r} has a zone; a rule speaks of the entry's: leave it out")
        return found.date(), found.time().replace(microsecond=0)
    if isinstance(found, date):
        return found, None
    raise ScheduleError(f"{call}: start={start!r} is not a day; write start='2026-01-06'")


def _read_time(call: str, at: Any) -> time:
    found = at
    if isinstance(found, str):
        try:
            found = time.fromisoformat(found.strip())
        except ValueError:
            found = None
    if not isinstance(found, time) or found.tzinfo is not None:
        raise ScheduleError(f"{call}: at={at!r} is not a time of day; write at='09:00'")
    return found.replace(microsecond=0)


def _read_rule(call: str, text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in text.strip(";").split(";"):
        name, _, value = part.partition("=")
        if name not in _PARTS:
            raise ScheduleError(f"{call}: no part {name!r} in a rule; there are {', '.join(_PARTS)}")
        if name in parts:
            raise ScheduleError(f"{call}: {name} stands there twice")
        if not _is_good(name, value):
            raise ScheduleError(f"{call}: {name}={value!r}; {_wanted(name)}")
        parts[name] = value
    if "FREQ" not in parts:
        raise ScheduleError(f"{call}: FREQ is missing; it is one of {', '.join(_FREQUENCIES)}")
    if "COUNT" in parts and "UNTIL" in parts:
        raise ScheduleError(f"{call}: COUNT and UNTIL exclude each other")
    if "BYSETPOS" in parts and not any(part in parts for part in (*_DAY_PARTS, *_TIME_PARTS, "BYMONTH")):
        raise ScheduleError(f"{call}: BYSETPOS picks from what other BY parts give; there is none")
    if any(not code.isalpha() for code in parts.get("BYDAY", "MO").split(",")) and (
        parts["FREQ"] not in ("MONTHLY", "YEARLY") or "BYWEEKNO" in parts
    ):
        raise ScheduleError(f"{call}: a number in BYDAY, as in 2TU, goes with FREQ=MONTHLY or YEARLY, without BYWEEKNO")
    if parts.get("INTERVAL") == "1":
        del parts["INTERVAL"]
    return parts


def _is_good(name: str, value: str) -> bool:
    if name == "FREQ":
        return value in _FREQUENCIES
    if name in ("INTERVAL", "COUNT"):
        return (
            value.isascii() and value.isdecimal() and 1 <= int(value) <= (1000 if name == "INTERVAL" else _MOST_TIMES)
        )
    if name == "UNTIL":
        return _moment(value) is not None
    if name == "WKST":
        return value in _CODES
    if name == "BYDAY":
        return all(
            (match := _WEEKDAY.fullmatch(code)) is not None and (match[1] is None or 1 <= abs(int(match[1])) <= 53)
            for code in value.split(",")
        )
    low, high = _RANGES[name]
    return all(
        re.fullmatch(r"[+-]?\d{1,3}", number) is not None
        and low <= int(number) <= high
        and (low >= 0 or int(number) != 0)
        for number in value.split(",")
    )


def _wanted(name: str) -> str:
    if name == "FREQ":
        return f"one of {', '.join(_FREQUENCIES)}; for what comes more often, take crontab or every"
    if name == "INTERVAL":
        return "a number from 1 to 1000"
    if name == "COUNT":
        return f"a number from 1 to {_MOST_TIMES}; for more, UNTIL"
    if name == "UNTIL":
        return "write 20261231, 20261231T170000, or 20261231T160000Z for UTC"
    if name in ("WKST", "BYDAY"):
        return f"{', '.join(_CODES)}{' with a number before it or none, as in 2TU or -1FR' if name == 'BYDAY' else ''}"
    low, high = _RANGES[name]
    return f"numbers from {low} to {high}{' without 0' if low < 0 else ''}, separated by commas"


@lru_cache(maxsize=1024)
def _options(rule: str) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    """A rule's parts, and what they are for dateutil."""
    import dateutil.rrule as dateutil

    parts = dict(part.split("=") for part in rule.split(";"))
    options: dict[str, Any] = {
        "freq": {"DAILY": dateutil.DAILY, "WEEKLY": dateutil.WEEKLY, "MONTHLY": dateutil.MONTHLY}.get(
            parts["FREQ"], dateutil.YEARLY
        ),
        "interval": int(parts.get("INTERVAL", "1")),
        "wkst": _CODES.index(parts.get("WKST", "MO")),
    }
    for name in _RANGES:
        if name in parts:
            options[name.lower()] = [int(number) for number in parts[name].split(",")]
    if "BYDAY" in parts:
        found = [_WEEKDAY.fullmatch(code) for code in parts["BYDAY"].split(",")]
        options["byweekday"] = [
            dateutil.weekday(_CODES.index(match[2]), int(match[1]) if match[1] else None)
            for match in found
            if match is not None
        ]
    return parts, options


def _may_come(parts: Mapping[str, str], options: Mapping[str, Any]) -> bool:
    """Whether some day may match. Dateutil would search the calendar to its end, for seconds, for those that cannot."""
    months = options.get("bymonth", range(1, 13))
    if "bymonthday" in options and not any(
        abs(day) <= _LONGEST[month - 1] for day in options["bymonthday"] for month in months
    ):
        return False
    if "bysetpos" not in options:
        return True
    size = 1  # of the set that it picks from, at most
    for name in _TIME_PARTS:
        size *= len(options.get(name.lower(), "1"))
    if parts["FREQ"] == "WEEKLY":
        size *= len(options.get("byweekday", "1"))
    elif parts["FREQ"] != "DAILY":
        size *= 31 if parts["FREQ"] == "MONTHLY" else 366
        if "bymonthday" in options and parts["FREQ"] == "MONTHLY":
            size = size // 31 * len(options["bymonthday"])
    return any(abs(place) <= size for place in options["bysetpos"])


def _ahead(frequency: str, interval: int, begin: date, day: date) -> date:
    """The latest beginning that gives the same from this day on, a period before it or more."""
    if frequency in ("DAILY", "WEEKLY"):
        step = interval * (7 if frequency == "WEEKLY" else 1)
        return begin + timedelta(days=max(0, (day - begin).days // step - 1) * step)
    step = interval * (12 if frequency == "YEARLY" else 1)
    passed = day.year * 12 + day.month - begin.year * 12 - begin.month
    periods = max(0, passed // step - 1)
    if not periods:
        return begin
    year, month = divmod(begin.year * 12 + begin.month - 1 + periods * step, 12)
    return date(year, 1 if frequency == "YEARLY" else month + 1, 1)


def _is_within(nominal: datetime, found: Instant, until: str) -> bool:
    end = _moment(until)
    assert end is not None
    if until.endswith("Z"):
        return found <= instant(end.replace(tzinfo=UTC))
    return nominal <= end if "T" in until else nominal.date() <= end.date()


def _written(until: str) -> str:
    end = _moment(until)
    assert end is not None
    return end.strftime("%Y-%m-%d" if "T" not in until else "%Y-%m-%d %H:%M") + (" UTC" if until.endswith("Z") else "")


def _words(parts: Mapping[str, str], start: str) -> str | None:
    """Without the time of day; None: there are no short ones."""
    if set(parts) - {"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", "BYMONTHDAY"}:
        return None
    if "BYDAY" in parts and "BYMONTHDAY" in parts:
        return None
    frequency, interval = parts["FREQ"], int(parts.get("INTERVAL", "1"))
    unit = _UNITS[frequency]
    codes = [_WEEKDAY.fullmatch(code) for code in parts["BYDAY"].split(",")] if "BYDAY" in parts else []
    weekdays = [(match[1], _WEEKDAYS[match[2]]) for match in codes if match is not None]
    often = f"every {unit}" if interval == 1 else f"every {interval} {unit}s"
    if frequency == "DAILY":
        if weekdays and interval == 1:
            return f"every {join(name for _, name in weekdays)}"
        return often if not weekdays and "BYMONTHDAY" not in parts else None
    if frequency == "WEEKLY":
        if "BYMONTHDAY" in parts:
            return None
        if not weekdays:
            weekdays = [(None, list(_WEEKDAYS.values())[date.fromisoformat(start).weekday()])]
        days = join(name for _, name in weekdays)
        return f"every {days}" if interval == 1 else f"{often} on {days}"
    if frequency == "MONTHLY":
        which = f"of {often}"
        if weekdays:
            if any(number is None for number, _ in weekdays):
                return None
            return f"on the {join(f'{_place(int(number or 1))} {name}' for number, name in weekdays)} {which}"
        days = parts.get("BYMONTHDAY") or str(date.fromisoformat(start).day)
        return f"on the {join(_place(int(day), 'day') for day in days.split(','))} {which}"
    if not weekdays and "BYMONTHDAY" not in parts:
        return f"{often} on {date.fromisoformat(start).strftime('%d %B').lstrip('0')}"
    return None


def _place(number: int, what: str = "") -> str:
    if number > 0:
        return ordinal(number)
    return f"{'last' if number == -1 else f'{ordinal(-number)} last'}{f' {what}' if what else ''}"
