"""Handles on the results of several tasks: what sending a group returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.app.result import (
    AsyncResult,
    EagerResult,
    call_when_ended,
    leaves,
    read,
    refuse_inside_task,
    unread,
)
from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import ResultTimeout
from celeriac.model import Record
from celeriac.model.states import FAILURE, PENDING, SUCCESS, is_final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence

    from celeriac.app.application import Celeriac

_FOREVER_S = 3600.0
_KIND = "group"
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class ResultSet:
    """Several results as one.

    Args:
        results: Of tasks, or of groups.
        app: The application that reads them; that of the first result unless given.
    """

    _app: Any = None
    parent: Any = None
    results: list[Any]

    def __init__(self, results: Iterable[Any] | None = None, app: Celeriac | None = None, **unused: Any) -> None:
        self.results = results if isinstance(results, list) else list(results or ())
        if app is not None:
            self._app = app
        self._ended: dict[str, str] = {}

    @property
    def app(self) -> Celeriac:
        """The application that reads them.

        Raises:
            RuntimeError: It has neither an application nor a result.
        """
        found = self._app if self._app is not None or not self.results else self.results[0].app
        if found is None:
            raise RuntimeError(
                f"{self!r} belongs to no application: make it with app.GroupResult(…) or app.ResultSet(…)"
            )
        return found  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{', '.join(map(str, self.results))}]>"

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResultSet) and other.results == self.results

    __hash__ = None  # type: ignore[assignment] # members come and go

    # -- members -----------------------------------------------------------------------------------------------------

    def add(self, result: Any) -> None:
        """Add a result, unless it is there."""
        if result not in self.results:
            self.results.append(result)

    def remove(self, result: Any) -> None:
        """Remove a result, or the one of an id.

        Raises:
            KeyError: It is not there.
        """
        try:
            self.results.remove(result)
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: Any) -> None:
        """Remove a result if it is there."""
        if result in self.results:
            self.results.remove(result)

    def update(self, results: Iterable[Any]) -> None:
        """Add those that are not there."""
        for one in results:
            self.add(one)

    def clear(self) -> None:
        """Remove all."""
        self.results.clear()

    # -- looking: one round trip for all -----------------------------------------------------------------------------

    def _states(self) -> dict[str, str]:
        """The state of each task, by id."""
        tasks = leaves(self.results)
        known = self._ended
        asked = []
        for one in tasks:
            if isinstance(one, EagerResult):
                known[one.id] = one.state
            elif one._final is not None:
                known[one.id] = one._final.status
            elif one.id not in known:
                asked.append(one.id)
        stored = self.app._result_store().get(asked) if asked else {}
        states = {one.id: known.get(one.id, PENDING) for one in tasks}
        for task_id, one_stored in stored.items():
            states[task_id] = one_stored.state
            if is_final(one_stored.state):
                known[task_id] = one_stored.state
        return states

    def ready(self) -> bool:
        """Whether all have ended."""
        return all(map(is_final, self._states().values()))

    def waiting(self) -> bool:
        """Whether one has not ended."""
        return not self.ready()

    def successful(self) -> bool:
        """Whether all have succeeded."""
        return all(state == SUCCESS for state in self._states().values())

    def failed(self) -> bool:
        """Whether one has failed."""
        return FAILURE in self._states().values()

    @property
    def state(self) -> str:
        """SUCCESS, FAILURE or another final state once all have ended; PENDING before."""
        states = self._states().values()
        if not all(map(is_final, states)):
            return PENDING
        return next((state for state in states if state != SUCCESS), SUCCESS)

    def completed_count(self) -> int:
        """How many have succeeded."""
        states = self._states()
        return sum(all(states[one.id] == SUCCESS for one in leaves((result,))) for result in self.results)

    def maybe_throw(self, callback: Callable[[str, Any], None] | None = None, propagate: bool = True) -> None:
        """Raise the exception of the first that has failed."""
        tasks = leaves(self.results)
        read(self.app, tasks)
        for one in tasks:
            one.maybe_throw(propagate=propagate, callback=callback)

    maybe_reraise = maybe_throw

    # -- waiting -----------------------------------------------------------------------------------------------------

    def join(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float | None = None,
        callback: Callable[[str, Any], None] | None = None,
        no_ack: bool = True,
        on_message: Callable[[dict[str, Any]], None] | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], None] | None = None,
    ) -> list[Any]:
        """Wait for all, and return what they returned, in order.

        Args:
            timeout: Seconds for all together; None waits as long as it takes.
            propagate: Raise the exception of the first, in order, that has failed; False puts exceptions in the list.
            interval: Accepted for Celery's sake, like `no_ack` and `on_interval`; nothing is polled.
            callback: Called with (id, value) for each; the list is then empty.
            no_ack: Not used.
            on_message: Called with each stored result, as a dict.
            disable_sync_subtasks: False allows this call inside a task.
            on_interval: Not used.

        Raises:
            ResultTimeout: Not all were there in time.
            ResultForbidden: Called inside a task.
        """
        if disable_sync_subtasks:
            refuse_inside_task(f"{len(self)} tasks")
        tasks = leaves(self.results)
        wanted = unread(tasks)
        if wanted:
            self._gather(wanted, tasks, timeout, propagate, on_message)
        return self._values(self.results, propagate, callback)

    join_native = join
    get = join
    wait = join

    async def ajoin(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - Celery's word
        propagate: bool = True,
        *,
        callback: Callable[[str, Any], None] | None = None,
        on_message: Callable[[dict[str, Any]], None] | None = None,
        disable_sync_subtasks: bool = False,
    ) -> list[Any]:
        """As `join`, as a coroutine. Inside a task it is allowed: while it waits, the worker runs other tasks."""
        if disable_sync_subtasks:
            refuse_inside_task(f"{len(self)} tasks")
        tasks = leaves(self.results)
        wanted = unread(tasks)
        async for one in self._agather(list(wanted), timeout):
            self._took(wanted[one.id], one, propagate, on_message)
        self._check_all(wanted, tasks, timeout)
        return self._values(self.results, propagate, callback)

    aget = ajoin

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self.ajoin().__await__()

    def _gather(
        self,
        wanted: dict[str, AsyncResult[Any]],
        tasks: Sequence[AsyncResult[Any]],
        timeout: float | None,
        propagate: bool,
        on_message: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        store = self.app._result_store()
        left = list(wanted)
        while left:
            for one in store.gather(left, timeout_s=_FOREVER_S if timeout is None else max(0.0, timeout)):
                self._took(wanted[one.id], one, propagate, on_message)
            if timeout is not None:
                break
            left = [task_id for task_id in left if wanted[task_id]._final is None]
        self._check_all(wanted, tasks, timeout)

    async def _agather(self, ids: list[str], within_s: float | None) -> AsyncIterator[Any]:
        """As `ResultStore.gather`. What is final is read ahead, twice as far each time that all of it was."""
        store = self.app._result_store()
        until = None if within_s is None else SYSTEM_CLOCK.monotonic() + max(0.0, within_s)
        at, ahead = 0, 512
        while at < len(ids):
            part = ids[at : at + ahead]
            found = await store.aget(part)
            start = at
            for task_id in part:
                stored = found.get(task_id)
                if stored is None or not is_final(stored.state):
                    break
                at += 1
                yield stored
            if at == start + len(part):
                ahead = min(2 * ahead, 4096)
                continue
            ahead = 1
            left_s = _FOREVER_S if until is None else until - SYSTEM_CLOCK.monotonic()
            if left_s <= 0:
                return
            await store.await_final((ids[at],), timeout_s=left_s)

    def _took(
        self,
        result: AsyncResult[Any],
        stored: Any,
        propagate: bool,
        on_message: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        meta = result._final = result.app.codec.read_result(stored)
        if on_message is not None:
            on_message(result._message(meta))
        if propagate and meta.status != SUCCESS:
            result._deliver(meta, propagate, None)

    def _check_all(
        self, wanted: dict[str, AsyncResult[Any]], tasks: Sequence[AsyncResult[Any]], timeout: float | None
    ) -> None:
        missing = [one for one in wanted.values() if one._final is None]
        if not missing:
            return
        first = missing[0]
        kept_s = self.app.settings.result_expires
        kept = f"; results are kept for {kept_s:g} s (result_expires), and then gone" if kept_s else ""
        raise ResultTimeout(
            f"{len(missing)} of {len(tasks)} results were not there after {timeout or 0:g} s: the first is that of "
            f"task {first.id}, whose state is {first.state}. Does a worker consume its queue?{kept}"
        )

    def _values(
        self, results: Sequence[Any], propagate: bool, callback: Callable[[str, Any], None] | None
    ) -> list[Any]:
        values = []
        for one in results:
            if isinstance(one, EagerResult):
                value = one.get(propagate=propagate)
            elif isinstance(one, AsyncResult):
                meta = one._final
                assert meta is not None
                value = meta.result if meta.status == SUCCESS else one._deliver(meta, propagate, None)
            else:
                value = self._values(one.results, propagate, None)
            if callback is None:
                values.append(value)
            else:
                callback(one.id, value)
        return values

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float | None = None,
        no_ack: bool = True,
        on_message: Callable[[dict[str, Any]], None] | None = None,
        on_interval: Callable[[], None] | None = None,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Pairs of id and stored result, as a dict, in the order in which the tasks end.

        Raises:
            ResultTimeout: Not all were there in time.
        """
        for one in self._as_ended(timeout):
            meta = _as_message(one)
            if on_message is not None:
                on_message(meta)
            yield one.id, meta

    def iterate(
        self, timeout: float | None = None, propagate: bool = True, interval: float | None = None
    ) -> Iterator[Any]:
        """What the tasks returned, in the order in which they end; raises as `join`."""
        for one in self._as_ended(timeout):
            yield one.maybe_throw(propagate=propagate)

    def _as_ended(self, timeout: float | None) -> Iterator[AsyncResult[Any]]:
        tasks = leaves(self.results)
        read(self.app, tasks)
        wanted = unread(tasks)
        for one in tasks:
            if one.id not in wanted:
                yield one
        store = self.app._result_store() if wanted else None
        until = None if timeout is None else SYSTEM_CLOCK.monotonic() + max(0.0, timeout)
        left = dict(wanted)
        while left and store is not None:
            left_s = _FOREVER_S if until is None else max(0.0, until - SYSTEM_CLOCK.monotonic())
            found = store.wait(list(left), timeout_s=left_s)
            for task_id, stored in found.items():
                one = left.pop(task_id)
                one._final = self.app.codec.read_result(stored)
                yield one
            if left and until is not None and not found:
                self._check_all(left, tasks, timeout)

    @property
    def supports_native_join(self) -> bool:
        """Whether all are awaited at once."""
        return all(one.supports_native_join for one in self.results)

    # -- acting ------------------------------------------------------------------------------------------------------

    def then(
        self, callback: Callable[[Any], Any], on_error: Callable[[BaseException], Any] | None = None, weak: bool = False
    ) -> ResultSet:
        """Call `callback` with this set when all have ended; see `AsyncResult.then`."""
        call_when_ended(self, callback, on_error)
        return self

    def _wait_ended(self) -> None:
        self.join(propagate=False, disable_sync_subtasks=False)

    def forget(self) -> None:
        """Delete the stored results, and those of the tasks before them."""
        ids: dict[str, None] = {}
        nodes: list[Any] = leaves(self.results)
        while nodes:
            for one in leaves(nodes):
                one._final = None
                ids[one.id] = None
            nodes = [node.parent for node in nodes if node.parent is not None]
        self._ended.clear()
        if ids:
            self.app._result_store().forget(list(ids))

    def revoke(
        self,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
        connection: Any = None,
    ) -> None:
        """Durably forbid the tasks to start; see `AsyncResult.revoke`."""
        ids = [one.id for one in leaves(self.results) if not isinstance(one, EagerResult)]
        if ids:
            self.app.control.revoke(ids, terminate=terminate, signal=signal or "SIGTERM")


class GroupResult(ResultSet):
    """The results of a group, under its id.

    Args:
        id: The group's.
        results: Of its members, in order.
        parent: The result of what was before it.
        app: The application that reads them.
    """

    def __init__(
        self,
        id: str | None = None,
        results: Iterable[Any] | None = None,
        parent: Any = None,
        app: Celeriac | None = None,
        **unused: Any,
    ) -> None:
        super().__init__(results, app)
        self.id = id
        self.parent = parent

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id} [{', '.join(map(str, self.results))}]>"

    def __str__(self) -> str:
        return str(self.id)

    def __bool__(self) -> bool:
        return bool(self.id or self.results)

    def __hash__(self) -> int:  # type: ignore[override] # its id stays
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return other == self.id
        if isinstance(other, GroupResult):
            return (other.id, other.results, other.parent) == (self.id, self.results, self.parent)
        return NotImplemented

    @property
    def children(self) -> list[Any]:
        """The results."""
        return self.results

    def as_tuple(self) -> Any:
        """Celery's form of a group's result: `((id, parent), [members])`."""
        return (
            (self.id, None if self.parent is None else self.parent.as_tuple()),
            [one.as_tuple() for one in self.results],
        )

    def as_list(self) -> list[str]:
        """Its id, those of its members, and those of its parents."""
        ids = [str(self.id), *(one.id for one in self.results)]
        return ids + ([] if self.parent is None else self.parent.as_list())

    def save(self, backend: Any = None) -> None:
        """Keep the ids of its members under its own, as long as results are kept: see `restore`."""
        app = self.app
        kept_s = app.settings.result_expires
        record = Record(
            kind=_KIND,
            id=str(self.id),
            payload=_encode({"result": self.as_tuple()}),
            expires_at=app.clock.time() + kept_s if kept_s else None,
        )
        app._result_store().save([record])

    def delete(self, backend: Any = None) -> None:
        """Delete what `save` keeps; the results stay."""
        self.app._result_store().discard(_KIND, [str(self.id)])

    @classmethod
    def restore(cls, id: str, backend: Any = None, app: Celeriac | None = None) -> GroupResult | None:
        """A saved group's result; None where nothing, or nothing any more, is kept under this id.

        Raises:
            RuntimeError: `app` is not given, and this is not an application's own class, `app.GroupResult`.
        """
        found = app if app is not None else cls._app
        if found is None:
            raise RuntimeError(f"GroupResult.restore({id!r}): whose? Use app.GroupResult.restore(…), or give app=")
        payload = found._result_store().load(_KIND, [id]).get(id)
        if payload is None:
            return None
        restored: GroupResult = result_from_tuple(_decode(payload)["result"], found)
        return restored


def result_from_tuple(data: Any, app: Celeriac, parent: Any = None) -> Any:
    """The handle of Celery's form of a result; one that is a handle already stays.

    Args:
        data: `[[id, parent], members]`, where a task has no members; a bare id for a task, too.
        app: The application that reads it.
        parent: Where the form says none.
    """
    if isinstance(data, (AsyncResult, ResultSet)):
        return data
    head, nodes = data if isinstance(data, (list, tuple)) else (data, None)
    task_id, before = head if isinstance(head, (list, tuple)) else (head, None)
    if before:
        parent = result_from_tuple(before, app)
    if nodes is not None:
        return app.GroupResult(task_id, [result_from_tuple(node, app) for node in nodes], parent=parent)
    found = app.AsyncResult(task_id)
    found.parent = parent
    return found


def _as_message(result: AsyncResult[Any]) -> dict[str, Any]:
    if isinstance(result, EagerResult):
        return {"status": result.state, "result": result.result, "traceback": result.traceback, "task_id": result.id}
    assert result._final is not None
    return result._message(result._final)
