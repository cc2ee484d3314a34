"""Handles on results, which find the current application where none is given."""

from __future__ import annotations

from typing import Any

from celeriac.app import result as core
from celeriac.app.result import EagerResult, allow_join_result
from celeriac.compat.celery._state import get_current_app

try:
    from celeriac.app import group_result as _groups
except ImportError:  # pragma: no cover - the workflow results come with the canvas
    _groups = None  # type: ignore[assignment]

__all__ = [
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "ResultBase",
    "ResultSet",
    "allow_join_result",
    "assert_will_not_block",
    "denied_join_result",
    "result_from_tuple",
]


class _Like(type):
    """Handles that celeriac's own code has made are instances of Celery's names, too."""

    _core: type

    def __instancecheck__(cls, instance: object) -> bool:
        if cls.__dict__.get("_stands_for") is not None:
            return isinstance(instance, cls.__dict__["_stands_for"])
        return type.__instancecheck__(cls, instance)


class ResultBase(metaclass=_Like):
    """Any handle."""

    _stands_for = core.AsyncResult


class AsyncResult(core.AsyncResult[Any], metaclass=_Like):
    """The state and result of a task, by id.

    Args:
        id: Of the task.
        backend: Not used: the application's is.
        task_name: Not used.
        app: The current one unless given.
        parent: What it follows.
    """

    _stands_for = core.AsyncResult
    _bound_app: Any = None
    TimeoutError = core.ResultTimeout

    def __init__(
        self, id: str, backend: Any = None, task_name: str | None = None, app: Any = None, parent: Any = None
    ) -> None:
        if id is None:
            raise ValueError(f"AsyncResult requires valid id, not {type(id)}")
        app = app or type(self)._bound_app or get_current_app()
        super().__init__(id, getattr(app, "_get_current_object", lambda: app)(), parent)

    @property
    def backend(self) -> Any:
        return self._app.backend  # type: ignore[attr-defined]


def denied_join_result() -> Any:
    """Inside this block, waiting for a result in a task is an error, as it is anyway."""
    import contextlib

    return contextlib.nullcontext()


def assert_will_not_block() -> None:
    """Raise where waiting for a result would hold the worker's place.

    Raises:
        RuntimeError: It would.
    """
    from celeriac.compat.celery._state import get_current_task

    if get_current_task() is not None and not core._join_allowed.get():
        raise RuntimeError("Never call result.get() within a task!")


def result_from_tuple(r: Any, app: Any = None) -> Any:
    """The handle that `as_tuple()` described."""
    if isinstance(r, core.AsyncResult):
        return r
    return (app or get_current_app())._result_from_tuple(r, None)


def __getattr__(name: str) -> Any:
    if name in ("GroupResult", "ResultSet"):
        from celeriac.compat.groups import GroupResult, ResultSet

        return {"GroupResult": GroupResult, "ResultSet": ResultSet}[name]
    raise AttributeError(f"module 'celery.result' has no attribute {name!r}")
