"""Signals of an application's own."""

from __future__ import annotations

from celeriac.compat.celery.utils.dispatch.signal import Signal

__all__ = ["Signal"]
