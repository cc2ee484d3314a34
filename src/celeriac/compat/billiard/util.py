"""Loggers of processes."""

from __future__ import annotations

from multiprocessing.util import get_logger, register_after_fork

__all__ = ["get_logger", "register_after_fork"]
