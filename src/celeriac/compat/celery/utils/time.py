"""Dates and durations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from datetime import timezone as _fixed
from typing import Any
from zoneinfo import ZoneInfo

from celeriac.clock import ENTROPY, SYSTEM_CLOCK

__all__ = [
    "adjust_timestamp",
    "delta_resolution",
    "ffwd",
    "get_exponential_backoff_interval",
    "humanize_seconds",
    "is_naive",
    "localize",
    "make_aware",
    "maybe_iso8601",
    "maybe_make_aware",
    "maybe_timedelta",
    "rate",
    "remaining",
    "timezone",
    "to_utc",
    "utcoffset",
    "weekday",
]

_WEEKDAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_RATES = {"s": 1, "m": 60, "h": 3600, "": 1}
ffwd = dict


class _Timezones:
    utc = UTC

    @property
    def local(self) -> tzinfo:
        found = datetime.fromtimestamp(SYSTEM_CLOCK.time(), UTC).astimezone().tzinfo
        return found or UTC

    def get_timezone(self, zone: Any) -> tzinfo:
        return ZoneInfo(zone) if isinstance(zone, str) else zone

    tz_or_local = get_timezone

    def to_local(self, dt: datetime, local: Any = None, orig: Any = None) -> datetime:
        if dt.tzinfo is None:
            dt = dt.replace(tzinfo=orig or UTC)
        return dt.astimezone(self.get_timezone(local) if local else self.local)

    to_local_fallback = to_local

    def to_system(self, dt: datetime) -> datetime:
        return dt.astimezone()


timezone = _Timezones()


def maybe_timedelta(delta: Any) -> Any:
    """A timedelta of seconds; anything else as it is."""
    return timedelta(seconds=delta) if isinstance(delta, (int, float)) else delta


def delta_resolution(dt: datetime, delta: timedelta) -> datetime:
    """Rounded down to whole days, hours or minutes, whichever `delta` is made of."""
    total = max(delta.total_seconds(), 0)
    if total >= 86400:
        return dt.replace(hour=0, minute=0, second=0, microsecond=0)
    if total >= 3600:
        return dt.replace(minute=0, second=0, microsecond=0)
    if total >= 60:
        return dt.replace(second=0, microsecond=0)
    return dt


def remaining(start: datetime, ends_in: timedelta, now: datetime | None = None, relative: bool = False) -> timedelta:
    """How long until `ends_in` after `start`."""
    now = now or datetime.fromtimestamp(SYSTEM_CLOCK.time(), UTC)
    end = start + ends_in
    return (delta_resolution(end, ends_in) if relative else end) - now


def rate(r: Any) -> float:
    """A rate such as `10/m`, per second."""
    if not r:
        return 0
    if isinstance(r, str):
        number, _, unit = r.partition("/")
        return float(number) / _RATES[unit or "s"]
    return float(r)


def weekday(name: str) -> int:
    """A weekday's number, of its name; Sunday is 0."""
    try:
        return _WEEKDAYS[name[:3].lower()]
    except KeyError:
        raise KeyError(name) from None


def humanize_seconds(secs: float, prefix: str = "", sep: str = "", now: str = "now", microseconds: bool = False) -> str:
    """A duration in words: `2.00 hours`."""
    for size, unit in ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute")):
        if secs >= size:
            number = secs / size
            return f"{prefix}{sep}{number:.2f} {unit}{'' if number == 1 else 's'}"
    if microseconds and 0 < secs < 1:
        return f"{prefix}{sep}{secs:f} seconds"
    return f"{prefix}{sep}{secs:.2f} second{'' if secs == 1 else 's'}" if secs > 0 else now


def maybe_iso8601(dt: Any) -> datetime | None:
    """A datetime of ISO 8601 text; a datetime as it is."""
    return datetime.fromisoformat(dt) if isinstance(dt, str) else dt


def is_naive(dt: datetime) -> bool:
    return dt.tzinfo is None or dt.tzinfo.utcoffset(dt) is None


def make_aware(dt: datetime, tz: tzinfo) -> datetime:
    """A naive datetime in a time zone; an aware one in that zone."""
    return dt.replace(tzinfo=tz) if is_naive(dt) else dt.astimezone(tz)


def maybe_make_aware(dt: datetime, tz: Any = None, naive_as_utc: bool = True) -> datetime:
    if is_naive(dt):
        return dt.replace(tzinfo=UTC if tz is None else tz)
    return dt


def localize(dt: datetime, tz: tzinfo) -> datetime:
    return dt.astimezone(tz)


def to_utc(dt: datetime) -> datetime:
    return make_aware(dt, UTC)


def utcoffset(time: Any = None, localtime: Any = None) -> int:
    """This host's distance from UTC, in hours; west is positive, as in events."""
    offset = datetime.fromtimestamp(SYSTEM_CLOCK.time(), UTC).astimezone().utcoffset() or timedelta()
    return -int(offset.total_seconds() // 3600)


def adjust_timestamp(ts: float, offset: int, here: Any = utcoffset) -> float:
    return float(ts - (offset - here()) * 3600)


def get_exponential_backoff_interval(factor: float, retries: int, maximum: float, full_jitter: bool = False) -> float:
    """Seconds before the next retry."""
    countdown: float = min(maximum, factor * 2.0**retries)
    wait_s = float(ENTROPY.uniform(0, countdown)) if full_jitter else countdown
    return max(0.0, wait_s)


LocalTimezone = _fixed
