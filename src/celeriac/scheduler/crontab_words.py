"""A crontab's fields as text: short, as a crontab, and in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_LONGEST = 110
"""More words than this say less than the crontab itself."""


def values_of(mask: int) -> list[int]:
    return [place for place in range(mask.bit_length()) if mask >> place & 1]


def field_text(mask: int, low: int, high: int, counted: Sequence[str] = (), *, names: Sequence[str] = ()) -> str:
    """The shortest usual way to write a field; equal fields have equal texts."""
    every = (1 << high + 1) - (1 << low)
    if mask == every:
        return "*"
    values = values_of(mask)
    is_week = high == 6
    if is_week:  # from Monday on, and never by steps, which nobody reads
        values.sort(key=lambda day: (day - 1) % 7)
    elif step := _step(values):
        if values[0] == low and values[-1] + step > high:
            return ",".join([f"*/{step}", *counted])
        if len(values) > 3:
            return ",".join([f"{values[0]}-{values[-1]}/{step}", *counted])

    def name(value: int) -> str:
        return names[value - low][:3] if names else str(value)

    runs = _runs(values)
    if low == 0 and len(runs) > 1:  # around the end: 22-4, fri-mon
        first_of_all, last_of_all = (1, 0) if is_week else (0, high)
        if runs[0][0] == first_of_all and runs[-1][1] == last_of_all:
            (_, end), *middle, (begin, _) = runs
            runs = [*middle, (begin, end)]
    parts = []
    for first, last in runs:
        if (last - first) % (high + 1) >= 2:
            parts.append(f"{name(first)}-{name(last)}")
        else:
            parts.extend(name(value) for value in dict.fromkeys((first, last)))
    return ",".join([*parts, *counted])


def describe(minutes: int, hours: int, months: int, days: int, from_end: int, weekdays: int, nth: int) -> str:
    """In words; '' where they would be longer than they help."""
    time = _time(values_of(minutes), values_of(hours))
    if not time:
        return ""
    day = _days(days, from_end, weekdays, nth, months, is_clock=time.startswith("at "))
    if day is None:
        return ""
    text = " ".join(part for part in ((day, time) if time.startswith("at ") else (time, day)) if part)
    return text if len(text) <= _LONGEST else ""


def join(words: Iterable[str], word: str = "and") -> str:
    """`a, b and c`."""
    *rest, last = words
    return f"{', '.join(rest)} {word} {last}" if rest else last


def ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _step(values: Sequence[int]) -> int:
    """The step of evenly spaced values, more than two of them and apart; 0 for others."""
    if len(values) < 3 or len({later - value for value, later in pairwise(values)}) > 1:
        return 0
    step = values[1] - values[0]
    return step if step > 1 else 0


def _runs(values: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for value in values:
        if runs and (value == runs[-1][1] + 1 or (value == 0 and runs[-1][1] == 6)):
            runs[-1] = (runs[-1][0], value)
        else:
            runs.append((value, value))
    return runs


def _time(minutes: Sequence[int], hours: Sequence[int]) -> str:
    """Either `at 07:30`, or `every 5 minutes …`; '' for what has no short words."""
    step = _step(minutes)
    pace = ""
    if len(minutes) == 60:
        pace = "every minute"
    elif minutes[0] == 0 and step and step * len(minutes) == 60:
        pace = f"every {step} minutes"
    elif list(minutes) == [0, 30] and len(hours) > 2:
        pace = "every 30 minutes"
    elif len(minutes) == 1 and len(hours) > 3:
        pace = "every hour"
    if len(hours) == 24:
        if pace == "every hour" and minutes[0]:
            return f"every hour, {_count(minutes[0], 'minute')} past"
        if not pace and len(minutes) <= 4:
            return f"every hour at minutes {join(map(str, minutes))}"
        return pace
    if pace and len(hours) == hours[-1] - hours[0] + 1:
        return f"{pace} between {_clock(hours[0], minutes[0])} and {_clock(hours[-1], minutes[-1])}"
    every = _step(hours)
    if pace == "every hour" and hours[0] == 0 and every and every * len(hours) == 24 and len(hours) > 3:
        past = f", {_count(minutes[0], 'minute')} past" if minutes[0] else ""
        return f"every {every} hours{past}"
    if len(minutes) * len(hours) <= 6:
        return f"at {join(_clock(hour, minute) for hour in hours for minute in minutes)}"
    return ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _clock(hour: int, minute: int) -> str:
    return f"{hour:02}:{minute:02}"


def _days(days: int, from_end: int, weekdays: int, nth: int, months: int, *, is_clock: bool) -> str | None:
    """Which days, to stand before `at 07:30`, or after `every 5 minutes`."""
    month = _month(months)
    if month is None:
        return None
    all_days, all_weekdays = days == (1 << 32) - 2, weekdays == 0b111_1111
    chosen: list[str] = []
    if not all_days:
        chosen = [ordinal(day) for day in values_of(days)]
        if len(chosen) > 6:
            low, high = values_of(days)[0], values_of(days)[-1]
            if high - low + 1 != len(chosen):
                return None
            chosen = [f"{ordinal(low)} to the {ordinal(high)}"]
        for back in values_of(from_end):
            chosen.append("last day" if not back else f"last day but {_WORDS[back - 1] if back <= 10 else back}")
    week = sorted(values_of(weekdays), key=lambda day: (day - 1) % 7)
    counted = [f"{ordinal(place % 6) if place % 6 else 'last'} {_WEEKDAYS[place // 6]}" for place in values_of(nth)]
    if all_weekdays:
        if all_days:
            if month:
                return f"every day in {month}" if is_clock else f"in {month}"
            return "every day" if is_clock else ""
        return f"on the {join(chosen)} of {month or 'every month'}"
    if counted:
        if week or not all_days:
            return None
        return f"on the {join(counted)} of {month or 'every month'}"
    if week == [1, 2, 3, 4, 5]:
        every, plural, one = "every weekday", "on weekdays", "a weekday"
    elif spans := _spans(week):
        every = join(spans)
        plural = f"from {every}" if len(spans) == 1 else f"on {every}"
        one = join(spans, "or")
    else:
        names = [_WEEKDAYS[day] for day in week]
        every, plural = f"every {join(names)}", f"on {join(f'{name}s' for name in names)}"
        one = f"a {join(names, 'or')}"
    if not all_days:
        return f"on the {join(chosen)} of {month or 'every month'}, if it is {one}{',' if is_clock else ''}"
    return (every if is_clock else plural) + (f" in {month}" if month else "")


def _spans(week: Sequence[int]) -> list[str]:
    """`Monday to Thursday`, `Saturday`; empty where no three days are in a row."""
    first = next((day for day in week if (day - 1) % 7 not in week), 0)
    runs: list[list[int]] = []
    for day in sorted(week, key=lambda day: (day - first) % 7):
        if runs and day == (runs[-1][-1] + 1) % 7:
            runs[-1].append(day)
        else:
            runs.append([day])
    if max(map(len, runs), default=0) < 3:
        return []
    parts = [(run[0], run[-1]) for run in runs if len(run) > 2]
    parts += [(day, day) for run in runs if len(run) < 3 for day in run]
    parts.sort(key=lambda part: (part[0] - 1) % 7)
    return [_WEEKDAYS[begin] + (f" to {_WEEKDAYS[end]}" if end != begin else "") for begin, end in parts]


def _month(months: int) -> str | None:
    """`June and July`; '' for all, None for what has no short words."""
    values = values_of(months)
    if len(values) == 12:
        return ""
    names = [_MONTHS[value - 1] for value in values]
    if len(names) > 4:
        return f"{names[0]} to {names[-1]}" if values[-1] - values[0] + 1 == len(values) else None
    return join(names)
