"""Workers, as far as applications see them."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "WorkController":
        from celeriac.compat.celery.apps.worker import Worker

        return Worker
    raise AttributeError(f"module 'celery.worker' has no attribute {name!r}")
