"""Schedules of an application's own, written for Celery: objects that only say whether they are due."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from celeriac.errors import ConfigError
from celeriac.scheduler.schedule import SECOND, Schedule
from celeriac.scheduler.walltime import moment_of

if TYPE_CHECKING:
    from datetime import tzinfo

    from celeriac.model import Instant

_LONGEST_S = 300.0
"""As Celery, it is asked at least so often whether it is due."""
_NEVER_S = 10 * 365 * 86_400.0
_SAME_S = 5.0
"""Beats find something due within so long of each other."""
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
"""In a default `repr`; another in each process."""


class Answer(NamedTuple):
    """What it said."""

    is_due: bool
    again: Instant
    """When to ask again."""


class Asked(Schedule):
    """One of these. Its instants are the moments at which it was found due, so nobody can foretell them.

    Args:
        schedule: Has `is_due(last_run_at) -> (bool, seconds)`.
    """

    is_elapsed = True

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule
        self._known: set[Instant] = set()
        """When it was due last, as of the last time that it was asked; and when it was found due then."""

    def ask(self, last: Instant, now: Instant, zone: tzinfo) -> Answer:
        """Whether it is due.

        Args:
            last: When it was due last.
            now: What it is told when it looks at the clock, unless it has a clock of its own.
            zone: Of the moments that it is given.
        """
        schedule = self.schedule
        own = getattr(schedule, "nowfun", False)
        if own is None:
            schedule.nowfun = lambda: moment_of(now, zone)
        try:
            is_due, seconds = schedule.is_due(moment_of(last, zone))
        finally:
            if own is None:
                schedule.nowfun = None
        # Celery looks again at once, or not at all before its longest sleep, where this is no number
        pause_s = max(0.01, float(seconds)) if seconds is not None else 1.0
        another_s = (now - last) / SECOND if self._known and last not in self._known else _LONGEST_S
        if is_due and another_s < min(_SAME_S, pause_s / 2):
            is_due = False  # another beat has just sent for this, and a schedule may be one that goes by its own state
        elif not is_due:
            pause_s = min(pause_s, _LONGEST_S)
        self._known = {last, now} if is_due else {last}
        return Answer(bool(is_due), now + round(min(pause_s, _NEVER_S) * SECOND))

    def next_after(self, moment: Instant, zone: tzinfo, /) -> Instant | None:
        """An estimate, by `remaining_estimate` where it has one."""
        estimate = getattr(self.schedule, "remaining_estimate", None)
        if estimate is None:
            return None
        schedule = self.schedule
        own = getattr(schedule, "nowfun", False)
        if own is None:
            schedule.nowfun = lambda: moment_of(moment, zone)
        try:
            left = estimate(moment_of(moment, zone))
        except NotImplementedError:
            return None
        finally:
            if own is None:
                schedule.nowfun = None
        return moment + max(1, round(left.total_seconds() * SECOND)) if isinstance(left, timedelta) else None

    def describe(self) -> str:
        return f"as {self.schedule!r} says"

    def form(self) -> dict[str, Any]:
        return {"asked": _ADDRESS.sub("", repr(self.schedule))}

    def begun_at(self, start: Instant, /) -> Schedule:
        raise ConfigError(f"start= has no meaning for {self.schedule!r}, which decides by itself")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Asked) and self.schedule == other.schedule

    def __hash__(self) -> int:
        return hash(repr(self.schedule))
