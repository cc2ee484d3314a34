"""Tasks that look now and then whether they should stop."""

from __future__ import annotations

from typing import Any

from celeriac.compat.celery.app.task import Task
from celeriac.compat.celery.result import AsyncResult

__all__ = ["AbortableAsyncResult", "AbortableTask"]

ABORTED = "ABORTED"


class AbortableAsyncResult(AsyncResult):
    """The result of a task that can be aborted."""

    def is_aborted(self) -> bool:
        """Whether it was told to stop."""
        return bool(self.state == ABORTED)

    def abort(self) -> Any:
        """Tell it to stop, which it may notice."""
        return self.backend.store_result(self.id, result=None, state=ABORTED, traceback=None)


class AbortableTask(Task):
    """A task that asks `self.is_aborted()` now and then."""

    abstract = True

    def AsyncResult(self, task_id: str, **kwargs: Any) -> Any:
        """A handle on the result of a call of this task, by id."""
        return AbortableAsyncResult(task_id, app=self.app)

    def is_aborted(self, **kwargs: Any) -> bool:
        """Whether the call that runs was told to stop."""
        task_id = kwargs.get("task_id", self.request.id)
        return bool(task_id is not None and self.AsyncResult(task_id).is_aborted())
