from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.compat.celery.schedules import (
    ParseException,
    crontab,
    crontab_parser,
    maybe_schedule,
    schedule,
    solar,
)


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
    def __init__(self, zone: str) -> None:
        self.timezone = ZoneInfo(zone)


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


def test_what_is_skipped_in_spring_is_left_out() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    half_past_two = crontab(minute=30, hour=2)
    assert half_past_two.next_after(datetime(2030, 3, 30, 12, tzinfo=berlin)) == datetime(
        2030, 4, 1, 2, 30, tzinfo=berlin
    )


def test_one_that_never_comes() -> None:
    with pytest.raises(ValueError, match="matches no moment"):
        crontab(day_of_month=31, month_of_year=2).next_after(datetime(2030, 1, 1, tzinfo=UTC))
    leap = crontab(0, 0, day_of_month=29, month_of_year=2)
    assert leap.next_after(datetime(2030, 1, 1, tzinfo=UTC)) == datetime(2032, 2, 29, tzinfo=UTC)


@given(
    st.integers(946_684_800, 2_208_988_800).map(lambda epoch: datetime.fromtimestamp(epoch, UTC)),
    st.sets(st.integers(0, 59), min_size=1),
    st.sets(st.integers(0, 23), min_size=1),
    st.sets(st.integers(0, 6), min_size=1),
)
def test_the_next_time_matches_and_none_before_does(moment: Any, minutes: Any, hours: Any, days: Any) -> None:
    made = crontab(minute=minutes, hour=hours, day_of_week=days)
    found = made.next_after(moment)
    assert found > moment
    assert (found.second, found.microsecond) == (0, 0)

    def matches(when: datetime) -> bool:
        return when.minute in minutes and when.hour in hours and when.isoweekday() % 7 in days

    assert matches(found)
    step = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
    for _ in range(500):
        if step >= found:
            break
        assert not matches(step)
        step += timedelta(minutes=1)
