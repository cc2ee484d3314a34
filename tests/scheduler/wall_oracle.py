"""What a clock on a wall does, found by watching it: an oracle that shares nothing with the scheduler.

It goes through UTC and asks what the wall shows then; the other direction, and with it `fold`, is never used. A gap is
where the wall leaves out minutes, a fold where it shows what it has shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo, available_timezones

from dateutil import tz as dateutil_tz

FIRST, LAST = datetime(2009, 1, 1, tzinfo=UTC), datetime(2032, 1, 1, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

Rule = Callable[[datetime], bool]
"""Whether a minute on the wall matches; gets it without a zone."""


@dataclass(frozen=True)
class Watched:
    """A zone, and where its offset changes between FIRST and LAST."""

    name: str
    changes: tuple[datetime, ...]

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.name)


@cache
def zones() -> tuple[Watched, ...]:
    """Every zone of the database; of those that do the same in these years, one."""
    found: dict[object, Watched] = {}
    for names in _files().values():
        watched, behaviour = _watch(names[0])
        found.setdefault(behaviour, watched)
    return tuple(found.values())


def _files() -> dict[bytes, list[str]]:
    """All names by what their files say: many are links."""
    files: dict[bytes, list[str]] = {}
    for name in sorted(available_timezones() - {"localtime"}):  # that is a host's own link
        paths = (Path(folder, name) for folder in TZPATH)
        data = next((path.read_bytes() for path in paths if path.is_file()), None)
        if data is None:
            *folders, last = name.split("/")
            data = resources.files(".".join(["tzdata", "zoneinfo", *folders])).joinpath(last).read_bytes()
        files.setdefault(data, []).append(name)
    return files


def _watch(name: str) -> tuple[Watched, object]:
    zone = ZoneInfo(name)
    moment, ahead = FIRST, FIRST.astimezone(zone).utcoffset()
    changes, behaviour = [], [(FIRST, ahead)]
    while moment < LAST:
        later = moment + timedelta(days=1)
        if (then := later.astimezone(zone).utcoffset()) != ahead:
            low, high = moment, later
            while high - low > timedelta(seconds=1):
                middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
                if middle.astimezone(zone).utcoffset() == ahead:
                    low = middle
                else:
                    high = middle
            changes.append(high)
            behaviour.append((high, then))
        moment, ahead = later, then
    return Watched(name, tuple(changes)), tuple(behaviour)


@cache
def changing() -> tuple[Watched, ...]:
    return tuple(watched for watched in zones() if watched.changes)


def second_opinion(watched: Watched) -> Iterator[tuple[datetime, timedelta | None, timedelta | None]]:
    """The offset right before and right after each change, by zoneinfo and by dateutil's reader of the files."""
    other = dateutil_tz.gettz(watched.name)
    for change in watched.changes:
        for moment in (change - timedelta(seconds=1), change):
            yield moment, moment.astimezone(watched.zone).utcoffset(), moment.astimezone(other).utcoffset()


class Walk:
    """Minutes of UTC one by one, each with what the wall shows and with what it leaves out right before.

    Args:
        zone: Whose wall.
        start: A whole minute; what comes after it is seen.
        end: The last minute.
    """

    def __init__(self, zone: ZoneInfo, start: datetime, end: datetime) -> None:
        self.seen: list[tuple[datetime, datetime, list[datetime], bool]] = []
        """(UTC, shown, left out, shown before)"""
        # the walk may begin in the second pass of a fold; none is longer than three hours
        farthest = max((start - back * MINUTE).astimezone(zone).replace(tzinfo=None) for back in range(181))
        moment = start
        while moment < end:
            moment += MINUTE
            shown = moment.astimezone(zone).replace(tzinfo=None, fold=0)
            left_out = []
            if shown <= farthest:
                self.seen.append((moment, shown, [], True))
                continue
            while farthest + MINUTE < shown:
                farthest += MINUTE
                left_out.append(farthest)
            farthest = shown
            self.seen.append((moment, shown, left_out, False))

    def due(self, rule: Rule, *, all_hours: bool = False) -> list[datetime]:
        """The minutes of UTC at which this is due.

        Args:
            rule: What matches.
            all_hours: It counts time that passes: due whenever it is shown, be it again; never for what is left out.
        """
        if all_hours:
            return [moment for moment, shown, _, _ in self.seen if rule(shown)]
        return [
            moment
            for moment, shown, left_out, again in self.seen
            if not again and (rule(shown) or any(rule(minute) for minute in left_out))
        ]


def is_last_day(shown: datetime) -> bool:
    return (shown + timedelta(days=1)).day == 1


def nth_of_month(shown: datetime) -> int:
    return (shown.day + 6) // 7


def is_last_week(shown: datetime) -> bool:
    return (shown + timedelta(days=7)).month != shown.month
