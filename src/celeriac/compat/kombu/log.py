"""Loggers."""

from __future__ import annotations

import logging

__all__ = ["get_logger"]


def get_logger(logger: str | logging.Logger) -> logging.Logger:
    """A logger by name."""
    return logging.getLogger(logger) if isinstance(logger, str) else logger
