"""Handles on results: what `delay` returns, and what an eager call returns in its place."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from celeriac.engine.attempt import current_attempt
from celeriac.errors import ConfigError, ResultForbidden, ResultTimeout, TaskError
from celeriac.model.states import EXCEPTION_STATES, FAILURE, PENDING, PROPAGATE_STATES, SUCCESS, is_final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from celeriac.app.application import Celeriac
    from celeriac.codec import ResultMeta

R = TypeVar("R")

_join_allowed: ContextVar[bool] = ContextVar("join_allowed", default=False)
_FOREVER_S = 3600.0
"""One wait of a `get` without a timeout; it waits again."""


@contextlib.contextmanager
def allow_join_result() -> Iterator[None]:
    """Inside this block a task may wait for the results of others. It holds its place in the worker while it waits."""
    token = _join_allowed.set(True)
    try:
        yield
    finally:
        _join_allowed.reset(token)


class AsyncResult(Generic[R]):
    """The state and result of one task, by its id. Cheap: nothing is read until somebody asks.

    Safe to use from several threads. A final state is read once and kept.
    """

    __slots__ = ("_app", "_final", "id", "parent")

    def __init__(self, id: str, app: Celeriac, parent: AsyncResult[Any] | None = None) -> None:
        self.id = id
        self._app = app
        self.parent = parent
        self._final: ResultMeta | None = None

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"

    def __str__(self) -> str:
        return self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncResult) and other.id == self.id

    @property
    def task_id(self) -> str:
        return self.id

    # -- waiting -------------------------------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        *,
        interval: float | None = None,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, Any], None] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> R:
        """Wait for the task and return what it returned.

        Args:
            timeout: Seconds; None waits as long as it takes.
            propagate: Raise the task's exception; False returns it.
            interval: Accepted for Celery's sake, like the next two; nothing is polled.
            no_ack: Not used.
            follow_parents: Not used.
            callback: Called with (id, value) before returning.
            disable_sync_subtasks: False allows this call inside a task.

        Raises:
            ResultTimeout: Not final in time; the task goes on.
            ResultForbidden: Called inside a task.
            ConfigError: The application keeps no results.
            BaseException: The task's own exception where its class is a builtin or one that the application allows,
                else a `RemoteTaskError` with its type, message and traceback.
        """
        if disable_sync_subtasks:
            self._refuse_inside_task()
        if self._final is None:
            store = self._app._result_store()
            wait_s = _FOREVER_S if timeout is None else max(0.0, timeout)
            while (stored := store.wait((self.id,), timeout_s=wait_s).get(self.id)) is None:
                if timeout is not None:
                    raise self._timeout(timeout)
            self._final = self._app.codec.decode_result(stored.payload)
        return cast("R", self._deliver(self._final, propagate, callback))

    wait = get

    async def aget(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - Celery's word; asyncio.timeout works as well
        propagate: bool = True,
        *,
        callback: Callable[[str, Any], None] | None = None,
        disable_sync_subtasks: bool = False,
    ) -> R:
        """As `get`, as a coroutine. Inside a task it is allowed: while it waits, the worker runs other tasks."""
        if disable_sync_subtasks:
            self._refuse_inside_task()
        if self._final is None:
            store = self._app._result_store()
            wait_s = _FOREVER_S if timeout is None else max(0.0, timeout)
            while (stored := (await store.await_final((self.id,), timeout_s=wait_s)).get(self.id)) is None:
                if timeout is not None:
                    raise self._timeout(timeout)
            self._final = self._app.codec.decode_result(stored.payload)
        return cast("R", self._deliver(self._final, propagate, callback))

    def __await__(self) -> Generator[Any, None, R]:
        return self.aget().__await__()

    def _timeout(self, timeout: float) -> ResultTimeout:
        return ResultTimeout(
            f"task {self.id} had no final result after {timeout:g} s; its state is {self.state}. "
            "Does a worker consume its queue?"
        )

    def _refuse_inside_task(self) -> None:
        attempt = current_attempt.get()
        if attempt is None or attempt.is_eager or _join_allowed.get():
            return
        raise ResultForbidden(
            f"task {attempt.name} waits for the result of task {self.id}: when all workers do so, none is left to run "
            "what they wait for. Use a callback (link), await result.aget() in an async task, or allow_join_result()"
        )

    def _deliver(self, meta: ResultMeta, propagate: bool, callback: Callable[[str, Any], None] | None) -> Any:
        if meta.status in EXCEPTION_STATES:
            value: Any = self._exception(meta)
            if propagate and meta.status in PROPAGATE_STATES:
                raise value
        else:
            value = meta.result
        if callback is not None:
            callback(self.id, value)
        return value

    def _exception(self, meta: ResultMeta) -> BaseException:
        return self._app.codec_exception(meta)

    # -- looking -------------------------------------------------------------------------------------------------

    def _meta(self) -> ResultMeta | None:
        if self._final is not None:
            return self._final
        stored = self._app._result_store().get((self.id,)).get(self.id)
        if stored is None:
            return None
        meta: ResultMeta = self._app.codec.decode_result(stored.payload)
        if is_final(meta.status):
            self._final = meta
        return meta

    def exists(self) -> bool:
        """Whether anything is stored for this id. PENDING alone does not tell a queued task from an unknown id."""
        return self._meta() is not None

    @property
    def state(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED, or a state of the application's own."""
        meta = self._meta()
        return PENDING if meta is None else meta.status

    status = state

    def ready(self) -> bool:
        """Whether it has ended: succeeded, failed or been revoked."""
        return is_final(self.state)

    def successful(self) -> bool:
        return self.state == SUCCESS

    def failed(self) -> bool:
        return self.state == FAILURE

    @property
    def result(self) -> Any:
        """The value; the exception where it failed or waits for a retry; the meta of a state of one's own."""
        meta = self._meta()
        if meta is None:
            return None
        return self._exception(meta) if meta.status in EXCEPTION_STATES else meta.result

    @property
    def info(self) -> Any:
        """The same as `result`: progress, while it runs."""
        return self.result

    @property
    def traceback(self) -> str | None:
        """The worker's traceback as text."""
        meta = self._meta()
        return None if meta is None else meta.traceback

    @property
    def date_done(self) -> datetime | None:
        meta = self._meta()
        if meta is None or not meta.date_done:
            return None
        done = datetime.fromisoformat(meta.date_done)
        return done if done.tzinfo is not None else done.replace(tzinfo=UTC)  # as Celery wrote it before 5.1

    @property
    def children(self) -> list[AsyncResult[Any]] | None:
        """The tasks this one sent, callbacks included; None until it has ended."""
        meta = self._meta()
        if meta is None or meta.children is None:
            return None
        return [self._app._result_from_tuple(child, self) for child in meta.children]

    def __iter__(self) -> Iterator[AsyncResult[Any]]:
        """Iterate over its children."""
        return iter(self.children or ())

    @property
    def name(self) -> str | None:
        """The task's name, with `result_extended`; so are the five below."""
        name: str | None = self._extended("name")
        return name

    @property
    def args(self) -> Any:
        return self._extended("args")

    @property
    def kwargs(self) -> Any:
        return self._extended("kwargs")

    @property
    def worker(self) -> Any:
        return self._extended("worker")

    @property
    def retries(self) -> Any:
        return self._extended("retries")

    @property
    def queue(self) -> Any:
        return self._extended("queue")

    def _extended(self, field: str) -> Any:
        meta = self._meta()
        return None if meta is None else getattr(meta, field)

    def maybe_throw(self, propagate: bool = True) -> Any:
        """Raise the exception of a task that has failed; else return `result`."""
        meta = self._meta()
        return None if meta is None else self._deliver(meta, propagate, None)

    def as_tuple(self) -> Any:
        """Celery's form of a result: `((id, parent), None)`."""
        return ((self.id, None if self.parent is None else self.parent.as_tuple()), None)

    # -- acting --------------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Delete the stored result."""
        self._final = None
        self._app._result_store().forget((self.id,))

    def revoke(self, terminate: bool = False, signal: str = "SIGTERM") -> None:
        """Durably forbid the task to start; with `terminate`, also stop it if it runs."""
        self._app.control.revoke(self.id, terminate=terminate, signal=signal)


class EagerResult(AsyncResult[R]):
    """The result of a task that ran here: the value or exception itself, nothing stored."""

    __slots__ = ("_state", "_traceback", "_value")

    def __init__(self, id: str, app: Celeriac, value: Any, state: str, traceback: str | None = None) -> None:
        super().__init__(id, app)
        self._value = value
        self._state = state
        self._traceback = traceback

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id}>"

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        *,
        callback: Callable[[str, Any], None] | None = None,
        **options: Any,
    ) -> R:
        """What the task returned, or its exception raised; nothing is waited for."""
        value = self._value
        if self._state in PROPAGATE_STATES:
            value = value if isinstance(value, BaseException) else TaskError(value, task_id=self.id)
            if propagate:
                raise value
        if callback is not None:
            callback(self.id, value)
        return cast("R", value)

    wait = get

    async def aget(self, timeout: float | None = None, propagate: bool = True, **options: Any) -> R:  # noqa: ASYNC109
        """As `get`."""
        return self.get(timeout, propagate, **options)

    def maybe_throw(self, propagate: bool = True) -> Any:
        """As `get`."""
        return self.get(propagate=propagate)

    def _meta(self) -> ResultMeta | None:
        return None  # nothing is stored: what only a store knows is None

    def exists(self) -> bool:
        return True

    @property
    def state(self) -> str:
        return self._state

    status = state

    @property
    def result(self) -> Any:
        return self._value

    @property
    def info(self) -> Any:
        return self._value

    @property
    def traceback(self) -> str | None:
        return self._traceback

    @property
    def children(self) -> list[AsyncResult[Any]] | None:
        return []

    def forget(self) -> None:
        """Nothing is stored."""

    def revoke(self, terminate: bool = False, signal: str = "SIGTERM") -> None:
        """It has run already."""


def no_results(app: Celeriac) -> ConfigError:
    """The error of asking for a result where none is kept."""
    return ConfigError(
        f"application {app.main!r} keeps no results: result_backend is disabled. Set backend=… to a URL to use results"
    )
