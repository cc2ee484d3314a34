"""Time that passes."""

from __future__ import annotations

import math
from collections import deque
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from celeriac.errors import ScheduleError
from celeriac.scheduler.crontab_words import join
from celeriac.scheduler.schedule import Due
from celeriac.scheduler.value import Value
from celeriac.scheduler.walltime import DAY, EARLIEST, HOUR, LATEST, MINUTE, SECOND, from_wall, offset, stretches, wall

if TYPE_CHECKING:
    from datetime import tzinfo

    from celeriac.model import Instant

_MICROSECOND = timedelta(microseconds=1)
_LONGEST = 100 * 366 * DAY
_UNITS = ((7 * DAY, "week"), (DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"))


class every(Value):  # noqa: N801
    """Again and again, after so much time.

    Args:
        interval: Seconds, or a timedelta; instead of the units by name, which add up.
        seconds: Seconds.
        minutes: Minutes.
        hours: Hours.
        days: Of 24 hours.
        weeks: Of seven days.
        aligned: Each instant is put back to the full unit of the interval on the wall: days to midnight, hours to the
            full hour, minutes to the full minute. Days are then days of the calendar. Celery's `relative`.

    Raises:
        ScheduleError: The interval is below a millisecond, or above a hundred years.
    """

    __slots__ = ("_aligned", "_begin", "_interval")

    is_elapsed: ClassVar[bool] = True

    _interval: int
    _aligned: bool
    _begin: Instant | None

    def __init__(
        self,
        interval: float | timedelta | None = None,
        /,
        *,
        seconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
        weeks: float = 0,
        aligned: bool = False,
    ) -> None:
        units = {"seconds": seconds, "minutes": minutes, "hours": hours, "days": days, "weeks": weeks}
        given = {name: value for name, value in units.items() if value != 0}
        words = ", ".join(
            [repr(interval)] * (interval is not None) + [f"{name}={value!r}" for name, value in given.items()]
        )
        if interval is not None and given:
            raise ScheduleError(f"every({words}): an interval is given either as one value or by its units")
        if isinstance(interval, timedelta):
            length = interval // _MICROSECOND
        else:
            parts: dict[str, Any] = {"seconds": interval} if interval is not None else units
            for value in parts.values():
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                    raise ScheduleError(f"every({words}): {value!r} is not a number; seconds or a timedelta are wanted")
            try:
                length = timedelta(**parts) // _MICROSECOND
            except OverflowError:
                length = _LONGEST + 1
        if length < SECOND // 1000:
            found = "negative" if length < 0 else "zero" if length == 0 else "shorter than a millisecond"
            raise ScheduleError(
                f"every({words}): the interval is {found}; write for example every(seconds=10), or remove the entry"
            )
        if length > _LONGEST:
            raise ScheduleError(
                f"every({words}): the interval is longer than a hundred years; write at(…) for one instant"
            )
        self._put(_interval=length, _aligned=bool(aligned), _begin=None)

    @property
    def seconds(self) -> float:
        """The interval."""
        return self._interval / SECOND

    @property
    def aligned(self) -> bool:
        return self._aligned

    def begun_at(self, start: Instant, /) -> every:
        return _again(self._interval, self._aligned, start)

    def next_after(self, moment: Instant, zone: tzinfo, /) -> Instant | None:
        if self._begin is not None and moment < self._begin:
            return self._begin
        if not EARLIEST < moment < LATEST - self._interval:
            return None
        if not self._aligned or self._interval < SECOND:
            passed = 0 if self._begin is None else (moment - self._begin) % self._interval
            return moment - passed + self._interval
        if self._interval >= DAY:
            later = wall(moment, zone) + timedelta(microseconds=self._interval)
            return from_wall(datetime(later.year, later.month, later.day), zone)  # noqa: DTZ001
        later_instant = moment + self._interval
        return later_instant - (later_instant + offset(later_instant, zone)) % self._unit

    @property
    def _unit(self) -> int:
        return next(unit for unit in (DAY, HOUR, MINUTE, SECOND) if self._interval >= unit)

    def due(self, after: Instant, until: Instant, zone: tzinfo, /, *, newest: int) -> Due:
        first = self.next_after(after, zone)
        if first is None or first > until:
            return Due((), 0)
        if not self._aligned or self._interval < SECOND:
            return _lattice(first, until, self._interval, newest)
        kept = deque((first,), maxlen=newest)
        total, moment, step = 1, first, self._interval // self._unit * self._unit
        for _, end, steady in stretches(first, until, zone):
            while (found := self.next_after(moment, zone)) is not None and found <= end:
                many = 1
                if steady and self._interval < DAY:  # the last steps are taken singly: they may look beyond the stretch
                    many = max(1, (end - self._interval - found) // step + 1)
                moment = found + (many - 1) * step
                total += many
                kept.extend(moment - back * step for back in reversed(range(min(many, newest))))
        return Due(tuple(kept), total)

    def describe(self) -> str:
        left, parts = self._interval, []
        for unit, name in _UNITS:
            count, left = divmod(left, unit)
            if count:
                parts.append(f"{count} {name}{'s' if count > 1 else ''}")
        if left:
            parts.append(f"{left / SECOND:g} second{'s' if left != SECOND else ''}")
        text = parts[0].removeprefix("1 ") if len(parts) == 1 else join(parts)
        if not self._aligned or self._interval < MINUTE:
            return f"every {text}"
        where = {DAY: "at midnight", HOUR: "on the hour", MINUTE: "on the minute"}[self._unit]
        return f"every {text}, {where}"

    def form(self) -> dict[str, Any]:
        """As for all; where it begins is not told, as that is its entry's."""
        seconds: float = self._interval / SECOND if self._interval % SECOND else self._interval // SECOND
        return {"every": seconds, "aligned": True} if self._aligned else {"every": seconds}

    def _key(self) -> tuple[int, bool, Instant | None]:
        return self._interval, self._aligned, self._begin

    def __repr__(self) -> str:
        return f"every(seconds={self.form()['every']!r}{', aligned=True' if self._aligned else ''})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, self._key()


def _again(length: int, aligned: bool, begin: Instant | None) -> every:
    made = every.__new__(every)
    made._put(_interval=length, _aligned=aligned, _begin=begin)
    return made


def _lattice(first: Instant, until: Instant, step: int, newest: int) -> Due:
    total = (until - first) // step + 1
    return Due(tuple(first + place * step for place in range(max(0, total - newest), total)), total)
