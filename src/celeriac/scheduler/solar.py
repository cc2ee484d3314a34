"""Positions of the sun."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from celeriac.errors import ScheduleError
from celeriac.scheduler.value import Value
from celeriac.scheduler.walltime import DAY, HOUR, SECOND

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    from celeriac.model import Instant


class Event(NamedTuple):
    """When the sun is at some height."""

    words: str
    degrees: float
    """Above the horizon."""
    rises: bool
    of_rim: bool = False
    """Of the sun's upper rim; otherwise of its centre."""


EVENTS = {
    "dawn_astronomical": Event("astronomical dawn", -18, True),
    "dawn_nautical": Event("nautical dawn", -12, True),
    "dawn_civil": Event("civil dawn", -6, True),
    "sunrise": Event("sunrise", -34 / 60, True, of_rim=True),
    "solar_noon": Event("solar noon", 0, True),
    "sunset": Event("sunset", -34 / 60, False, of_rim=True),
    "dusk_civil": Event("civil dusk", -6, False),
    "dusk_nautical": Event("nautical dusk", -12, False),
    "dusk_astronomical": Event("astronomical dusk", -18, False),
}
"""Celery's, with Celery's heights."""

_DUBLIN = -25567.5
"""The epoch of `ephem`, 1899-12-31 12:00 UTC, in days from ours."""
_LONGEST_NIGHT = 2 * 366
"""Days that are searched for one with the event: at the poles the sun rises once a year."""


class solar(Value):  # noqa: N801 -- Celery's name
    """When the sun stands so, each day on which it does: at high latitudes, not all.

    A day goes from one lowest stand of the sun to the next, at that longitude, and has each event at most once.

    Args:
        event: `sunrise`, `sunset`, `solar_noon`, or `dawn_` or `dusk_` with `civil`, `nautical` or `astronomical`.
        lat: Degrees to the north; negative ones to the south.
        lon: Degrees to the east; negative ones to the west.

    Raises:
        ScheduleError: A value is wrong, or the package `ephem` is missing (`pip install celeriac[solar]`).
    """

    __slots__ = ("_event", "_lat", "_lon")

    _event: str
    _lat: float
    _lon: float

    def __init__(self, event: str, lat: float, lon: float) -> None:
        given: tuple[tuple[str, Any, int], ...] = (("latitude", lat, 90), ("longitude", lon, 180))
        call = f"solar({event!r}, {lat!r}, {lon!r})"
        if event not in EVENTS:
            from difflib import get_close_matches

            near = get_close_matches(str(event), EVENTS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ScheduleError(f"{call}: no event {event!r}; {hint}There are {', '.join(EVENTS)}")
        for name, value, most in given:
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if not number or not -most <= value <= most:
                raise ScheduleError(f"{call}: the {name} {value!r} is not a number of degrees from -{most} to {most}")
        try:
            import ephem  # noqa: F401
        except ImportError:
            raise ScheduleError(
                f"{call}: the positions of the sun are computed by the package ephem, which is not installed; "
                "pip install 'celeriac[solar]'"
            ) from None
        self._put(_event=event, _lat=float(lat), _lon=float(lon))

    def next_after(self, moment: Instant, zone: tzinfo, /) -> Instant | None:
        import ephem

        observer, sun, event = ephem.Observer(), ephem.Sun(), EVENTS[self._event]
        observer.lat, observer.lon = math.radians(self._lat), math.radians(self._lon)
        observer.elevation = observer.pressure = 0

        def is_up(date: float) -> bool:
            observer.date = date
            sun.compute(observer)
            height: float = math.degrees(sun.alt + (sun.radius if event.of_rim else 0))
            return height >= event.degrees

        def noon_of(day: int) -> float:
            mean = (day * DAY + 12 * HOUR - east) / DAY - _DUBLIN
            return float(observer.next_transit(sun, start=mean - 1 / 24))

        # Always from the same starting points, whatever `moment` is: an instant that comes out a little different the
        # next time would be another one.
        east = int(self._lon / 360 * DAY)
        today = (moment + east) // DAY
        noon = noon_of(today - 1)
        for day in range(today, today + _LONGEST_NIGHT):
            midnight, next_noon = noon - 0.5, noon_of(day)
            found: float | None = noon
            if self._event != "solar_noon":
                # Near the poles, it may rise in the afternoon and set in the morning.
                halves = (midnight, noon), (noon, next_noon - 0.5)
                found = next((_turn(is_up, *half) for half in halves if _turns(is_up, *half, event.rises)), None)
            noon = next_noon
            if found is not None and (instant := round((found + _DUBLIN) * DAY / SECOND) * SECOND) > moment:
                return instant
        return None

    def describe(self) -> str:
        north, east = "N" if self._lat >= 0 else "S", "E" if self._lon >= 0 else "W"
        return f"at {EVENTS[self._event].words} at {_degrees(self._lat)} {north}, {_degrees(self._lon)} {east}"

    def form(self) -> dict[str, Any]:
        return {"solar": [self._event, self._lat, self._lon]}

    def _key(self) -> tuple[str, float, float]:
        return self._event, self._lat, self._lon

    def __repr__(self) -> str:
        return f"solar({self._event!r}, {self._lat!r}, {self._lon!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return solar, self._key()


def _turns(is_up: Callable[[float], bool], low: float, high: float, rises: bool) -> bool:
    return is_up(low) is not rises and is_up(high) is rises


def _turn(is_up: Callable[[float], bool], low: float, high: float) -> float:
    """When it rises or sets between these dates, to a tenth of a second."""
    before = is_up(low)
    while high - low > 0.1 * SECOND / DAY:
        middle = (low + high) / 2
        if is_up(middle) is before:
            low = middle
        else:
            high = middle
    return high


def _degrees(angle: float) -> str:
    return str(round(abs(angle), 4))
