from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wall_oracle import zones

from celeriac import every
from celeriac.errors import ScheduleError
from celeriac.scheduler import Schedule
from celeriac.scheduler.walltime import instant

WARSAW = ZoneInfo("Europe/Warsaw")
NOW = 1_796_000_000_123_456


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: every(), "the interval is zero"),
        (lambda: every(0), r"every\(0\): the interval is zero; write for example every\(seconds=10\)"),
        (lambda: every(minutes=-5), r"every\(minutes=-5\): the interval is negative"),
        (lambda: every(timedelta(microseconds=999)), "shorter than a millisecond"),
        (lambda: every(10, minutes=1), "either as one value or by its units"),
        (lambda: every("10"), "'10' is not a number"),
        (lambda: every(True), "True is not a number"),
        (lambda: every(minutes="1"), "'1' is not a number"),
        (lambda: every(float("nan")), "nan is not a number"),
        (lambda: every(float("inf")), "inf is not a number"),
        (lambda: every(days=1e300), "longer than a hundred years"),
        (lambda: every(days=40_000), "longer than a hundred years"),
    ],
)
def test_what_is_no_interval(make: Any, words: str) -> None:
    with pytest.raises(ScheduleError, match=words):
        make()


def test_counts_from_the_last_one() -> None:
    assert every(10).is_elapsed
    assert every(10).next_after(NOW, WARSAW) == NOW + 10_000_000
    assert every(0.001).next_after(NOW, WARSAW) == NOW + 1000
    assert every(days=1).seconds == 86_400.0
    assert not every(10).aligned


def test_begins() -> None:
    begun = every(10).begun_at(NOW)
    assert begun.next_after(NOW - 1, WARSAW) == NOW
    assert begun.next_after(0, WARSAW) == NOW
    assert begun.next_after(NOW, WARSAW) == NOW + 10_000_000
    assert begun.due(0, NOW + 25_000_000, WARSAW, newest=2) == ((NOW + 10_000_000, NOW + 20_000_000), 3)
    assert begun.form() == every(10).form()
    assert begun != every(10)
    assert begun == every(10).begun_at(NOW)


def test_what_has_come_is_not_walked_through() -> None:
    year = 366 * 86_400 * 1_000_000
    due = every(0.001).due(NOW, NOW + 100 * year, WARSAW, newest=2)
    assert due.total == 100 * 366 * 86_400 * 1000
    assert due.newest == (NOW + 100 * year - 1000, NOW + 100 * year)
    assert every(10).due(NOW, NOW + 9_999_999, WARSAW, newest=5) == ((), 0)


@pytest.mark.parametrize(
    ("schedule", "last", "zone", "following"),
    [
        (every(hours=2, aligned=True), "2026-11-26T09:17:30+01:00", "Europe/Warsaw",
         ["2026-11-26T11:00:00+01:00", "2026-11-26T13:00:00+01:00"]),
        (every(minutes=5, aligned=True), "2026-11-26T09:17:30+01:00", "Europe/Warsaw",
         ["2026-11-26T09:22:00+01:00", "2026-11-26T09:27:00+01:00"]),
        (every(seconds=7, aligned=True), "2026-11-26T09:17:30.500+01:00", "Europe/Warsaw",
         ["2026-11-26T09:17:37+01:00", "2026-11-26T09:17:44+01:00"]),
        (every(days=1, aligned=True), "2026-10-24T09:17:30+02:00", "Europe/Warsaw",
         ["2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00", "2026-10-27T00:00:00+01:00"]),
        (every(weeks=1, aligned=True), "2027-03-25T09:00:00+01:00", "Europe/Warsaw",
         ["2027-04-01T00:00:00+02:00", "2027-04-08T00:00:00+02:00"]),
        # The full hour on the wall, where that is half an hour off.
        (every(hours=1, aligned=True), "2026-11-26T09:17:30+05:45", "Asia/Kathmandu",
         ["2026-11-26T10:00:00+05:45", "2026-11-26T11:00:00+05:45"]),
        # Midnight is left out.
        (every(days=1, aligned=True), "2027-03-13T09:00:00-05:00", "America/Havana",
         ["2027-03-14T01:00:00-04:00", "2027-03-15T00:00:00-04:00"]),
    ],
)  # fmt: skip
def test_aligned(schedule: every, last: str, zone: str, following: list[str]) -> None:
    moment = instant(datetime.fromisoformat(last))
    for expected in following:
        after = schedule.next_after(moment, ZoneInfo(zone))
        assert after is not None
        assert datetime.fromtimestamp(after / 1_000_000, ZoneInfo(zone)).isoformat() == expected
        moment = after


@pytest.mark.parametrize("hours", [1, 1.5, 5])
def test_counting_where_the_full_hour_moves(hours: float) -> None:
    """Lord Howe puts the clock back by half an hour on the 5th of April 2026."""
    zone, change = ZoneInfo("Australia/Lord_Howe"), instant(datetime(2026, 4, 4, 15, tzinfo=UTC))
    schedule = every(hours=hours, aligned=True)
    for before in range(0, 900, 53):
        for span in range(0, 12 * 60, 7):
            after = change - (3 * 1440 + before) * 60_000_000
            until = change + (span - 360) * 60_000_000
            walked = Schedule.due(schedule, after, until, zone, newest=2)
            assert schedule.due(after, until, zone, newest=2) == walked


@given(
    watched=st.deferred(lambda: st.sampled_from(zones())),
    place=st.floats(0, 1),
    near=st.integers(-200_000, 200_000),
    interval=st.one_of(
        st.integers(1, 200), st.integers(1, 90).map(lambda minutes: minutes * 60), st.integers(3600, 200_000)
    ),
    span=st.integers(0, 5 * 86_400),
    newest=st.integers(0, 4),
    aligned=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_counting_is_walking(
    watched: Any, place: float, near: int, interval: int, span: int, newest: int, aligned: bool
) -> None:
    changes = watched.changes or (datetime(2026, 1, 1, tzinfo=UTC),)
    moment = instant(changes[int(place * (len(changes) - 1))]) + near * 1_000_000
    schedule = every(interval, aligned=aligned)
    until = moment + min(span, interval * 800) * 1_000_000
    walked = Schedule.due(schedule, moment, until, watched.zone, newest=newest)
    assert schedule.due(moment, until, watched.zone, newest=newest) == walked
    for before, after in zip((moment, *walked.newest), walked.newest, strict=False):
        assert after > before
