"""Handles on results, which find the current application where none is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeriac.app import group_result, result
from celeriac.app.result import allow_join_result, denied_join_result
from celeriac.compat.celery._state import get_current_app, get_current_task
from celeriac.errors import ResultTimeout

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    """Makes handles that celeriac's own code has made instances of Celery's names, too."""

    def __instancecheck__(cls, instance: object) -> bool:
        core = cls.__dict__.get("_stands_for")
        return isinstance(instance, core) if core is not None else type.__instancecheck__(cls, instance)


class ResultBase(metaclass=_Like):
    """Any handle."""

    _stands_for = (result.AsyncResult, group_result.ResultSet)


class AsyncResult(result.AsyncResult[Any], metaclass=_Like):
    """The state and result of a task, by id.

    Args:
        id: Of the task.
        backend: Not used: the application's is.
        task_name: Not used.
        app: The current one unless given.
        parent: What it follows.
    """

    _stands_for = result.AsyncResult
    _bound_app: Any = None
    TimeoutError = ResultTimeout

    def __init__(
        self, id: str, backend: Any = None, task_name: str | None = None, app: Any = None, parent: Any = None
    ) -> None:
        super().__init__(id, _plain(app or type(self)._bound_app), parent)

    @property
    def backend(self) -> Any:
        """The result store, with the methods of Celery's backends."""
        return self._app.backend  # type: ignore[attr-defined]

    def _get_task_meta(self) -> dict[str, Any]:
        """What is stored, as Celery's dict; packages that show progress ask for it."""
        found: dict[str, Any] = self.backend.get_task_meta(self.id)
        return found


class EagerResult(result.EagerResult[Any], metaclass=_Like):
    """The outcome of a task that ran here, or that a package says has an outcome.

    Args:
        id: Of the task; None where there is none.
        ret_value: What it returned or raised.
        state: Its state.
        traceback: Of its exception, as text.
        name: Of the task.
        app: The current one unless given.
    """

    _stands_for = result.EagerResult
    name: Any = None

    def __init__(
        self,
        id: str | None,
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
        app: Any = None,
    ) -> None:
        super().__init__(id or "", _plain(app), ret_value, state, traceback)
        self.name = name


class ResultSet(group_result.ResultSet, metaclass=_Like):
    """Several results as one; the current application's unless another is given."""

    _stands_for = group_result.ResultSet

    def __init__(self, results: Iterable[Any] | None = None, app: Any = None, **unused: Any) -> None:
        super().__init__(results, app)

    @property
    def app(self) -> Any:
        return self._app or (self.results[0].app if self.results else get_current_app())


class GroupResult(group_result.GroupResult, metaclass=_Like):
    """The results of a group, under its id; the current application's unless another is given."""

    _stands_for = group_result.GroupResult

    @property
    def app(self) -> Any:
        return self._app or (self.results[0].app if self.results else get_current_app())

    @classmethod
    def restore(cls, id: str, backend: Any = None, app: Any = None) -> Any:
        """A saved group's result; None where nothing, or nothing any more, is kept under this id."""
        return super().restore(id, backend, _plain(app or cls._app))


def assert_will_not_block() -> None:
    """Raise where waiting for a result would hold the worker's place.

    Raises:
        RuntimeError: It would.
    """
    if get_current_task() is not None and not result._join_allowed.get():
        raise RuntimeError("a task waits for a result, which holds its place in the worker; see allow_join_result()")


def result_from_tuple(r: Any, app: Any = None) -> Any:
    """The handle that `as_tuple()` described."""
    return group_result.result_from_tuple(r, _plain(app))


def _plain(app: Any) -> Any:
    if app is None:
        return get_current_app()
    return app._get_current_object() if hasattr(type(app), "_get_current_object") else app
