"""The tasks of an application by name."""

from __future__ import annotations

import inspect
from typing import Any

from celeriac import errors

__all__ = ["TaskRegistry"]


class NotRegistered(errors.NotRegistered, KeyError):
    """A KeyError as well: whoever looks a task up may expect either."""

    __str__ = Exception.__str__


class TaskRegistry(dict[str, Any]):
    """A dict that says what is missing, and registers."""

    NotRegistered = NotRegistered

    def __init__(self, app: Any) -> None:
        super().__init__()
        self._app = app

    def __missing__(self, name: str) -> Any:
        raise NotRegistered(name)

    def register(self, task: Any) -> Any:
        """Register a task: an instance, or its class."""
        return self._app.register_task(task() if inspect.isclass(task) else task)

    def unregister(self, name: Any) -> None:
        """Forget a task, by its name or itself."""
        try:
            self.pop(getattr(name, "name", name))
        except KeyError:
            raise NotRegistered(name) from None

    def regular(self) -> Any:
        """All of them; Celery's periodic task classes are long gone."""
        return self.items()

    def periodic(self) -> Any:
        return iter(())
