"""Workers started from Python."""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["Worker"]

_SAME = {"concurrency": "processes", "loglevel": "log_level", "logfile": "log_file", "hostname": "node"}
_KNOWN = ("queues", "exclude_queues", "pool", "purge", "task_events", "time_limit", "soft_time_limit", "include",
          "max_tasks_per_child", "max_memory_per_child")  # fmt: skip


class Worker:
    """A worker of an application; `start()` runs it in this process's place until it is told to stop.

    Args:
        app: The application.
        hostname: The node's name.
        options: As `celery worker`'s: `concurrency`, `loglevel`, `queues`, `pool`, …
    """

    app: Any = None

    def __init__(self, app: Any = None, hostname: str | None = None, **options: Any) -> None:
        if app is not None:
            self.app = app
        self.hostname = hostname
        self.options = options
        self.exitcode: int | None = None

    def start(self) -> None:
        """Run it."""
        from celeriac.app.runtime import WorkerOverrides, run_worker
        from celeriac.compat.worker import LOADER, import_path

        given: dict[str, Any] = {"node": self.hostname}
        for name, value in self.options.items():
            if value is None or (name not in _KNOWN and name not in _SAME):
                continue
            given[_SAME.get(name, name)] = value
        if isinstance(given.get("log_level"), int):
            given["log_level"] = logging.getLevelName(given["log_level"])
        if "exclude_queues" in given:
            given["exclude"] = given.pop("exclude_queues")
        if "max_memory_per_child" in given:
            given["max_memory_per_child_kib"] = given.pop("max_memory_per_child")
        for name in ("queues", "exclude", "include"):
            if name in given:
                value = given[name]
                given[name] = tuple(value.split(",") if isinstance(value, str) else value)
        self.exitcode = run_worker(import_path(self.app), WorkerOverrides(**given), loader=LOADER)

    def stop(self, *args: Any, **kwargs: Any) -> None:
        """Tell it to stop."""
        self.app.control.shutdown([self.hostname] if self.hostname else None)
