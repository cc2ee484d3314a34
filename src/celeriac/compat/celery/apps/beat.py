"""Schedulers started from Python."""

from __future__ import annotations

from typing import Any

from celeriac.errors import NotSupportedError

__all__ = ["Beat"]


class Beat:
    """Not there yet."""

    app: Any = None

    def __init__(self, **options: Any) -> None:
        self.options = options

    def run(self) -> None:
        raise NotSupportedError("this version of celeriac runs no schedules; see `celeriac --as-celery beat`")

    start = run
