"""Small things that applications import from `kombu.utils`."""

from __future__ import annotations

from functools import cached_property

from celeriac.compat.celery.utils.imports import symbol_by_name
from celeriac.compat.kombu.utils.uuid import uuid

__all__ = ["cached_property", "symbol_by_name", "uuid"]
