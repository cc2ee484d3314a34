"""From what a clock on a wall shows to instants, and back.

A clock on a wall shows some times never (a **gap**: in spring, when it is put forward) and some twice (a **fold**: in
autumn, when it is put back). A nominal time in a gap is the instant right after the gap, one in a fold is the first of
its two.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from celeriac.errors import ScheduleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    from celeriac.model import Instant

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 -- what a wall shows has no zone
EARLIEST, LATEST = -62_100_000_000 * SECOND, 253_300_000_000 * SECOND
"""Within the years 2 and 9996, so that nothing that is added leaves the calendar."""
_MICROSECOND = timedelta(microseconds=1)


def zone(name: str) -> tzinfo:
    """The zone of this IANA name.

    Raises:
        ScheduleError: There is none; the message names the nearest, or says how to get the database.
    """
    if name == "UTC":
        return UTC  # also where the host has no zone files
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError):  # KeyError: ZoneInfoNotFoundError
        raise ScheduleError(f"no time zone {name!r}: {zone_advice(name)}") from None


def zone_advice(name: str) -> str:
    """What to do when there is no zone of this name."""
    from difflib import get_close_matches
    from zoneinfo import available_timezones

    known = sorted(available_timezones())
    if not known:
        return "this host has no time zone database; install the package tzdata (the system's, or `pip install tzdata`)"
    near = get_close_matches(str(name), known, n=1)
    return f"did you mean {near[0]!r}?" if near else "no such zone on this host; 'Europe/Rome' is one"


def instant(moment: datetime) -> Instant:
    """Of an aware datetime."""
    return (moment.astimezone(UTC).replace(tzinfo=None) - EPOCH) // _MICROSECOND


def moment_of(moment: Instant, zone: tzinfo = UTC) -> datetime:
    """The same back, in this zone."""
    return (EPOCH + timedelta(microseconds=moment)).replace(tzinfo=UTC).astimezone(zone)


def wall(moment: Instant, zone: tzinfo) -> datetime:
    """What the wall shows at that moment, to the second below; without a zone."""
    return datetime.fromtimestamp(moment // SECOND, zone).replace(tzinfo=None)


def offset(moment: Instant, zone: tzinfo) -> int:
    """How far the wall is ahead of UTC at that moment, in microseconds."""
    ahead = datetime.fromtimestamp(moment // SECOND, zone).utcoffset()
    assert ahead is not None
    return ahead // _MICROSECOND


def from_wall(nominal: datetime, zone: tzinfo) -> Instant:
    """The instant at which the wall shows this; in a gap, right after it; in a fold, the first one."""
    first = nominal.replace(tzinfo=zone)
    before, after = first.utcoffset(), first.replace(fold=1).utcoffset()
    assert before is not None
    assert after is not None
    if before >= after:
        return (nominal - before - EPOCH) // _MICROSECOND
    return next_change((nominal - after - EPOCH) // _MICROSECOND, (nominal - before - EPOCH) // _MICROSECOND, zone)


def is_shown(nominal: datetime, zone: tzinfo) -> bool:
    """Whether the wall shows this at all: it is not in a gap."""
    first = nominal.replace(tzinfo=zone)
    before, after = first.utcoffset(), first.replace(fold=1).utcoffset()
    return before is None or after is None or before >= after


def next_change(low: Instant, high: Instant, zone: tzinfo) -> Instant:
    """The first instant with another offset than `low` has, when `high` is one such and there is one change between.

    Changes come at whole seconds.
    """
    ahead = offset(low, zone)
    low, high = low // SECOND, high // SECOND
    while high - low > 1:
        middle = (low + high) // 2
        if offset(middle * SECOND, zone) == ahead:
            low = middle
        else:
            high = middle
    return high * SECOND


def stretches(after: Instant, until: Instant, zone: tzinfo) -> Iterator[tuple[Instant, Instant, bool]]:
    """Cut a span where the wall is put forward or back, at a day's precision.

    Yields:
        (from, to, steady), one after the other. Where steady, the offset is the same in it and for a day before it, so
        nothing in it is shown twice or left out.
    """
    start, end = after, after
    ahead, was_steady, steady = offset(after, zone), True, offset(after - DAY, zone) == offset(after, zone)
    while end < until:
        begin, end = end, min(end + DAY, until)
        now_ahead = offset(end, zone)
        still, ahead = now_ahead == ahead, now_ahead
        is_steady = still and steady
        steady = still
        if is_steady != was_steady and begin > start:
            yield start, begin, was_steady
            start = begin
        was_steady = is_steady
    if end > start:
        yield start, end, was_steady
