"""What is to be done about an entry now: a function of the entry, its mark and the time.

It depends on nothing else, but for schedules that have to be asked (`asked.py`), which may have a state of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from celeriac.scheduler.asked import Asked
from celeriac.scheduler.schedule import SECOND

if TYPE_CHECKING:
    from celeriac.model import Instant, Mark
    from celeriac.scheduler.entry import Entry

AHEAD: Final = 5 * SECOND
"""A mark further ahead than this was set while the clock was wrong; less is how exactly beats know the store's time,
and how long ahead a rush is sent."""
_CORRECTION: Final = 3 * 3600 * SECOND
"""As in cron: times of day repeated by a clock that went back are not repeated, unless it went back further than this.
It was wrong then, and nobody wants to wait until it would have been right."""
MOVED: Final = frozenset({"new", "schedule changed", "clock moved back"})
"""Notes of marks that stand where nothing was due."""
_MOST: Final = 1000
"""Instants that are published in one go, where they came in the time of grace."""


class Step(NamedTuple):
    """The mark moves to `at`."""

    at: Instant
    fires: bool
    """With a message."""
    skipped: int = 0
    """Instants passed over on the way."""
    note: str = ""
    """Why."""


class Plan(NamedTuple):
    """What to do now, and when to plan again."""

    steps: tuple[Step, ...]
    """Oldest first; each goes on from the one before."""
    again: Instant | None
    """None: never, it is over."""


def plan(entry: Entry, mark: Mark | None, now: Instant, *, grace: Instant) -> Plan:
    """Work it out.

    Args:
        entry: Enabled, and not paused.
        mark: None: it is met for the first time, and nothing is due before now.
        now: By the store's clock.
        grace: An instant that is late by no more was not missed, but is just being seen to.
    """
    schedule, zone = entry.schedule, entry.zone
    if mark is None:
        return Plan((Step(now, fires=False, note="new"),), _first_after(entry, now, now))
    if _is_wrong(mark.at, entry, now):
        return Plan((Step(now, fires=False, note="clock moved back"),), _first_after(entry, now, now))
    after = max(mark.at, _begin(entry, now))
    if isinstance(schedule, Asked):
        answer = schedule.ask(after, now, zone)
        if entry.end is not None and now > entry.end:
            return Plan((), None)
        return Plan((Step(now, fires=True),) if answer.is_due else (), answer.again)
    until = now if entry.end is None else min(now, entry.end)
    found = schedule.due(after, until, zone, newest=max(_MOST, entry.catch_up_limit))
    if not found.total:
        return Plan((), _first_after(entry, after, now))
    last = found.newest[-1]
    return Plan(_steps(entry, found.newest, found.total, now, grace), _first_after(entry, last, now))


def _is_wrong(noted: Instant, entry: Entry, now: Instant) -> bool:
    """Whether what was noted of an entry is so far ahead that the clock was wrong then."""
    return noted > now + AHEAD and (entry.schedule.is_elapsed or noted > now + _CORRECTION)


def _begin(entry: Entry, now: Instant) -> Instant:
    """Instants up to here are not due."""
    return max(0 if _is_wrong(entry.since, entry, now) else entry.since, entry.start - 1)


def _steps(entry: Entry, newest: tuple[Instant, ...], total: int, now: Instant, grace: Instant) -> tuple[Step, ...]:
    fresh = [at for at in newest if now - at <= grace]
    missed = newest[: len(newest) - len(fresh)]
    if entry.catch_up == "all":
        wanted = [*missed[-entry.catch_up_limit :], *fresh]
    elif entry.catch_up == "latest" and not fresh:
        wanted = list(missed[-1:])
    else:
        wanted = fresh
    note = "missed" if len(wanted) < total else ""
    if entry.max_lateness_s is not None:
        latest = now - max(grace, round(entry.max_lateness_s * SECOND))
        in_time = [at for at in wanted if at >= latest]
        if len(in_time) < len(wanted):
            wanted, note = in_time, "too late"
    skipped = total - len(wanted)
    if not wanted:
        return (Step(newest[-1], fires=False, skipped=skipped, note=note),)
    steps = [Step(at, fires=True) for at in wanted]
    if skipped:
        steps[0] = Step(wanted[0], fires=True, skipped=skipped, note=note)
    return tuple(steps)


def _first_after(entry: Entry, moment: Instant, now: Instant) -> Instant | None:
    schedule = entry.schedule
    if isinstance(schedule, Asked):
        return moment + SECOND
    found = schedule.next_after(max(moment, _begin(entry, now)), entry.zone)
    return None if found is None or (entry.end is not None and found > entry.end) else found


def upcoming(entry: Entry, mark: Mark | None, now: Instant, count: int, until: Instant | None = None) -> list[Instant]:
    """The next instants from now on as things stand, at most `count` and none after `until`; one at most where a
    schedule has to be asked.
    """
    if isinstance(entry.schedule, Asked):
        estimate = entry.schedule.next_after(now if mark is None else min(mark.at, now), entry.zone)
        ends = [end for end in (entry.end, until) if end is not None]
        if estimate is None or any(estimate > end for end in ends):
            return []
        return [max(estimate, now)]
    found: list[Instant] = []
    moment = now
    if mark is not None:
        steps = plan(entry, mark, now, grace=0).steps
        moment = steps[-1].at if steps else mark.at
    while len(found) < count:
        following = _first_after(entry, moment, now)
        if following is None or (until is not None and following > until):
            break
        if following > now:
            found.append(following)
        moment = following
    return found
