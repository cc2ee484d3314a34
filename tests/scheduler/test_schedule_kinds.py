"""What is the same for all kinds: forms, words, values, and errors that say what to write."""

from __future__ import annotations

import json
import pickle
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from celeriac import at, crontab, every, rrule, solar
from celeriac.errors import ScheduleError
from celeriac.scheduler import Schedule, schedule_of, zone

ROME = ZoneInfo("Europe/Rome")

VALUES: list[tuple[Schedule, dict[str, Any], str]] = [
    (crontab("30 7 * * *"), {"crontab": "30 7 * * *"}, "every day at 07:30"),
    (crontab(), {"crontab": "* * * * *"}, "every minute"),
    (crontab("*/5 * * * *"), {"crontab": "*/5 * * * *"}, "every 5 minutes"),
    (crontab("0 * * * *"), {"crontab": "0 * * * *"}, "every hour"),
    (crontab("5 * * * *"), {"crontab": "5 * * * *"}, "every hour, 5 minutes past"),
    (crontab("1 * * * *"), {"crontab": "1 * * * *"}, "every hour, 1 minute past"),
    (crontab("7,19 * * * *"), {"crontab": "7,19 * * * *"}, "every hour at minutes 7 and 19"),
    (crontab("0,30 * * * *"), {"crontab": "0,30 * * * *"}, "every 30 minutes"),
    (crontab("0 */2 * * *"), {"crontab": "0 */2 * * *"}, "every 2 hours"),
    (crontab("10 */6 * * *"), {"crontab": "10 */6 * * *"}, "every 6 hours, 10 minutes past"),
    (crontab("0 9-17 * * *"), {"crontab": "0 9-17 * * *"}, "every hour between 09:00 and 17:00"),
    (crontab("30 7,19 * * mon,fri"), {"crontab": "30 7,19 * * mon,fri"}, "every Monday and Friday at 07:30 and 19:30"),
    (crontab("30 7 * * mon-fri"), {"crontab": "30 7 * * mon-fri"}, "every weekday at 07:30"),
    (crontab("0 8 * * mon-sat"), {"crontab": "0 8 * * mon-sat"}, "Monday to Saturday at 08:00"),
    (crontab("0 8 * * sat-mon"), {"crontab": "0 8 * * sat-mon"}, "Saturday to Monday at 08:00"),
    (crontab("0 8 * * fri-wed"), {"crontab": "0 8 * * fri-wed"}, "Friday to Wednesday at 08:00"),
    (crontab("0 8 * * mon-wed,sat"), {"crontab": "0 8 * * mon-wed,sat"}, "Monday to Wednesday and Saturday at 08:00"),
    (crontab("*/5 * * * tue-thu"), {"crontab": "*/5 * * * tue-thu"}, "every 5 minutes from Tuesday to Thursday"),
    (
        crontab("0 8 1-7 * mon-sat"),
        {"crontab": "0 8 1-7 * mon-sat"},
        "on the 1st to the 7th of every month, if it is Monday to Saturday, at 08:00",
    ),
    (crontab("0 0 L * *"), {"crontab": "0 0 L * *"}, "on the last day of every month at 00:00"),
    (crontab("0 0 1,L-2 * *"), {"crontab": "0 0 1,L-2 * *"}, "on the 1st and last day but two of every month at 00:00"),
    (crontab("0 9 * * tue#2"), {"crontab": "0 9 * * tue#2"}, "on the 2nd Tuesday of every month at 09:00"),
    (crontab("0 9 * * fri#L"), {"crontab": "0 9 * * fri#L"}, "on the last Friday of every month at 09:00"),
    (
        crontab("*/15 9-17 * * mon-fri"),
        {"crontab": "*/15 9-17 * * mon-fri"},
        "every 15 minutes between 09:00 and 17:45 on weekdays",
    ),
    (crontab("*/10 * * * sat,sun"), {"crontab": "*/10 * * * sat,sun"}, "every 10 minutes on Saturdays and Sundays"),
    (crontab("0 0 13 * fri"), {"crontab": "0 0 13 * fri"}, "on the 13th of every month, if it is a Friday, at 00:00"),
    (crontab("0 12 * jun,jul *"), {"crontab": "0 12 * jun,jul *"}, "every day in June and July at 12:00"),
    (crontab("0 12 24 dec *"), {"crontab": "0 12 24 dec *"}, "on the 24th of December at 12:00"),
    (
        crontab("0 12 1-7 mar-oct mon"),
        {"crontab": "0 12 1-7 mar-oct mon"},
        "on the 1st to the 7th of March to October, if it is a Monday, at 12:00",
    ),
    (crontab("1,7,13 */5 * * *"), {"crontab": "1,7,13 */5 * * *"}, "crontab 1,7,13 */5 * * *"),
    (every(10), {"every": 10}, "every 10 seconds"),
    (every(timedelta(minutes=5)), {"every": 300}, "every 5 minutes"),
    (every(seconds=1), {"every": 1}, "every second"),
    (every(days=1), {"every": 86_400}, "every day"),
    (every(weeks=2), {"every": 1_209_600}, "every 2 weeks"),
    (every(hours=1, minutes=30), {"every": 5400}, "every 1 hour and 30 minutes"),
    (every(0.25), {"every": 0.25}, "every 0.25 seconds"),
    (every(60, aligned=True), {"every": 60, "aligned": True}, "every minute, on the minute"),
    (every(hours=2, aligned=True), {"every": 7200, "aligned": True}, "every 2 hours, on the hour"),
    (every(days=1, aligned=True), {"every": 86_400, "aligned": True}, "every day, at midnight"),
    (at("2026-12-01T10:00+01:00"), {"at": "2026-12-01T10:00:00+01:00"}, "once on 2026-12-01 at 10:00 +01:00"),
    (at("2026-12-01 10:00:30Z"), {"at": "2026-12-01T10:00:30+00:00"}, "once on 2026-12-01 at 10:00:30 UTC"),
    (
        at(datetime(2026, 12, 1, 10, tzinfo=ROME)),
        {"at": "2026-12-01T10:00:00+01:00"},
        "once on 2026-12-01 at 10:00 +01:00",
    ),
    (solar("sunrise", 52.2, 21), {"solar": ["sunrise", 52.2, 21.0]}, "at sunrise at 52.2 N, 21.0 E"),
    (solar("dusk_civil", -33.9, -70), {"solar": ["dusk_civil", -33.9, -70.0]}, "at civil dusk at 33.9 S, 70.0 W"),
    (
        rrule("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU", at="09:00", start="2026-01-06"),
        {"rrule": "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU", "time": "09:00", "start": "2026-01-06"},
        "every 2 weeks on Tuesday at 09:00, from 2026-01-06",
    ),
    (
        rrule("RRULE:freq=monthly;byday=2TU,-1FR"),
        {"rrule": "FREQ=MONTHLY;BYDAY=2TU,-1FR"},
        "on the 2nd Tuesday and last Friday of every month at 00:00",
    ),
    (
        rrule("FREQ=MONTHLY;BYMONTHDAY=-1,-2", at=time(17)),
        {"rrule": "FREQ=MONTHLY;BYMONTHDAY=-1,-2", "time": "17:00"},
        "on the last day and 2nd last day of every month at 17:00",
    ),
    (
        rrule("DTSTART:20260106T090015\nRRULE:FREQ=DAILY;COUNT=3"),
        {"rrule": "FREQ=DAILY;COUNT=3", "time": "09:00:15", "start": "2026-01-06"},
        "every day at 09:00:15, 3 times, from 2026-01-06",
    ),
    (
        rrule("FREQ=YEARLY", start=date(2026, 12, 24)),
        {"rrule": "FREQ=YEARLY", "start": "2026-12-24"},
        "every year on 24 December at 00:00, from 2026-12-24",
    ),
    (
        rrule("FREQ=WEEKLY;BYDAY=MO,FR;UNTIL=20301231T160000Z", start="2026-01-01T08:00"),
        {"rrule": "FREQ=WEEKLY;UNTIL=20301231T160000Z;BYDAY=MO,FR", "time": "08:00", "start": "2026-01-01"},
        "every Monday and Friday at 08:00, until 2030-12-31 16:00 UTC, from 2026-01-01",
    ),
    (
        rrule("FREQ=DAILY;INTERVAL=1;BYHOUR=9,17;BYMINUTE=30"),
        {"rrule": "FREQ=DAILY;BYHOUR=9,17;BYMINUTE=30"},
        "by the rule FREQ=DAILY;BYHOUR=9,17;BYMINUTE=30",
    ),
]


@pytest.mark.parametrize(("value", "form", "words"), VALUES, ids=[repr(value) for value, _, _ in VALUES])
def test_forms_and_words(value: Schedule, form: dict[str, Any], words: str) -> None:
    assert value.form() == form
    assert value.describe() == words
    again = schedule_of(json.loads(json.dumps(form)))
    assert again == value
    assert hash(again) == hash(value)
    assert eval(repr(value), {"crontab": crontab, "every": every, "at": at, "solar": solar, "rrule": rrule}) == value
    unpickled = pickle.loads(pickle.dumps(value))
    assert unpickled == value
    moment = 1_790_000_000_000_000
    assert unpickled.next_after(moment, ROME) == value.next_after(moment, ROME)
    assert not hasattr(value, "__dict__")
    assert sys.getsizeof(value) < 100
    with pytest.raises(AttributeError, match="is a value"):
        value.anything = 1  # type: ignore[attr-defined]


def test_all_are_different() -> None:
    assert len({value for value, _, _ in VALUES}) == len({json.dumps(form) for _, form, _ in VALUES})


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({}, "one key of 'crontab', 'every', 'at', 'solar', 'rrule' says which kind"),
        ({"cron": "* * * * *"}, "is no schedule"),
        ({"every": 1, "at": "2026-12-01T10:00Z"}, "is no schedule"),
        ([], "is no schedule"),
        ("30 7 * * *", "is no schedule"),
        ({"every": 1, "x": 2}, "'x' is nothing of a schedule 'every'; beside it there may be 'aligned'"),
        ({"crontab": "* * * * *", "aligned": True}, "nothing stands beside it"),
        ({"crontab": 5}, "a text of five fields"),
        ({"crontab": "* *"}, "has 2 fields"),
        ({"every": None}, "the interval is zero|is not a number"),
        ({"every": "10"}, "'10' is not a number"),
        ({"solar": "sunrise"}, "a list of event, latitude and longitude"),
        ({"solar": ["sunrise", "52", 21]}, "the latitude '52' is not a number"),
        ({"rrule": 5}, "the text of a rule"),
        ({"rrule": "FREQ=DAILY", "time": 9}, "not a time of day"),
        ({"at": 5}, "an aware datetime or its ISO text"),
    ],
)
def test_what_is_no_form(form: Any, words: str) -> None:
    with pytest.raises(ScheduleError, match=words):
        schedule_of(form)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: at("2026-12-01T10:00"), "without an offset from UTC.*write '2026-12-01T10:00:00.00:00' for UTC"),
        (lambda: at(datetime(2026, 12, 1, tzinfo=UTC).replace(tzinfo=None)), "without an offset.*ZoneInfo"),
        (lambda: at("tomorrow"), "not a moment; write '2026-12-01T10:00.01:00'"),
        (lambda: at(date(2026, 12, 1)), "not date"),
        (lambda: at(5), "not int"),
        (lambda: solar("sunset", 91, 0), "the latitude 91 is not a number of degrees from -90 to 90"),
        (lambda: solar("sunset", 0, -181), "the longitude -181"),
        (lambda: solar("sunset", float("nan"), 0), "the latitude nan"),
        (lambda: solar("sunset", True, 0), "the latitude True"),
        (lambda: solar("sunsett", 0, 0), "did you mean 'sunset'"),
        (lambda: solar(None, 0, 0), "no event None"),
    ],
)
def test_what_is_no_moment(make: Any, words: str) -> None:
    with pytest.raises(ScheduleError, match=words):
        make()


def test_once() -> None:
    moment = datetime(2026, 12, 1, 10, tzinfo=timezone(timedelta(hours=1)))
    then = 1_796_115_600_000_000
    assert then == moment.timestamp() * 1_000_000
    assert at(moment).next_after(then - 1, ROME) == then
    assert at(moment).next_after(then, ROME) is None
    assert at(moment).moment == moment
    assert at(moment).due(then - 1, then, ROME, newest=1) == ((then,), 1)
    assert at(moment).begun_at(0) == at(moment)


def test_zones() -> None:
    assert zone("UTC") is UTC
    assert zone("Europe/Rome") == ROME
    with pytest.raises(ScheduleError, match="no time zone 'Europe/Roma': did you mean 'Europe/Rome'"):
        zone("Europe/Roma")
    for wrong in ("", "../etc/passwd", "/etc/localtime", "xyzzy", "Europe"):
        with pytest.raises(ScheduleError, match=r"no time zone"):
            zone(wrong)


def test_a_host_without_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    import zoneinfo

    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    with pytest.raises(ScheduleError, match="no time zone database; install the package tzdata"):
        zone("Nowhere/Else")
    assert zone("UTC") is UTC


@pytest.mark.parametrize(
    ("package", "make", "extra"),
    [
        ("ephem", lambda: solar("sunset", 0, 0), r"celeriac\[solar\]"),
        ("dateutil.rrule", lambda: rrule("FREQ=DAILY"), r"celeriac\[rrule\]"),
    ],
)
def test_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch, package: str, make: Any, extra: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ScheduleError, match=f"not installed; pip install '{extra}'"):
        make()
