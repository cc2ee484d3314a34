"""What becomes of a task whose process died, was killed at its hard limit, or was terminated.

The supervisor asks here. It runs no user code, so all this file knows of a task are its `TaskFacts`.
"""

from __future__ import annotations

import msgspec


class TaskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor must know of a task to settle it in its place."""

    name: str
    ignore_result: bool = False
    store_errors_even_if_ignored: bool = False
    acks_late: bool = True
    """False: at most once; a task that may have started is failed, never run again."""
    max_deliveries: int | None = None
    """None: the worker's."""
