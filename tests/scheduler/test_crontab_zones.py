"""Crontabs in every zone of the tz database, against an oracle that watches the wall."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wall_oracle import (
    HOUR,
    MINUTE,
    Rule,
    Walk,
    Watched,
    changing,
    is_last_day,
    is_last_week,
    nth_of_month,
    second_opinion,
    zones,
)

from celeriac.scheduler import Schedule, crontab
from celeriac.scheduler.walltime import instant

PARTS = 4
"""So that two processes can share the work."""

TABLE: list[tuple[str, Rule]] = [
    ("30 2 * * *", lambda at: at.hour == 2 and at.minute == 30),
    ("*/5 * * * *", lambda at: at.minute % 5 == 0),
    ("0 * * * *", lambda at: at.minute == 0),
    ("0 0 1 * *", lambda at: at.day == 1 and at.hour == 0 and at.minute == 0),
    ("0 0 L * *", lambda at: is_last_day(at) and at.hour == 0 and at.minute == 0),
    ("0 1 * * sun#L", lambda at: at.isoweekday() == 7 and is_last_week(at) and at.hour == 1 and at.minute == 0),
    (
        "15 2 * * sun#2",
        lambda at: at.isoweekday() == 7 and nth_of_month(at) == 2 and at.hour == 2 and at.minute == 15,
    ),
    ("*/15 2 * * *", lambda at: at.hour == 2 and at.minute % 15 == 0),
    ("0 */2 * * *", lambda at: at.hour % 2 == 0 and at.minute == 0),
    ("59 23 * * *", lambda at: at.hour == 23 and at.minute == 59),
    ("*/20 0-22 * * *", lambda at: at.hour != 23 and at.minute % 20 == 0),
    ("10,40 * * * sat,sun", lambda at: at.isoweekday() in (6, 7) and at.minute in (10, 40)),
]


def moments(schedule: Schedule, zone: Any, start: datetime, end: datetime) -> list[datetime]:
    """All in (start, end]; each found twice, from the one before and from right before it."""
    found, moment, last = [], instant(start), instant(end)
    while (after := schedule.next_after(moment, zone)) is not None and after <= last:
        assert after > moment
        assert schedule.next_after(after - 1, zone) == after
        assert schedule.next_after((moment + after) // 2, zone) == after
        found.append(datetime.fromtimestamp(after / 1_000_000, UTC))
        moment = after
    return found


@pytest.mark.parametrize("part", range(PARTS))
def test_every_change_of_every_zone(part: int) -> None:
    """2009 to 2032, five hours around each change; around long ones, thirty."""
    for watched in changing()[part::PARTS]:
        zone = watched.zone
        for change in watched.changes:
            before, after = ((change - by).astimezone(zone).utcoffset() for by in (MINUTE, timedelta(0)))
            assert before is not None
            assert after is not None
            reach = 5 * HOUR if abs(after - before) <= 3 * HOUR else 30 * HOUR
            start, end = change.replace(second=0) - reach, change.replace(second=0) + reach
            walk = Walk(zone, start, end)
            for text, rule in TABLE:
                expected = walk.due(rule, all_hours=text.split()[1] == "*")
                assert moments(crontab(text), zone, start, end) == expected, (watched.name, text, change)


def test_both_readers_of_the_database_agree() -> None:
    for watched in changing():
        for moment, ours, theirs in second_opinion(watched):
            assert ours == theirs, (watched.name, moment)


def test_the_database_is_there() -> None:
    assert len(zones()) > 100
    assert sum(len(watched.changes) for watched in changing()) > 2000
    sizes = set()
    for watched in changing():
        for change in watched.changes:
            before, after = ((change - by).astimezone(watched.zone).utcoffset() for by in (MINUTE, 0 * MINUTE))
            assert before is not None
            assert after is not None
            sizes.add(after - before)
    assert {HOUR, -HOUR, HOUR / 2, -HOUR / 2, 2 * HOUR, -2 * HOUR, 24 * HOUR} <= sizes


@pytest.mark.parametrize(
    ("zone", "text", "start", "expected"),
    [
        # Spring: 02:30 is not shown on the 28th; right after the gap it is 03:00 of summer time.
        ("Europe/Warsaw", "30 2 * * *", "2027-03-27T12:00Z", ["2027-03-28T01:00Z", "2027-03-29T00:30Z"]),
        # Autumn: 02:30 is shown twice, the first counts.
        ("Europe/Warsaw", "30 2 * * *", "2026-10-24T12:00Z", ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]),
        ("America/New_York", "30 1 * * *", "2026-10-31T12:00Z", ["2026-11-01T05:30Z", "2026-11-02T06:30Z"]),
        # All of one gap together, once.
        ("America/New_York", "*/15 2 * * *", "2027-03-13T12:00Z", ["2027-03-14T07:00Z", "2027-03-15T06:00Z"]),
        # Half an hour: 02:00 to 02:30 is left out in October.
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-02T20:00Z", ["2026-10-03T15:30Z", "2026-10-04T15:15Z"]),
        # In April 01:30 to 02:00 is shown twice.
        ("Australia/Lord_Howe", "45 1 * * *", "2027-04-02T20:00Z", ["2027-04-03T14:45Z", "2027-04-04T15:15Z"]),
        # The 30th of December 2011 did not happen.
        ("Pacific/Apia", "30 7 * * *", "2011-12-29T00:00Z", ["2011-12-29T17:30Z", "2011-12-30T10:00Z",
                                                             "2011-12-30T17:30Z"]),
        # Ramadan: back to UTC on the 10th of March 2024, where 02:30 comes twice, and forth on the 14th of April.
        ("Africa/Casablanca", "30 2 * * *", "2024-03-09T12:00Z", ["2024-03-10T01:30Z", "2024-03-11T02:30Z"]),
        ("Africa/Casablanca", "30 2 * * *", "2024-04-13T12:00Z", ["2024-04-14T02:00Z", "2024-04-15T01:30Z"]),
        # Irish winter time is the one with a negative saving.
        ("Europe/Dublin", "30 1 * * *", "2026-10-24T12:00Z", ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]),
        # Two hours: 01:00 to 03:00 is left out.
        ("Antarctica/Troll", "30 1,2 * * *", "2027-03-27T12:00Z", ["2027-03-28T01:00Z", "2027-03-28T23:30Z"]),
        # Midnight is left out.
        ("America/Havana", "0 0 * * *", "2027-03-13T06:00Z", ["2027-03-14T05:00Z", "2027-03-15T04:00Z"]),
        ("Asia/Beirut", "0 0 * * *", "2027-03-27T00:00Z", ["2027-03-27T22:00Z", "2027-03-28T21:00Z"]),
        ("America/Sao_Paulo", "0 0 * * *", "2017-10-14T12:00Z", ["2017-10-15T03:00Z", "2017-10-16T02:00Z"]),
        # In autumn 23:00 to 24:00 came twice: the day's last minute counts once.
        ("America/Sao_Paulo", "59 23 * * *", "2018-02-17T12:00Z", ["2018-02-18T01:59Z", "2018-02-19T02:59Z"]),
        ("Asia/Kathmandu", "0 0 29 2 *", "2026-11-26T00:00Z", ["2028-02-28T18:15Z", "2032-02-28T18:15Z"]),
        ("UTC", "0 0 L * *", "2028-02-01T00:00Z", ["2028-02-29T00:00Z", "2028-03-31T00:00Z"]),
        # Every hour means that time passes: in both passes of autumn, nothing more in spring.
        ("Europe/Warsaw", "30 * * * *", "2026-10-24T23:45Z", ["2026-10-25T00:30Z", "2026-10-25T01:30Z",
                                                             "2026-10-25T02:30Z"]),
        ("Europe/Warsaw", "30 * * * *", "2027-03-28T00:00Z", ["2027-03-28T00:30Z", "2027-03-28T01:30Z"]),
        ("Europe/Warsaw", "30 * * * sun", "2026-10-25T22:45Z", ["2026-10-31T23:30Z"]),
    ],
)  # fmt: skip
def test_cases_by_name(zone: str, text: str, start: str, expected: list[str]) -> None:
    moment, found = instant(datetime.fromisoformat(start)), []
    for _ in expected:
        after = crontab(text).next_after(moment, ZoneInfo(zone))
        assert after is not None
        found.append(datetime.fromtimestamp(after / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%MZ"))
        moment = after
    assert found == expected


def test_a_second_pass_that_goes_back_over_midnight() -> None:
    """Every hour of one day, whose last one comes twice; the next such day is a year away."""
    zone, text = ZoneInfo("America/Sao_Paulo"), "30 * 17 2 *"
    found = moments(crontab(text), zone, datetime(2018, 2, 18, 1, 45, tzinfo=UTC), datetime(2018, 6, 1, tzinfo=UTC))
    assert found == [datetime(2018, 2, 18, 2, 30, tzinfo=UTC)]


subsets = {
    size: st.one_of(
        st.sets(st.integers(low, size - 1 + low), min_size=1, max_size=3),
        st.integers(1, size).map(lambda step, size=size, low=low: set(range(low, size + low, step))),
    )
    for size, low in ((60, 0), (24, 0), (31, 1), (7, 0))
}


def test_a_second_pass_of_three_hours() -> None:
    """Casey, March 2010: from 02:00 on the 5th back to 23:00 on the 4th."""
    zone, start = ZoneInfo("Antarctica/Casey"), datetime(2010, 3, 4, 12, 0, tzinfo=UTC)
    found = moments(crontab("0 * 4 3 *"), zone, start, datetime(2010, 6, 1, tzinfo=UTC))
    assert found == [datetime(2010, 3, 4, 15, tzinfo=UTC)]


@st.composite
def near_changes(draw: st.DrawFn) -> tuple[Watched, datetime]:
    watched = draw(st.deferred(lambda: st.sampled_from(zones())))
    if watched.changes and draw(st.integers(0, 3)):
        moment = draw(st.sampled_from(watched.changes)) + timedelta(seconds=draw(st.integers(-100_000, 20_000)))
    else:
        moment = datetime(2010, 1, 1, tzinfo=UTC) + timedelta(seconds=draw(st.integers(0, 21 * 365 * 86_400)))
    return watched, moment


def text_of(values: set[int]) -> str:
    return ",".join(map(str, sorted(values)))


@given(where=near_changes(), minutes=subsets[60], hours=subsets[24], weekdays=subsets[7], micro=st.integers(0, 1))
@settings(max_examples=250, deadline=None)
def test_any_times_anywhere(
    where: tuple[Watched, datetime], minutes: set[int], hours: set[int], weekdays: set[int], micro: int
) -> None:
    watched, moment = where
    schedule = crontab(f"{text_of(minutes)} {text_of(hours)} * * {text_of(weekdays)}")
    start = moment.replace(second=0, microsecond=0)
    walk = Walk(watched.zone, start - MINUTE, start + 40 * HOUR)
    found = walk.due(
        lambda at: at.minute in minutes and at.hour in hours and at.isoweekday() % 7 in weekdays,
        all_hours=len(hours) == 24,
    )
    moment += timedelta(microseconds=micro)
    expected = [each for each in found if each > moment]
    assert moments(schedule, watched.zone, moment, start + 40 * HOUR) == expected


@given(
    where=near_changes(),
    days=st.one_of(st.just(set(range(1, 32))), subsets[31]),
    weekdays=st.one_of(st.just(set(range(7))), subsets[7]),
    months=st.sets(st.integers(1, 12), min_size=1),
    last=st.sets(st.integers(0, 5), max_size=2),
    nth=st.sets(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=2),
)
@settings(max_examples=150, deadline=None)
def test_any_days_anywhere(
    where: tuple[Watched, datetime],
    days: set[int],
    weekdays: set[int],
    months: set[int],
    last: set[int],
    nth: set[tuple[int, int]],
) -> None:
    """Of days, three years long; at noon, where no clock is changed."""
    watched, moment = where

    def matches(day: date) -> bool:
        length = ((day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)).day
        weekday = day.isoweekday() % 7
        place = (day.day + 6) // 7
        return (
            day.month in months
            and (day.day in days or length - day.day in last)
            and (weekday in weekdays or (weekday, place) in nth or ((weekday, 0) in nth and day.day + 7 > length))
        )

    expected, shown = [], moment.astimezone(watched.zone)
    if matches(shown.date()) and shown.hour < 12:
        expected.append(shown.date())
    expected += [day for day in (shown.date() + timedelta(days=passed) for passed in range(1, 3 * 366)) if matches(day)]
    if not expected:
        return
    schedule = crontab(
        0,
        12,
        [*weekdays, *(f"{weekday}#{n or 'L'}" for weekday, n in nth)],
        [*days, *(f"L-{back}" if back else "L" for back in last)],
        months,
    )
    found, at = [], instant(moment)
    while len(found) < len(expected):
        after = schedule.next_after(at, watched.zone)
        assert after is not None
        seen = datetime.fromtimestamp(after / 1_000_000, watched.zone)
        if watched.name != "Pacific/Apia":
            assert (seen.hour, seen.minute) == (12, 0)
        found.append(seen.date())
        at = after
    if watched.name not in ("Pacific/Apia", "Pacific/Fakaofo"):  # which have left out a day
        assert found == expected


@given(
    where=near_changes(),
    minutes=subsets[60],
    hours=st.one_of(subsets[24], st.just(set(range(24))), st.just({0, 1, 2, 3, 22, 23})),
    weekdays=st.one_of(subsets[7], st.just(set(range(7)))),
    back=st.integers(0, 15),
    near=st.integers(-4000, 4000),
    span=st.floats(0, 30),
    newest=st.integers(0, 5),
    days=st.sampled_from(["*", "*", "L", "1-20", "13,31"]),
    exact=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_what_has_come_is_counted(
    where: tuple[Watched, datetime],
    minutes: set[int],
    hours: set[int],
    weekdays: set[int],
    back: int,
    near: int,
    span: float,
    newest: int,
    days: str,
    exact: bool,
) -> None:
    """By arithmetic as by walking through it; whole days from a change, more or less, so that they meet it."""
    watched, moment = where
    if watched.changes:
        moment = min(watched.changes, key=lambda change: abs(change - moment))
    zone, schedule = watched.zone, crontab(f"{text_of(minutes)} {text_of(hours)} {days} * {text_of(weekdays)}")
    after = instant(moment) - (back * 86_400 - near) * 1_000_000
    until = after + int(span * 86_400 * 1_000_000)
    if exact:  # both ends are times that match
        after = schedule.next_after(after, zone) or after
        until = max(after, schedule.next_after(until, zone) or until)
        until = min(until, after + 40 * 86_400 * 1_000_000)
    walked = Schedule.due(schedule, after, until, zone, newest=newest)
    assert schedule.due(after, until, zone, newest=newest) == walked
