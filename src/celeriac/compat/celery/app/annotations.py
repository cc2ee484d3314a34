"""Task options set from outside."""

from __future__ import annotations

from typing import Any

__all__ = ["MapAnnotation"]


class MapAnnotation(dict[str, Any]):
    """Options by task name; `*` is every task."""

    def annotate_any(self) -> Any:
        return self.get("*")

    def annotate(self, task: Any) -> Any:
        return self.get(task.name)
