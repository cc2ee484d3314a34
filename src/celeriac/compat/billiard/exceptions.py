"""Errors of a worker's processes: celeriac's own."""

from __future__ import annotations

from celeriac.errors import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError


class Terminated(Exception):
    """A task was stopped from outside."""


__all__ = ["SoftTimeLimitExceeded", "Terminated", "TimeLimitExceeded", "WorkerLostError"]
