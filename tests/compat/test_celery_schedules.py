from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import celeriac
from celeriac.compat.celery.schedules import (
    ParseException,
    crontab,
    crontab_parser,
    maybe_schedule,
    schedule,
    solar,
)
from celeriac.errors import ScheduleError
from celeriac.scheduler.asked import Asked
from celeriac.scheduler.entry import entry_of, instant_of


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("*", set(range(60))),
        ("*/15", {0, 15, 30, 45}),
        ("1-3,7", {1, 2, 3, 7}),
        ("10-20/5", {10, 15, 20}),
        ("58-2", {58, 59, 0, 1, 2}),
    ],
)
def test_minutes(text: str, values: set[int]) -> None:
    assert crontab_parser(60).parse(text) == values
    assert crontab(minute=text).minute == values


def test_names_of_days_and_months() -> None:
    assert crontab(day_of_week="mon-fri").day_of_week == {1, 2, 3, 4, 5}
    assert crontab(day_of_week="sunday,7").day_of_week == {0}
    assert crontab(month_of_year="jan,dec").month_of_year == {1, 12}
    assert crontab(hour=[1, 2], minute={3}).hour == {1, 2}


@pytest.mark.parametrize("text", ["60", "x", "*/0", "1,,2", "-1", "5-"])
def test_what_is_no_field(text: str) -> None:
    with pytest.raises((ParseException, ValueError)):
        crontab(minute=text)


def test_as_values() -> None:
    assert crontab(minute="0") == crontab(minute=0) != crontab(minute=1)
    assert hash(crontab(minute="0")) == hash(crontab(minute=0))
    assert repr(crontab(minute=0, hour="*/3")) == "<crontab: 0 */3 * * * (m/h/dM/MY/d)>"
    assert crontab.from_string("0 5 1 jan mon") == crontab(0, 5, "mon", 1, "jan")
    assert pickle.loads(pickle.dumps(crontab(minute=5))) == crontab(minute=5)
    with pytest.raises(ValueError, match="five fields"):
        crontab.from_string("* * *")
    assert schedule(30) == schedule(timedelta(seconds=30)) == timedelta(seconds=30)
    assert repr(schedule(7200)) == "<freq: 2.00 hours>"
    assert maybe_schedule(10) == schedule(10)
    assert maybe_schedule(crontab(minute=1)) == crontab(minute=1)
    assert solar("sunset", -37.81, 144.96) == solar("sunset", -37.81, 144.96)
    for wrong in (("noon", 0, 0), ("sunset", 91, 0), ("sunset", 0, 181)):
        with pytest.raises(ValueError, match=r"noon|91|181"):
            solar(*wrong)


class _App:
    def __init__(self, zone: str, **conf: Any) -> None:
        self.timezone = ZoneInfo(zone)
        self.conf = SimpleNamespace(**{"beat_cron_starting_deadline": None, **conf})


def test_when_it_is_due() -> None:
    now = datetime(2030, 1, 7, 12, 0, 30, tzinfo=UTC)
    every = schedule(60, nowfun=lambda: now, app=_App("UTC"))
    assert every.is_due(now - timedelta(seconds=20)) == (False, 40.0)
    assert every.is_due(now - timedelta(seconds=90)) == (True, 60.0)
    noon = crontab(minute=0, hour=12, nowfun=lambda: now, app=_App("UTC"))
    assert noon.is_due(now - timedelta(minutes=2))[0] is True
    due, left_s = noon.is_due(now - timedelta(seconds=10))
    assert (due, left_s) == (False, 24 * 3600 - 30)


def test_the_time_zone_is_the_applications() -> None:
    now = datetime(2030, 1, 7, 11, 0, 30, tzinfo=UTC)
    noon = crontab(minute=0, hour=12, nowfun=lambda: now, app=_App("Europe/Berlin"))
    assert noon.is_due(now - timedelta(minutes=2))[0] is True


def test_a_gap_in_spring_is_seen_as_by_all_of_celeriac() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    now = datetime(2030, 3, 31, 0, 59, 59, tzinfo=UTC)
    half_past_two = crontab(minute=30, hour=2, nowfun=lambda: now, app=_App("Europe/Berlin"))
    last = datetime(2030, 3, 30, 12, tzinfo=berlin)
    assert half_past_two.remaining_estimate(last) == timedelta(seconds=1)
    start, delta, _ = half_past_two.remaining_delta(last)
    assert start + delta == datetime(2030, 3, 31, 3, tzinfo=berlin)


def test_one_that_never_comes() -> None:
    with pytest.raises(ValueError, match="never comes"):
        crontab(day_of_month=31, month_of_year=2)
    leap = crontab(0, 0, day_of_month=29, month_of_year=2, nowfun=lambda: datetime(2030, 1, 1, tzinfo=UTC))
    leap.app = _App("UTC")
    left = leap.remaining_estimate(datetime(2030, 1, 1, tzinfo=UTC))
    assert datetime(2030, 1, 1, tzinfo=UTC) + left == datetime(2032, 2, 29, tzinfo=UTC)


def test_a_deadline_for_what_was_missed() -> None:
    app = _App("UTC", beat_cron_starting_deadline=60)
    now = datetime(2030, 1, 7, 12, 0, 30, tzinfo=UTC)
    noon = crontab(minute=0, hour=12, nowfun=lambda: now, app=app)
    assert noon.is_due(now - timedelta(days=2))[0] is True
    late = crontab(minute=59, hour=11, nowfun=lambda: now, app=app)
    assert late.is_due(now - timedelta(days=2)) == (False, 24 * 3600 - 90)


def test_relative_is_aligned() -> None:
    now = datetime(2030, 1, 7, 12, 40, tzinfo=UTC)
    hours = schedule(timedelta(hours=2), relative=True, nowfun=lambda: now, app=_App("UTC"))
    assert hours.is_due(now) == (False, 80 * 60.0)
    assert hours.is_due(datetime(2030, 1, 7, 10, 10, tzinfo=UTC)) == (True, 80 * 60.0)


def test_an_interval_of_nothing_is_always_over() -> None:
    now = datetime(2030, 1, 7, 12, 40, tzinfo=UTC)
    assert schedule(0, nowfun=lambda: now, app=_App("UTC")).is_due(now) == (True, 0)
    with pytest.raises(ScheduleError, match="zero"):
        schedule(0).as_schedule()


@given(
    st.integers(946_684_800, 2_208_988_800).map(lambda epoch: datetime.fromtimestamp(epoch, UTC)),
    st.sets(st.integers(0, 59), min_size=1),
    st.sets(st.integers(0, 23), min_size=1),
    st.sets(st.integers(0, 6), min_size=1),
)
def test_the_next_time_is_that_of_celeriac(moment: Any, minutes: Any, hours: Any, days: Any) -> None:
    made = crontab(minute=minutes, hour=hours, day_of_week=days, nowfun=lambda: moment, app=_App("Asia/Kathmandu"))
    ours = celeriac.crontab(minute=minutes, hour=hours, day_of_week=days)
    assert made.as_schedule() == ours
    found = ours.next_after(instant_of(moment), made.tz)
    assert found is not None
    assert instant_of(moment + made.remaining_estimate(moment)) == found
    start, delta, now = made.remaining_delta(moment)
    assert (instant_of(start + delta), now) == (found, moment)


class Weekdays(crontab):
    """A subclass that says nothing of when."""

    def __init__(self) -> None:
        super().__init__(minute=0, hour=9, day_of_week="mon-fri")


class Holidays(Weekdays):
    def is_due(self, last_run_at: datetime) -> Any:
        return super().is_due(last_run_at)


class Slowly(schedule):
    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return 2 * super().remaining_estimate(last_run_at)


class Elsewhere(crontab):
    tz = ZoneInfo("America/Lima")


def test_what_a_beat_works_with() -> None:
    assert schedule(30).as_schedule() == celeriac.every(30)
    assert schedule(timedelta(days=1), relative=True).as_schedule() == celeriac.every(days=1, aligned=True)
    assert crontab(minute="*/5", day_of_week="sun").as_schedule() == celeriac.crontab("*/5", day_of_week=0)
    assert solar("sunset", -37, 144).as_schedule() == celeriac.solar("sunset", -37, 144)
    assert Weekdays().as_schedule() == celeriac.crontab("0 9 * * 1-5")
    for asked in (Holidays(), Slowly(5)):
        assert isinstance(asked.as_schedule(), Asked)
        assert asked.as_schedule() == Asked(asked)


def test_where_its_wall_is() -> None:
    lima, berlin = ZoneInfo("America/Lima"), ZoneInfo("Europe/Berlin")

    def zone(made: Any) -> Any:
        return entry_of("e", {"task": "t", "schedule": made}, zone="Europe/Berlin").zone

    own = crontab(minute=0)
    assert zone(own) == berlin
    own.tz = lima
    assert zone(own) == zone(Elsewhere(hour=3)) == lima
    entry = entry_of("e", {"task": "t", "schedule": own, "timezone": "Asia/Tokyo"}, zone="UTC")
    assert entry.zone == ZoneInfo("Asia/Tokyo")


def test_the_sun() -> None:
    pytest.importorskip("ephem")
    now = datetime(2030, 6, 21, 12, tzinfo=UTC)
    sunset = solar("sunset", 52.2, 21.0, nowfun=lambda: now, app=_App("UTC"))
    due, left_s = sunset.is_due(now)
    assert not due
    assert abs(left_s - 7 * 3600) < 600
    assert sunset.is_due(now - timedelta(days=1))[0]
