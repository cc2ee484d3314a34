"""Loggers for tasks."""

from __future__ import annotations

import logging
from typing import Any

__all__ = [
    "LOG_LEVELS",
    "ColorFormatter",
    "base_logger",
    "get_logger",
    "get_multiprocessing_logger",
    "get_task_logger",
    "mlevel",
]

base_logger = logging.getLogger("celery")
task_logger = logging.getLogger("celery.task")
worker_logger = logging.getLogger("celery.worker")
LOG_LEVELS: dict[Any, Any] = dict(logging._nameToLevel)
LOG_LEVELS.update({number: name for name, number in logging._nameToLevel.items()})
LOG_LEVELS.setdefault("FATAL", logging.FATAL)


def get_logger(name: str) -> logging.Logger:
    """A logger below `celery`, unless it has a parent of its own."""
    logger = logging.getLogger(name)
    if logging.root not in (logger, logger.parent) and logger is not base_logger:
        return logger
    if logger not in (logging.root, base_logger):
        logger.parent = base_logger
    return logger


def get_task_logger(name: str) -> logging.Logger:
    """A logger whose lines are shown with the task's name and id."""
    if name in ("celery", "celery.task"):
        raise RuntimeError(f"{name!r} is the parent of task loggers; give the name of your module")
    logger = get_logger(name)
    if logger.parent in (base_logger, logging.root, None):
        logger.parent = task_logger
    return logger


def mlevel(level: Any) -> int:
    """A level's number, of its name or number."""
    if level and not isinstance(level, int):
        return int(LOG_LEVELS[level.upper()])
    return int(level or 0)


def get_multiprocessing_logger() -> logging.Logger:
    import multiprocessing.util

    return multiprocessing.util.get_logger()


class ColorFormatter(logging.Formatter):
    """A formatter that leaves colours to the worker."""

    def __init__(self, fmt: str | None = None, use_color: bool = True, datefmt: str | None = None) -> None:
        super().__init__(fmt, datefmt)
        self.use_color = use_color
