"""Hooks on applications that are made later."""

from __future__ import annotations

from celeriac.compat.celery._state import connect_on_app_finalize

__all__ = ["connect_on_app_finalize"]
