"""A task for tests."""

from __future__ import annotations

from celeriac.compat.celery.app import shared_task


@shared_task(name="celery.ping")  # type: ignore[untyped-decorator]
def ping() -> str:
    """Answer."""
    return "pong"
