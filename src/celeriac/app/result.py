"""Handles on results: what `delay` returns, and what an eager call returns in its place."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from celeriac.clock import SYSTEM_CLOCK
from celeriac.engine import report
from celeriac.engine.attempt import current_attempt
from celeriac.errors import (
    ConfigError,
    DecodeError,
    IncompleteStream,
    ResultForbidden,
    ResultTimeout,
    TaskError,
    TaskRevokedError,
)
from celeriac.model.states import EXCEPTION_STATES, FAILURE, PENDING, PROPAGATE_STATES, REVOKED, SUCCESS, is_final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from celeriac.app.application import Celeriac
    from celeriac.app.graph import DependencyGraph
    from celeriac.app.group_result import GroupResult
    from celeriac.codec import ResultMeta

R = TypeVar("R")

_join_allowed: ContextVar[bool] = ContextVar("join_allowed", default=False)
_FOREVER_S = 3600.0
"""One wait of a `get` without a timeout; it waits again."""
_GLANCE_S = 1.0, 30.0
"""How soon, and at most how seldom, a `get` looks whether a parent has failed. Our workers tell all that follows a
failed task; one of Celery's may not."""


@contextlib.contextmanager
def allow_join_result() -> Iterator[None]:
    """Inside this block a task may wait for the results of others. It holds its place in the worker while it waits."""
    token = _join_allowed.set(True)
    try:
        yield
    finally:
        _join_allowed.reset(token)


@contextlib.contextmanager
def denied_join_result() -> Iterator[None]:
    """Inside this block a task may not wait for others, whatever a block around it says."""
    token = _join_allowed.set(False)
    try:
        yield
    finally:
        _join_allowed.reset(token)


def refuse_inside_task(what: str) -> None:
    """Refuse to wait in a task.

    Raises:
        ResultForbidden: A task runs here, and is not allowed to.
    """
    attempt = current_attempt.get()
    if attempt is None or attempt.is_eager or _join_allowed.get():
        return
    raise ResultForbidden(
        f"task {attempt.name} waits for the result of {what}: when all workers do so, none is left to run "
        "what they wait for. Use a callback (link), await result.aget() in an async task, or allow_join_result()"
    )


class AsyncResult(Generic[R]):
    """The state and result of one task, by its id. Cheap: nothing is read until somebody asks.

    Safe to use from several threads. A final state is read once and kept.
    """

    __slots__ = ("_app", "_final", "_ignored", "id", "parent")

    TimeoutError = ResultTimeout

    def __init__(self, id: str, app: Celeriac, parent: AsyncResult[Any] | GroupResult | None = None) -> None:
        if id is None:
            raise ValueError("a result is of a task's id, not of None")
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
        if isinstance(other, str):
            return other == self.id
        return isinstance(other, AsyncResult) and other.id == self.id

    @property
    def app(self) -> Celeriac:
        """The application that reads it."""
        return self._app

    @property
    def ignored(self) -> bool:
        """Whether `get` returns None at once: the task's result is not kept."""
        return getattr(self, "_ignored", False)

    @ignored.setter
    def ignored(self, ignored: bool) -> None:
        self._ignored = ignored

    @property
    def supports_native_join(self) -> bool:
        """Whether many are awaited at once, which all stores can."""
        return True

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
        on_message: Callable[[dict[str, Any]], None] | None = None,
        on_interval: Callable[[], None] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> R:
        """Wait for the task and return what it returned.

        Args:
            timeout: Seconds; None waits as long as it takes.
            propagate: Raise the task's exception; False returns it.
            interval: Seconds between calls of `on_interval`; nothing is polled.
            no_ack: Accepted for Celery's sake.
            follow_parents: Where a task before it in its chain, or a member of its chord, has failed: raise that one's
                exception.
            callback: Called with (id, value) before returning.
            on_message: Called with the stored result, as a dict, when it is there.
            on_interval: Called now and then while it waits.
            disable_sync_subtasks: False allows this call inside a task.

        Raises:
            ResultTimeout: Not final in time; the task goes on.
            ResultForbidden: Called inside a task.
            ConfigError: The application keeps no results.
            BaseException: The task's own exception where its class is a builtin or one that the application allows,
                else a `RemoteTaskError` with its type, message and traceback.
        """
        if self.ignored:
            return cast("R", None)
        if disable_sync_subtasks:
            self._refuse_inside_task()
        watched = follow_parents and propagate and self.parent is not None
        if self._final is None:
            store = self._app._result_store()
            for wait_s in self._waits(timeout, glances=watched, interval=interval if on_interval is not None else None):
                if (stored := store.wait((self.id,), timeout_s=wait_s).get(self.id)) is not None:
                    self._final = self._app.codec.read_result(stored)
                    break
                if on_interval is not None:
                    on_interval()
                if watched:
                    self._raise_of_parents()
        assert self._final is not None
        if watched and self._final.status in PROPAGATE_STATES:
            self._raise_of_parents()
        return cast("R", self._deliver(self._final, propagate, callback, on_message))

    wait = get

    async def aget(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - Celery's word; asyncio.timeout works as well
        propagate: bool = True,
        *,
        follow_parents: bool = True,
        callback: Callable[[str, Any], None] | None = None,
        on_message: Callable[[dict[str, Any]], None] | None = None,
        disable_sync_subtasks: bool = False,
    ) -> R:
        """As `get`, as a coroutine. Inside a task it is allowed: while it waits, the worker runs other tasks."""
        if self.ignored:
            return cast("R", None)
        if disable_sync_subtasks:
            self._refuse_inside_task()
        watched = follow_parents and propagate and self.parent is not None
        if self._final is None:
            store = self._app._result_store()
            for wait_s in self._waits(timeout, glances=watched, interval=None):
                if (stored := (await store.await_final((self.id,), timeout_s=wait_s)).get(self.id)) is not None:
                    self._final = self._app.codec.read_result(stored)
                    break
                if watched:
                    await self._araise_of_parents()
        assert self._final is not None
        if watched and self._final.status in PROPAGATE_STATES:
            await self._araise_of_parents()
        return cast("R", self._deliver(self._final, propagate, callback, on_message))

    def __await__(self) -> Generator[Any, None, R]:
        return self.aget().__await__()

    def _waits(self, timeout: float | None, *, glances: bool, interval: float | None) -> Iterator[float]:
        """How long to wait, again and again; ResultTimeout when the time is over."""
        first_s, most_s = _GLANCE_S if glances else (_FOREVER_S, _FOREVER_S)
        if interval is not None:
            first_s = most_s = max(0.01, interval)
        until = None if timeout is None else SYSTEM_CLOCK.monotonic() + max(0.0, timeout)
        left_s = _FOREVER_S if timeout is None else max(0.0, timeout)
        wait_s = first_s
        while True:
            yield min(wait_s, left_s)
            wait_s = min(2 * wait_s, most_s)
            if until is not None and timeout is not None:
                left_s = until - SYSTEM_CLOCK.monotonic()
                if left_s <= 0:
                    raise self._timeout(timeout)

    def _timeout(self, timeout: float) -> ResultTimeout:
        return ResultTimeout(
            f"task {self.id} had no final result after {timeout:g} s; its state is {self.state}. "
            "Does a worker consume its queue?"
        )

    def _refuse_inside_task(self) -> None:
        refuse_inside_task(f"task {self.id}")

    def _ancestors(self) -> list[AsyncResult[Any]]:
        """The tasks before it, the first one first, with all members of groups."""
        found: list[list[AsyncResult[Any]]] = []
        node: Any = self.parent
        while node is not None:
            found.append(leaves((node,)))
            node = node.parent
        return [one for level in reversed(found) for one in level]

    def _raise_of_parents(self) -> None:
        parents = self._ancestors()
        read(self._app, parents)
        _raise_first(parents)

    async def _araise_of_parents(self) -> None:
        parents = self._ancestors()
        await aread(self._app, parents)
        _raise_first(parents)

    def _deliver(
        self,
        meta: ResultMeta,
        propagate: bool,
        callback: Callable[[str, Any], None] | None,
        on_message: Callable[[dict[str, Any]], None] | None = None,
    ) -> Any:
        if on_message is not None:
            on_message(self._message(meta))
        if meta.status in EXCEPTION_STATES:
            value: Any = self._exception(meta)
            if propagate and meta.status in PROPAGATE_STATES:
                raise value
        else:
            value = meta.result
        if callback is not None:
            callback(self.id, value)
        return value

    def _message(self, meta: ResultMeta) -> dict[str, Any]:
        """A stored result as Celery's callers know it."""
        found = {name: getattr(meta, name) for name in ("status", "result", "traceback", "children", "date_done")}
        if meta.status in EXCEPTION_STATES:
            found["result"] = self._exception(meta)
        return {**found, "task_id": self.id}

    def _exception(self, meta: ResultMeta) -> BaseException:
        return self._app.codec_exception(meta)

    # -- looking -------------------------------------------------------------------------------------------------

    def _meta(self) -> ResultMeta | None:
        if self._final is not None:
            return self._final
        stored = self._app._result_store().get((self.id,)).get(self.id)
        if stored is None:
            return None
        meta: ResultMeta = self._app.codec.read_result(stored)
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
        try:
            done = datetime.fromisoformat(meta.date_done)
        except ValueError:  # other writers' dates are theirs, and nothing depends on them
            return None
        return done if done.tzinfo is not None else done.replace(tzinfo=UTC)  # as Celery wrote it before 5.1

    @property
    def children(self) -> list[AsyncResult[Any] | GroupResult] | None:
        """The tasks and groups this one sent, callbacks included; None until it has ended."""
        meta = self._meta()
        if meta is None or meta.children is None:
            return None
        from celeriac.app.group_result import result_from_tuple

        try:
            return [result_from_tuple(child, self._app, self) for child in meta.children]
        except (TypeError, ValueError, LookupError) as exc:
            raise DecodeError(f"the children stored with the result of task {self.id} are none: {exc}") from exc

    def __iter__(self) -> Iterator[AsyncResult[Any] | GroupResult]:
        """Iterate over its children."""
        return iter(self.children or ())

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Pairs of parent and child: itself and all that came of it, breadth first.

        Args:
            intermediate: Go on where one has not ended.

        Raises:
            IncompleteStream: One has not ended; it may send more.
        """
        waiting: deque[tuple[Any, Any]] = deque([(None, self)])
        while waiting:
            parent, node = waiting.popleft()
            yield parent, node
            if node.ready():
                waiting.extend((node, child) for child in node.children or ())
            elif not intermediate:
                raise IncompleteStream(f"task {node.id} has not ended, so what it sends is not known yet: {node.state}")

    def collect(self, intermediate: bool = False, **options: Any) -> Iterator[tuple[Any, Any]]:
        """Pairs of result and value: its own and those of all that came of it; `options` are of `get`."""
        for _, node in self.iterdeps(intermediate=intermediate):
            yield node, node.get(**options)

    def get_leaf(self) -> Any:
        """The value of the last of all that came of it."""
        value = None
        for _, node in self.iterdeps():
            value = node.get()
        return value

    def build_graph(self, intermediate: bool = False, formatter: Any = None) -> DependencyGraph:
        """It and all that came of it, as a graph that can be drawn."""
        from celeriac.app.graph import DependencyGraph, GraphFormatter

        graph = DependencyGraph(formatter=formatter or GraphFormatter(root=self.id, shape="oval"))
        for parent, node in self.iterdeps(intermediate=intermediate):
            graph.add_arc(node)
            if parent is not None:
                graph.add_edge(parent, node)
        return graph

    @property
    def graph(self) -> DependencyGraph:
        """`build_graph()`."""
        return self.build_graph()

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

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], None] | None = None) -> Any:
        """Raise the exception of a task that has failed; else return `result`."""
        meta = self._meta()
        return None if meta is None else self._deliver(meta, propagate, callback)

    maybe_reraise = maybe_throw

    def throw(self, exc: BaseException | None = None, *args: Any, **kwargs: Any) -> Any:
        """Raise `exc`, or the exception of a task that has failed."""
        if exc is not None:
            raise exc
        return self.maybe_throw()

    def as_tuple(self) -> Any:
        """Celery's form of a result: `((id, parent), None)`."""
        return ((self.id, None if self.parent is None else self.parent.as_tuple()), None)

    def as_list(self) -> list[str]:
        """Its id and those of its parents."""
        return [self.id, *(() if self.parent is None else self.parent.as_list())]

    # -- acting --------------------------------------------------------------------------------------------------

    def then(
        self, callback: Callable[[Any], Any], on_error: Callable[[BaseException], Any] | None = None, weak: bool = False
    ) -> AsyncResult[R]:
        """Call `callback` with this result when the task has ended, well or not; at once if it has.

        Else a thread of its own waits for that, so it is for few results. What the callback raises goes to `on_error`,
        or into the log.
        """
        call_when_ended(self, callback, on_error)
        return self

    def _wait_ended(self) -> None:
        self.get(propagate=False, disable_sync_subtasks=False)

    def forget(self) -> None:
        """Delete the stored result, and those of its parents."""
        ids = []
        node: Any = self
        while node is not None:
            for one in leaves((node,)):
                one._final = None
                ids.append(one.id)
            node = node.parent
        self._app._result_store().forget(ids)

    def revoke(
        self,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
        connection: Any = None,
    ) -> None:
        """Durably forbid the task to start; with `terminate`, also stop it if it runs.

        `wait` and `timeout` are accepted for Celery's sake: it is in force when this returns.
        """
        self._app.control.revoke(self.id, terminate=terminate, signal=signal or "SIGTERM")


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
        on_message: Callable[[dict[str, Any]], None] | None = None,
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

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], None] | None = None) -> Any:
        """As `get`."""
        return self.get(propagate=propagate, callback=callback)

    maybe_reraise = maybe_throw

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
    def children(self) -> list[AsyncResult[Any] | GroupResult] | None:
        return []

    @property
    def supports_native_join(self) -> bool:
        return False

    def forget(self) -> None:
        """Nothing is stored."""

    def revoke(
        self,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
        connection: Any = None,
    ) -> None:
        """It has run already; as in Celery, this result forgets that and says that it is revoked."""
        self._state, self._value, self._traceback = REVOKED, TaskRevokedError("revoked", task_id=self.id), None


def leaves(results: Iterable[Any]) -> list[AsyncResult[Any]]:
    """The results of single tasks among these, members of groups included, in order."""
    found: list[AsyncResult[Any]] = []
    for one in results:
        if isinstance(one, AsyncResult):
            found.append(one)
        else:
            found += leaves(one.results)
    return found


def unread(results: Iterable[AsyncResult[Any]]) -> dict[str, AsyncResult[Any]]:
    """Those whose final state is not known here, by id."""
    return {one.id: one for one in results if one._final is None and not isinstance(one, EagerResult)}


def read(app: Celeriac, results: Iterable[AsyncResult[Any]]) -> None:
    """Read what is final of these, in one round trip."""
    wanted = unread(results)
    if wanted:
        _keep(app, wanted, app._result_store().get(list(wanted)).values())


async def aread(app: Celeriac, results: Iterable[AsyncResult[Any]]) -> None:
    """As `read`, without blocking the event loop."""
    wanted = unread(results)
    if wanted:
        _keep(app, wanted, (await app._result_store().aget(list(wanted))).values())


def _keep(app: Celeriac, wanted: dict[str, AsyncResult[Any]], stored: Iterable[Any]) -> None:
    for one in stored:
        if is_final(one.state):
            wanted[one.id]._final = app.codec.read_result(one)


def _raise_first(results: Iterable[AsyncResult[Any]]) -> None:
    for one in results:
        if isinstance(one, EagerResult) or one._final is not None:
            one.maybe_throw()


def call_when_ended(
    result: Any, callback: Callable[[Any], Any], on_error: Callable[[BaseException], Any] | None
) -> None:
    """Call back when a result, or all of a set, has ended: at once, or from a thread."""

    def call() -> None:
        try:
            result._wait_ended()
            callback(result)
        except Exception as exc:
            if on_error is not None:
                on_error(exc)
            else:
                report.log.exception("the callback %r of %r failed", callback, result)

    if result.ready():
        call()
    else:
        threading.Thread(target=call, name=f"then {result}", daemon=True).start()


def no_results(app: Celeriac) -> ConfigError:
    """The error of asking for a result where none is kept."""
    return ConfigError(
        f"application {app.main!r} keeps no results: result_backend is disabled, or left out with a broker that keeps "
        "none (RabbitMQ). Set backend=… to a URL to use results: redis://…, sqlite:///…, or rpc:// with RabbitMQ"
    )
