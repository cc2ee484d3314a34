"""New ids."""

from __future__ import annotations

from typing import Any

from celeriac.model.ids import new_task_id

__all__ = ["generate_uuid", "uuid"]


def uuid(_uuid: Any = None) -> str:
    """A new id."""
    return str(_uuid()) if _uuid is not None else new_task_id()


generate_uuid = uuid
