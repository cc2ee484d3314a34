"""Periodic tasks, as far as packages of schedulers need names; this version runs none."""

from __future__ import annotations

from typing import Any

from celeriac.compat.celery.schedules import crontab, maybe_schedule, schedule
from celeriac.errors import NotSupportedError

__all__ = [
    "BeatLazyFunc",
    "PersistentScheduler",
    "ScheduleEntry",
    "Scheduler",
    "SchedulingError",
    "crontab",
    "schedule",
]

DEFAULT_MAX_INTERVAL = 300


class SchedulingError(Exception):
    """A periodic task could not be sent."""


class BeatLazyFunc:
    """An argument of a periodic task that is worked out when it is sent."""

    def __init__(self, func: Any, *args: Any, **kwargs: Any) -> None:
        self._func, self._args, self._kwargs = func, args, kwargs

    def __call__(self) -> Any:
        return self.delay()

    def delay(self) -> Any:
        return self._func(*self._args, **self._kwargs)


class ScheduleEntry:
    """A periodic task."""

    def __init__(
        self, name: Any = None, task: Any = None, last_run_at: Any = None, total_run_count: Any = None,
        schedule: Any = None, args: Any = (), kwargs: Any = None, options: Any = None, relative: bool = False,
        app: Any = None,
    ) -> None:  # fmt: skip
        self.app = app
        self.name, self.task = name, task
        self.args, self.kwargs, self.options = args, kwargs or {}, options or {}
        self.schedule = maybe_schedule(schedule, relative, app=app)
        self.last_run_at = last_run_at or self.default_now()
        self.total_run_count = total_run_count or 0

    def default_now(self) -> Any:
        return self.schedule.now() if self.schedule else self.app.now()

    _default_now = default_now

    def is_due(self) -> Any:
        return self.schedule.is_due(self.last_run_at)

    def update(self, other: Any) -> None:
        """Take everything but its past from another entry."""
        vars(self).update(
            task=other.task, schedule=other.schedule, args=other.args, kwargs=other.kwargs, options=other.options
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name} {self.task} {self.schedule!r}>"


class Scheduler:
    """Not there yet: the next version runs schedules."""

    Entry = ScheduleEntry

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        raise NotSupportedError(
            f"{type(self).__name__}: this version of celeriac runs no schedules; keep one `celery beat` of the real "
            "Celery beside it, which shares the broker"
        )


PersistentScheduler = Scheduler
