"""Importing by name."""

from __future__ import annotations

from celeriac.compat.celery.utils.imports import symbol_by_name

__all__ = ["symbol_by_name"]
