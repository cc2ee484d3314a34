from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import dateutil.rrule
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from celeriac import rrule
from celeriac.errors import ScheduleError
from celeriac.scheduler.walltime import from_wall, instant

WARSAW = ZoneInfo("Europe/Warsaw")


def following(schedule: rrule, start: str, many: int, zone: ZoneInfo = WARSAW) -> list[str]:
    found, moment = [], instant(datetime.fromisoformat(start).replace(tzinfo=zone))
    for _ in range(many):
        after = schedule.next_after(moment, zone)
        if after is None:
            found.append("none")
            break
        assert schedule.next_after(after - 1, zone) == after
        found.append(datetime.fromtimestamp(after / 1_000_000, zone).strftime("%Y-%m-%d %H:%M"))
        moment = after
    return found


@pytest.mark.parametrize(
    ("schedule", "start", "expected"),
    [
        (rrule("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU", at="09:00", start="2026-01-06"), "2026-01-01",
         ["2026-01-06 09:00", "2026-01-20 09:00", "2026-02-03 09:00"]),
        (rrule("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU", at="09:00", start="2026-01-06"), "2045-03-01",
         ["2045-03-07 09:00", "2045-03-21 09:00"]),
        (rrule("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", at="17:00"), "2026-01-01",
         ["2026-01-30 17:00", "2026-02-27 17:00", "2026-03-31 17:00"]),
        (rrule("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13"), "2026-01-01", ["2026-02-13 00:00", "2026-03-13 00:00"]),
        (rrule("FREQ=MONTHLY", start="2026-01-31"), "2026-01-01",
         ["2026-01-31 00:00", "2026-03-31 00:00", "2026-05-31 00:00"]),
        (rrule("FREQ=YEARLY", start="2024-02-29"), "2025-01-01", ["2028-02-29 00:00", "2032-02-29 00:00"]),
        # The first of its days in each week; the week in which it starts has only what comes after.
        (rrule("FREQ=WEEKLY;BYDAY=MO,WE,FR;BYSETPOS=1", at="09:00", start="2026-01-07"), "2026-01-01",
         ["2026-01-07 09:00", "2026-01-12 09:00"]),
        (rrule("FREQ=WEEKLY;BYDAY=MO,WE,FR;BYSETPOS=1", at="09:00", start="2026-01-07"), "2026-03-04T08:00",
         ["2026-03-09 09:00", "2026-03-16 09:00"]),
        (rrule("FREQ=YEARLY;BYMONTH=11;BYDAY=4TH"), "2026-01-01", ["2026-11-26 00:00", "2027-11-25 00:00"]),
        (rrule("FREQ=YEARLY;BYWEEKNO=53;BYDAY=MO"), "2026-01-01", ["2026-12-28 00:00", "2032-12-27 00:00"]),
        (rrule("FREQ=YEARLY;BYYEARDAY=-1,100"), "2026-01-01", ["2026-04-10 00:00", "2026-12-31 00:00"]),
        (rrule("FREQ=DAILY;BYHOUR=9,17;BYMINUTE=30"), "2026-01-01",
         ["2026-01-01 09:30", "2026-01-01 17:30", "2026-01-02 09:30"]),
        (rrule("FREQ=DAILY;COUNT=3", at="08:00", start="2026-01-30"), "2026-01-31",
         ["2026-01-31 08:00", "2026-02-01 08:00", "none"]),
        (rrule("FREQ=YEARLY;COUNT=60", start="2000-05-05"), "2057-06-01",
         ["2058-05-05 00:00", "2059-05-05 00:00", "none"]),
        (rrule("FREQ=DAILY;COUNT=3", start="2026-01-30"), "2090-01-31", ["none"]),
        (rrule("FREQ=DAILY;UNTIL=20260102"), "2026-01-01", ["2026-01-02 00:00", "none"]),
        (rrule("FREQ=DAILY;UNTIL=20260102", at="23:59"), "2026-01-01",
         ["2026-01-01 23:59", "2026-01-02 23:59", "none"]),
        (rrule("FREQ=DAILY;UNTIL=20260102T080000", at="08:00"), "2026-01-02", ["2026-01-02 08:00", "none"]),
        (rrule("FREQ=DAILY;UNTIL=20260102T075959", at="08:00"), "2026-01-02", ["none"]),
        (rrule("FREQ=DAILY;UNTIL=20260102T070000Z", at="08:00"), "2026-01-02", ["2026-01-02 08:00", "none"]),
        (rrule("FREQ=DAILY;UNTIL=20260102T065959Z", at="08:00"), "2026-01-02", ["none"]),
        # Gap and fold as for a crontab.
        (rrule("FREQ=DAILY", at="02:30"), "2027-03-27T12:00", ["2027-03-28 03:00", "2027-03-29 02:30"]),
        (rrule("FREQ=DAILY", at="02:30"), "2026-10-24T12:00", ["2026-10-25 02:30", "2026-10-26 02:30"]),
        (rrule("FREQ=DAILY;BYHOUR=2;BYMINUTE=0,15,30"), "2027-03-27T12:00", ["2027-03-28 03:00", "2027-03-29 02:00"]),
    ],
)  # fmt: skip
def test_rules(schedule: rrule, start: str, expected: list[str]) -> None:
    assert following(schedule, start, len(expected)) == expected


def test_the_first_of_a_fold() -> None:
    schedule = rrule("FREQ=DAILY;BYHOUR=2;BYMINUTE=0,30")
    moment = instant(datetime(2026, 10, 24, 23, 59, tzinfo=UTC))
    found = []
    for _ in range(3):
        after = schedule.next_after(moment, WARSAW)
        assert after is not None
        found.append(datetime.fromtimestamp(after // 1_000_000, UTC).strftime("%d %H:%M"))
        moment = after
    assert found == ["25 00:00", "25 00:30", "26 01:00"]


@pytest.mark.parametrize(
    ("rule", "options", "words"),
    [
        ("FREQ=HOURLY", {}, "FREQ='HOURLY'; one of DAILY, .*take crontab or every"),
        ("BYDAY=TU", {}, "FREQ is missing"),
        ("", {}, "no part ''"),
        ("every tuesday", {}, "one rule is wanted"),
        ("FREQ=DAILY;FREQ=DAILY", {}, "FREQ stands there twice"),
        ("FREQ=DAILY;BYEASTER=1", {}, "no part 'BYEASTER'"),
        ("FREQ=DAILY;INTERVAL=" + "9" * 5000, {}, "at most 1000"),
        ("FREQ=DAILY;INTERVAL=" + "9" * 900, {}, "a number from 1 to 1000"),
        ("FREQ=DAILY;INTERVAL=0", {}, "INTERVAL='0'; a number from 1 to 1000"),
        ("FREQ=DAILY;COUNT=99999", {"start": "2026-01-01"}, "for more, UNTIL"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20300101", {"start": "2026-01-01"}, "exclude each other"),
        ("FREQ=DAILY;UNTIL=2030", {}, "write 20261231"),
        ("FREQ=WEEKLY;BYDAY=XX", {}, "BYDAY='XX'; MO, TU"),
        ("FREQ=WEEKLY;BYDAY=2TU", {}, "goes with FREQ=MONTHLY or YEARLY"),
        ("FREQ=MONTHLY;BYDAY=0TU", {}, "BYDAY='0TU'"),
        ("FREQ=MONTHLY;BYMONTHDAY=32", {}, "numbers from -31 to 31 without 0"),
        ("FREQ=MONTHLY;BYMONTHDAY=0", {}, "numbers from -31 to 31 without 0"),
        ("FREQ=DAILY;BYHOUR=24", {}, "numbers from 0 to 23, separated"),
        ("FREQ=MONTHLY;BYSETPOS=1", {"start": "2026-01-01"}, "BYSETPOS picks"),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU", {}, "INTERVAL counts from a first day; give start="),
        ("FREQ=DAILY;COUNT=5", {}, "COUNT counts from a first day"),
        ("FREQ=YEARLY", {}, "without a day means that of the first one"),
        ("FREQ=YEARLY;BYMONTH=3", {}, "without a day means that of the first one"),
        ("FREQ=DAILY", {"at": "25:00"}, "not a time of day; write at='09:00'"),
        ("FREQ=DAILY", {"start": "soon"}, "not a day; write start='2026-01-06'"),
        ("FREQ=DAILY", {"start": "2026-01-06T09:00Z"}, "has a zone"),
        ("FREQ=DAILY", {"start": "2026-01-06T09:00", "at": "10:00"}, "give one"),
        ("FREQ=DAILY;BYHOUR=9", {"at": "10:00"}, "given twice"),
        ("DTSTART:20260106T090000Z\nRRULE:FREQ=DAILY", {}, "DTSTART with a zone"),
        ("DTSTART;TZID=Europe/Rome:20260106T090000\nRRULE:FREQ=DAILY", {}, "timezone= with the entry"),
        ("DTSTART:soon\nRRULE:FREQ=DAILY", {}, "write DTSTART:20260106T090000"),
        ("DTSTART:20260106\nFREQ=DAILY", {"start": "2026-01-01"}, "leave out start="),
        ("FREQ=DAILY\nEXDATE:20260101", {}, "EXDATE is not supported"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", {}, "never comes"),
        ("FREQ=DAILY;BYMONTH=4;BYMONTHDAY=31", {}, "never comes"),
        ("FREQ=DAILY;BYSETPOS=2;BYHOUR=9", {}, "never comes"),
        ("FREQ=DAILY;UNTIL=20251231", {"start": "2026-01-01"}, "never comes: its first time would be 2026-01-01"),
    ],
)
def test_what_is_no_rule(rule: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ScheduleError, match=words):
        rrule(rule, **options)


numbers = {
    "BYMONTH": st.integers(1, 12),
    "BYMONTHDAY": st.integers(-31, 31).filter(bool),
    "BYYEARDAY": st.integers(-366, 366).filter(bool),
    "BYWEEKNO": st.integers(-53, 53).filter(bool),
    "BYHOUR": st.integers(0, 23),
    "BYMINUTE": st.integers(0, 59),
    "BYSETPOS": st.sampled_from([-2, -1, 1, 2]),
}


@st.composite
def rules(draw: st.DrawFn) -> str:
    frequency = draw(st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]))
    parts = [f"FREQ={frequency}"]
    if interval := draw(st.integers(0, 5)):
        parts.append(f"INTERVAL={interval}")
    names = draw(st.sets(st.sampled_from(["BYMONTH", "BYMONTHDAY", "BYDAY", "BYHOUR", "BYSETPOS", "WKST"]), max_size=3))
    if frequency == "YEARLY" and draw(st.booleans()):
        names = {draw(st.sampled_from(["BYWEEKNO", "BYYEARDAY"])), *names} - {"BYMONTHDAY", "BYMONTH"}
    for name in sorted(names):
        if name == "WKST":
            parts.append(f"WKST={draw(st.sampled_from(['MO', 'SU', 'WE']))}")
        elif name == "BYDAY":
            codes = draw(st.sets(st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"]), min_size=1, max_size=4))
            number = draw(st.sampled_from(["", "1", "2", "-1"])) if frequency in ("MONTHLY", "YEARLY") else ""
            parts.append(f"BYDAY={','.join(('' if 'BYWEEKNO' in names else number) + code for code in sorted(codes))}")
        else:
            values = draw(st.sets(numbers[name], min_size=1, max_size=3))
            parts.append(f"{name}={','.join(map(str, sorted(values)))}")
    return ";".join(parts)


@given(
    rule=rules(),
    start=st.dates(date(2000, 1, 1), date(2030, 1, 1)),
    passed=st.integers(0, 30 * 366),
    hour=st.integers(0, 86_399),
)
@settings(max_examples=200, deadline=None)
def test_no_slower_with_the_years_and_no_other(rule: str, start: date, passed: int, hour: int) -> None:
    """Begun a little before the moment, it gives what it gives when all is gone through from its start."""
    zone = ZoneInfo("UTC")
    try:
        schedule = rrule(rule, start=start)
    except ScheduleError:
        assume(False)
    moment = datetime.combine(start, datetime.min.time()) + timedelta(days=passed, seconds=hour)
    end = moment + timedelta(days=12 * 366)
    whole = dateutil.rrule.rrulestr(rule, dtstart=datetime.combine(start, datetime.min.time())).replace(until=end)
    expected = [from_wall(nominal, zone) for nominal in islice((at for at in whole if at > moment), 4)]
    found, at = [], instant(moment.replace(tzinfo=UTC))
    while len(found) < len(expected):
        after = schedule.next_after(at, zone)
        assert after is not None
        found.append(after)
        at = after
    assert found == expected
    if not expected:
        after = schedule.next_after(at, zone)
        assert after is None or after > instant(end.replace(tzinfo=UTC))
