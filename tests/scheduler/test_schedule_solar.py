from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import ephem
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac import solar
from celeriac.scheduler.solar import EVENTS
from celeriac.scheduler.walltime import instant

DAY = 86_400 * 1_000_000
PLACES = [(52.2, 21.0), (0.0, 0.0), (-33.9, 151.2), (64.1, -21.9), (40.7, -74.0), (-17.7, 179.9), (21.3, -157.9)]


def following(schedule: solar, start: datetime, many: int) -> list[datetime]:
    found, moment = [], instant(start)
    for _ in range(many):
        after = schedule.next_after(moment, UTC)
        assert after is not None
        assert after > moment
        assert schedule.next_after(after - 1, UTC) == after
        assert after % 1_000_000 == 0
        found.append(datetime.fromtimestamp(after // 1_000_000, UTC))
        moment = after
    return found


def by_celery(event: str, lat: float, lon: float, start: datetime) -> datetime:
    """What Celery asks ephem."""
    place = ephem.Observer()
    place.lat, place.lon, place.elev, place.pressure = str(lat), str(lon), 0, 0
    place.horizon = {"sunrise": "-0:34", "sunset": "-0:34", "solar_noon": "0"}.get(
        event, {"civil": "-6", "nautical": "-12", "astronomical": "-18"}.get(event.partition("_")[2], "0")
    )
    date = ephem.Date(start.replace(tzinfo=None))
    if event == "solar_noon":
        found = place.next_transit(ephem.Sun(), start=date)
    else:
        rises = event.startswith("dawn") or event == "sunrise"
        find = place.next_rising if rises else place.next_setting
        found = find(ephem.Sun(), start=date, use_center=event.startswith("d"))
    answer: datetime = found.datetime().replace(tzinfo=UTC)
    return answer


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("event", EVENTS)
def test_celerys_instants(event: str, place: tuple[float, float]) -> None:
    schedule = solar(event, *place)
    for month in range(1, 13):
        start = datetime(2026, month, 11, month * 2 - 1, 17, tzinfo=UTC)
        try:
            theirs = by_celery(event, *place, start)
        except ephem.CircumpolarError:
            continue
        (ours,) = following(schedule, start, 1)
        assert abs(ours - theirs) < timedelta(seconds=3), start


def almanac(day: datetime, lat: float, lon: float, height: float) -> tuple[float, float, float] | None:
    """Minutes of UTC of rise, noon and set, by a series for declination and equation of time (Spencer, 1971)."""
    g = 2 * math.pi * (day.timetuple().tm_yday - 1 + 0.5 - lon / 360) / (366 if day.year % 4 == 0 else 365)
    equation = 229.18 * (
        0.000075 + 0.001868 * math.cos(g) - 0.032077 * math.sin(g) - 0.014615 * math.cos(2 * g)
        - 0.040849 * math.sin(2 * g)
    )  # fmt: skip
    declination = (
        0.006918 - 0.399912 * math.cos(g) + 0.070257 * math.sin(g) - 0.006758 * math.cos(2 * g)
        + 0.000907 * math.sin(2 * g) - 0.002697 * math.cos(3 * g) + 0.00148 * math.sin(3 * g)
    )  # fmt: skip
    phi = math.radians(lat)
    angle = (math.sin(math.radians(height)) - math.sin(phi) * math.sin(declination)) / (
        math.cos(phi) * math.cos(declination)
    )
    if abs(angle) > 1:
        return None
    half = 4 * math.degrees(math.acos(angle))
    noon = 720 - 4 * lon - equation
    return noon - half, noon, noon + half


@given(
    lat=st.floats(-55, 55),
    lon=st.floats(-180, 180),
    day=st.integers(0, 7300),
    kind=st.sampled_from([("sunrise", "sunset", -0.833), ("dawn_civil", "dusk_civil", -6)]),
)
@settings(max_examples=60, deadline=None)
def test_an_almanac(lat: float, lon: float, day: int, kind: tuple[str, str, float]) -> None:
    """Which shares nothing with ephem; the series is good to a few minutes."""
    rise, fall, height = kind
    midnight = datetime(2015, 1, 1, tzinfo=UTC) + timedelta(days=day)
    expected = almanac(midnight, lat, lon, height)
    assert expected is not None
    for event, minutes in zip((rise, "solar_noon", fall), expected, strict=True):
        (found,) = following(solar(event, lat, lon), midnight + timedelta(minutes=minutes - 60), 1)
        assert abs(found - midnight - timedelta(minutes=minutes)) < timedelta(minutes=6)


def test_the_polar_night_is_passed_over() -> None:
    """Longyearbyen: no sunrise from late October to mid February, and from late April to late August none either."""
    found = following(solar("sunrise", 78.2, 15.6), datetime(2026, 10, 1, tzinfo=UTC), 150)
    gaps = [(before, after) for before, after in pairwise(found) if after - before > timedelta(days=2)]
    assert [(f"{before:%b}", f"{after:%b}") for before, after in gaps] == [("Oct", "Feb"), ("Apr", "Aug")]
    assert all(after - before > timedelta(hours=20) for before, after in pairwise(found)), "one for each day"


@pytest.mark.parametrize("event", ["sunset", "dawn_nautical"])
@pytest.mark.parametrize("lat", [90.0, -90.0, 89.9, 66.6, -75.0])
def test_at_high_latitudes(event: str, lat: float) -> None:
    """It rises and sets in turn, and never twice for one day."""
    rises, sets = solar("sunrise", lat, 30.0), solar("sunset", lat, 30.0)
    moment = instant(datetime(2026, 1, 1, tzinfo=UTC))
    for _ in range(6):
        rise = rises.next_after(moment, UTC)
        assert rise is not None
        fall = sets.next_after(rise, UTC)
        assert fall is not None
        again = rises.next_after(rise, UTC)
        assert again is not None
        assert rise < fall < again
        moment = rise
    found = following(solar(event, lat, 30.0), datetime(2026, 1, 1, tzinfo=UTC), 8)
    assert all(after - before > timedelta(hours=12) for before, after in pairwise(found))


def test_noon_every_day() -> None:
    found = following(solar("solar_noon", 80.0, -179.9), datetime(2026, 1, 1, tzinfo=UTC), 366)
    assert all(abs(after - before - timedelta(days=1)) < timedelta(minutes=1) for before, after in pairwise(found))


def test_none_where_there_is_none() -> None:
    """No astronomical night at 60 degrees in June; the next is in July or later."""
    (found,) = following(solar("dusk_astronomical", 60.0, 25.0), datetime(2026, 6, 10, tzinfo=UTC), 1)
    assert found.month in (8, 9)
