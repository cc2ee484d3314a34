"""Beats started from Python."""

from __future__ import annotations

import logging
import os
from typing import Any

from celeriac.compat.celery.beat import Service as _Service

__all__ = ["Beat"]


class Beat:
    """A beat of an application; `run()` runs it in this process until it is told to stop.

    Args:
        max_interval: Longest sleep in seconds.
        app: The application.
        loglevel: A number, or its name.
        logfile: Where the log goes; standard error unless given.
        schedule: Accepted: no file is kept.
        scheduler: A scheduler class, or its dotted name.
        scheduler_cls: The same by its older name.
        hostname: Its name in lists.
        remote_control: Whether it answers `ping`.
        options: Accepted: `pidfile` and the like are the command line's.
    """

    Service: Any = _Service
    app: Any = None

    def __init__(
        self, max_interval: Any = None, app: Any = None, loglevel: Any = "WARNING", logfile: Any = None,
        schedule: Any = None, scheduler: Any = None, scheduler_cls: Any = None, hostname: Any = None,
        remote_control: Any = None, **options: Any,
    ) -> None:  # fmt: skip
        self.app = app or self.app
        self.max_interval = max_interval
        self.loglevel, self.logfile = loglevel, logfile
        self.schedule = schedule
        self.scheduler_cls = scheduler or scheduler_cls
        self.hostname, self.remote_control = hostname, remote_control
        self.options = options
        self.exitcode: int | None = None

    def run(self) -> None:
        """Run it."""
        from celeriac.app.beating import BeatOverrides, Whistle, run_beat

        self.app.import_modules()
        service = self.Service(
            app=self.app, max_interval=self.max_interval, scheduler_cls=self.scheduler_cls,
            schedule_filename=self.schedule, remote_control=self.remote_control, hostname=self.hostname,
        )  # fmt: skip
        level = logging.getLevelName(self.loglevel) if isinstance(self.loglevel, int) else self.loglevel.upper()
        overrides = BeatOverrides(
            name=self.hostname,
            log_level=level,
            log_file=None if self.logfile is None else os.fspath(self.logfile),
            remote_control=self.remote_control,
        )
        with Whistle(service.beat):
            self.exitcode = run_beat(self.app, service.beat, overrides, text=str(self.app.main))

    start = run
