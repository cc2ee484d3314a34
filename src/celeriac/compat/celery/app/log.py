"""Logging; workers set it up."""

from __future__ import annotations

import logging
from typing import Any

from celeriac.engine import signals
from celeriac.engine.attempt import current_attempt

__all__ = ["Logging", "TaskFormatter"]


class TaskFormatter(logging.Formatter):
    """A formatter whose records have `task_id` and `task_name`."""

    def __init__(self, fmt: str | None = None, use_color: bool = True, datefmt: str | None = None, **kw: Any) -> None:
        super().__init__(fmt, datefmt, **kw)

    def format(self, record: logging.LogRecord) -> str:
        attempt = current_attempt.get()
        record.__dict__.setdefault("task_name", "???" if attempt is None else attempt.name)
        record.__dict__.setdefault("task_id", "???" if attempt is None else attempt.id)
        return super().format(record)


class Logging:
    """`app.log`."""

    already_setup = False
    _setup = False

    def __init__(self, app: Any) -> None:
        self.app = app
        self.loglevel: int = logging.WARNING

    def setup(
        self, loglevel: Any = None, logfile: Any = None, redirect_stdouts: bool = False,
        redirect_level: str = "WARNING", colorize: Any = None, hostname: Any = None,
    ) -> bool:  # fmt: skip
        """Set up logging in a process that is no worker."""
        self.setup_logging_subsystem(loglevel, logfile, colorize=colorize)
        return True

    def setup_logging_subsystem(
        self, loglevel: Any = None, logfile: Any = None, format: Any = None, colorize: Any = None, **kwargs: Any
    ) -> Any:
        """Set the root logger up once, unless a receiver of `setup_logging` does."""
        if Logging._setup:
            return None
        Logging._setup = True
        level = loglevel or self.loglevel
        facts = {"loglevel": level, "logfile": logfile, "format": format, "colorize": colorize}
        if signals.setup_logging:
            signals.setup_logging.send(None, **facts)
            return True
        handlers = [logging.FileHandler(logfile)] if logfile else None
        logging.basicConfig(level=level, format=format or "%(asctime)s %(levelname)s %(message)s", handlers=handlers)
        signals.after_setup_logger.send(None, logger=logging.getLogger(), **facts)
        signals.after_setup_task_logger.send(None, logger=logging.getLogger("celery.task"), **facts)
        return None

    def setup_task_loggers(self, *args: Any, **kwargs: Any) -> logging.Logger:
        return logging.getLogger("celery.task")

    def setup_handlers(self, logger: logging.Logger, logfile: Any, format: Any, colorize: Any, **kw: Any) -> Any:
        return logger

    def get_default_logger(self, name: str = "celery", **kwargs: Any) -> logging.Logger:
        return logging.getLogger(name)

    def redirect_stdouts(self, loglevel: Any = None, name: str = "celery.redirected") -> None:
        """What is printed goes to the worker's own output."""

    redirect_stdouts_to_logger = redirect_stdouts
