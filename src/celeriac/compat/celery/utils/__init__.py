"""Small things that applications import from `celery.utils`."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from celeriac.compat.celery.utils.functional import chunks, memoize, noop
from celeriac.compat.celery.utils.imports import gen_task_name, import_from_cwd, instantiate
from celeriac.compat.celery.utils.imports import qualname as get_full_cls_name
from celeriac.compat.celery.utils.imports import symbol_by_name as get_cls_by_name
from celeriac.compat.celery.utils.log import LOG_LEVELS
from celeriac.compat.celery.utils.nodenames import nodename, nodesplit, worker_direct
from celeriac.model.ids import new_task_id as _new_id


def uuid(_uuid: Any = None) -> str:
    """A new task id."""
    return str(_uuid()) if _uuid is not None else _new_id()


gen_unique_id = uuid

__all__ = [
    "LOG_LEVELS",
    "cached_property",
    "chunks",
    "gen_task_name",
    "gen_unique_id",
    "get_cls_by_name",
    "get_full_cls_name",
    "import_from_cwd",
    "instantiate",
    "memoize",
    "nodename",
    "nodesplit",
    "noop",
    "uuid",
    "worker_direct",
]
