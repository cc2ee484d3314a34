"""`app.backend`, and the base classes of result backends: see `celeriac.compat.backend`."""

from __future__ import annotations

from celeriac.compat.backend import (
    Backend,
    BaseBackend,
    BaseDictBackend,
    DisabledBackend,
    KeyValueStoreBackend,
    SyncBackendMixin,
    backend_of,
)
from celeriac.compat.celery._state import get_current_task

__all__ = [
    "Backend",
    "BaseBackend",
    "BaseDictBackend",
    "DisabledBackend",
    "KeyValueStoreBackend",
    "SyncBackendMixin",
    "backend_of",
    "get_current_task",
]
