"""Result backends of other packages (`result_backend = "django-db"`): every result also goes there.

The application's results are kept by the broker's store, as ever: that is what wakes who waits, carries chords, and is
right when a worker dies. The other backend gets a copy, before whoever waits is told, so that who was told finds it
there; and it is asked for what the store does not know, such as results that Celery left there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final, TypeVar

from celeriac.app.adapters import open_results
from celeriac.app.urls import parse
from celeriac.codec import ResultMeta, encode_exception
from celeriac.errors import BrokerUnavailableError, ConfigError
from celeriac.model import Record, StoredResult
from celeriac.model.states import PENDING, is_final, may_follow

if TYPE_CHECKING:
    from celeriac.compat.backend import Backend
    from celeriac.interfaces import ResultStore
    from celeriac.model import Arrival, Join

_log = logging.getLogger("celeriac.compat")

T = TypeVar("T")

_ENTRY_POINTS: Final = "celery.result_backends"
_KNOWN: Final[Mapping[str, str]] = {
    "django-db": "django_celery_results.backends:DatabaseBackend",
    "django-cache": "django_celery_results.backends:CacheBackend",
}
"""Where the package is not installed, its entry point is not there to say so."""
_TRANSIENT: Final = frozenset({"OperationalError", "InterfaceError", "ConnectionError", "TimeoutError"})
"""Names, in all drivers, of exceptions that time may mend."""


class Copied(str):
    """A notice on the setting `result_backend`; `backend` is what it was set to."""

    __slots__ = ("backend",)
    backend: str

    @classmethod
    def to(cls, backend: str) -> Copied:
        notice = cls(f"results are kept with the broker, and {backend} gets a copy of each")
        notice.backend = backend
        return notice


def is_other(backend: object) -> bool:
    """Whether a value of `result_backend` names a class of another package, not a URL of ours."""
    if not isinstance(backend, str) or "://" in backend:
        return False
    if backend in _KNOWN or any(entry.name == backend for entry in entry_points(group=_ENTRY_POINTS)):
        return True
    return "." in backend and not any(mark in backend for mark in "/ \\")


def load_backend(name: str) -> type[Backend]:
    """The class that a value of `result_backend` names.

    Raises:
        ConfigError: It cannot be imported.
    """
    from celeriac.app.finder import load_symbol

    dotted = next((entry.value for entry in entry_points(group=_ENTRY_POINTS) if entry.name == name), None)
    found: type[Backend] = load_symbol(dotted or _KNOWN.get(name, name), "result_backend")
    return found


class Copies:
    """A result store that writes to a second one, too.

    Args:
        home: The application's own.
        backend: The other one.
        app: The application.
    """

    def __init__(self, home: ResultStore, backend: Backend, app: Any) -> None:
        self.home = home
        self.backend = backend
        self._app = app
        self._lock = threading.Lock()
        self._thread: tuple[int, ThreadPoolExecutor] | None = None

    @property
    def url(self) -> str:
        """Not the broker's: results travel before the acknowledgement, not with it."""
        return f"{self.backend.as_uri()}+{self.home.url}"

    @property
    def has_joins(self) -> bool:
        return self.home.has_joins

    # -- results -------------------------------------------------------------------------------------------------

    def put(self, results: Sequence[StoredResult], /) -> Sequence[bool]:
        known = self.home.get([result.id for result in results])
        self._copy([result for result in results if _is_news(result, known)])
        return self.home.put(results)

    async def aput(self, results: Sequence[StoredResult], /) -> Sequence[bool]:
        known = await self.home.aget([result.id for result in results])
        await self._elsewhere(lambda: self._copy([result for result in results if _is_news(result, known)]))
        return await self.home.aput(results)

    def _copy(self, results: Sequence[StoredResult]) -> None:
        for result in results:
            meta: ResultMeta = self._app.codec.decode_result(result.payload)
            self._attempt(
                lambda meta=meta: self.backend.store_result(  # type: ignore[misc]
                    meta.task_id, meta.result, meta.status, traceback=meta.traceback, request=_Request(meta)
                ),
                f"the result of task {result.id}",
            )

    def _attempt(self, write: Callable[[], T], what: str) -> T | None:
        """Write, once more where that helps.

        Raises:
            BrokerUnavailableError: It may be there later.
        """
        tries = 2
        while True:
            tries -= 1
            try:
                return write()
            except Exception as exc:
                if tries and self.backend.exception_safe_to_retry(exc):
                    continue
                names = {kind.__name__ for kind in type(exc).__mro__}
                if names & _TRANSIENT or isinstance(exc, OSError):
                    raise BrokerUnavailableError(
                        f"{self.backend.as_uri()} did not take {what}: {type(exc).__name__}: {exc}"
                    ) from exc
                # what can never be written must not keep the task from being acknowledged
                _log.exception("%s did not take %s; it is kept with the broker only", self.backend.as_uri(), what)
                return None

    async def _elsewhere(self, work: Callable[[], T]) -> T:
        """Run in the one thread that has this process's connections to the other backend."""
        with self._lock:
            if self._thread is None or self._thread[0] != os.getpid():
                self._thread = (os.getpid(), ThreadPoolExecutor(1, "celeriac-copies"))
            executor = self._thread[1]
        return await asyncio.get_running_loop().run_in_executor(executor, work)

    def get(self, ids: Collection[str], /) -> Mapping[str, StoredResult]:
        found = dict(self.home.get(ids))
        return {**found, **self._read(set(ids) - found.keys())}

    async def aget(self, ids: Collection[str], /) -> Mapping[str, StoredResult]:
        found = dict(await self.home.aget(ids))
        missing = set(ids) - found.keys()
        return {**found, **await self._elsewhere(lambda: self._read(missing))} if missing else found

    def _read(self, ids: Collection[str]) -> dict[str, StoredResult]:
        found = {}
        for one in ids:
            meta = self.backend._get_task_meta_for(one)
            if meta and meta.get("status", PENDING) != PENDING:
                found[one] = self._stored(one, meta)
        return found

    def _stored(self, task_id: str, meta: Mapping[str, Any]) -> StoredResult:
        result, done = meta.get("result"), meta.get("date_done")
        if isinstance(result, BaseException):
            result = encode_exception(result)
        whole = ResultMeta(
            status=meta["status"],
            result=result,
            traceback=meta.get("traceback"),
            children=meta.get("children") or [],
            date_done=done if isinstance(done, str) or done is None else done.isoformat(),
            task_id=task_id,
            **{name: meta[name] for name in ("name", "worker") if isinstance(meta.get(name), str)},
        )
        return StoredResult(id=task_id, state=whole.status, payload=self._app.codec.encode_result(whole))

    def wait(self, ids: Collection[str], /, *, timeout_s: float) -> Mapping[str, StoredResult]:
        known = {one: stored for one, stored in self.get(ids).items() if is_final(stored.state)}
        return known or self.home.wait(ids, timeout_s=timeout_s)

    async def await_final(self, ids: Collection[str], /, *, timeout_s: float) -> Mapping[str, StoredResult]:
        known = {one: stored for one, stored in (await self.aget(ids)).items() if is_final(stored.state)}
        return known or await self.home.await_final(ids, timeout_s=timeout_s)

    def gather(self, ids: Sequence[str], /, *, timeout_s: float) -> Iterator[StoredResult]:
        elsewhere = self._read(set(ids) - self.home.get(ids).keys())
        old = {one: stored for one, stored in elsewhere.items() if is_final(stored.state)}
        waited = self.home.gather([one for one in ids if one not in old], timeout_s=timeout_s)
        for one in ids:
            stored = old.get(one) or next(waited, None)
            if stored is None:
                return
            yield stored

    def forget(self, ids: Sequence[str], /) -> None:
        self.home.forget(ids)
        for one in ids:
            self.backend._forget(one)

    # -- records: of them, the other backend knows groups --------------------------------------------------------

    def save(self, records: Sequence[Record], /) -> None:
        self._copy_groups(records)
        self.home.save(records)

    async def asave(self, records: Sequence[Record], /) -> None:
        await self._elsewhere(lambda: self._copy_groups(records))
        await self.home.asave(records)

    def _copy_groups(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.kind == "group":
                group = _Tuple(json.loads(record.payload)["result"])
                self._attempt(
                    lambda one=record.id, group=group: self.backend._save_group(one, group),  # type: ignore[misc]
                    f"group {record.id}",
                )

    def load(self, kind: str, ids: Collection[str], /) -> Mapping[str, bytes]:
        found = dict(self.home.load(kind, ids))
        for one in set(ids) - found.keys() if kind == "group" else ():
            if (group := self.backend._restore_group(one)) is not None and group.get("result") is not None:
                found[one] = json.dumps({"result": group["result"].as_tuple()}).encode()
        return found

    def discard(self, kind: str, ids: Sequence[str], /) -> None:
        self.home.discard(kind, ids)
        if kind == "group":
            for one in ids:
                self.backend._delete_group(one)

    # -- the rest is the store's own -----------------------------------------------------------------------------

    def open_joins(self, joins: Sequence[Join], /) -> None:
        self.home.open_joins(joins)

    async def aopen_joins(self, joins: Sequence[Join], /) -> None:
        await self.home.aopen_joins(joins)

    def arrive(self, arrivals: Sequence[Arrival], /) -> Sequence[bool]:
        return self.home.arrive(arrivals)

    async def aarrive(self, arrivals: Sequence[Arrival], /) -> Sequence[bool]:
        return await self.home.aarrive(arrivals)

    def extend_join(self, join: str, member: str, /) -> None:
        self.home.extend_join(join, member)

    def members(self, join: str, /) -> Sequence[bytes] | None:
        return self.home.members(join)

    async def aclose_joins(self, ids: Sequence[str], /) -> None:
        await self.home.aclose_joins(ids)

    def expire(self, /, *, limit: int) -> int:
        from celeriac.compat.backend import Backend

        if type(self.backend).cleanup is not Backend.cleanup:  # which is this method
            self._attempt(self.backend.cleanup, "the order to delete what is too old")
        return self.home.expire(limit=limit)

    def close(self) -> None:
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None and thread[0] == os.getpid():
            thread[1].shutdown(wait=False)
        self.home.close()


def copied(app: Any, home: ResultStore | None, name: str | None) -> ResultStore | None:
    """The store of an application whose settings name another package's backend.

    Raises:
        ConfigError: There is no store to wake who waits, or no such class.
    """
    if name is None:
        return home
    if home is None and parse(app.broker_url).adapter != "amqp":
        raise ConfigError(f"result_backend={name!r} needs a broker that keeps results, too")
    backend = load_backend(name)(app=app, url=name)
    if home is not None:
        return Copies(home, backend, app)
    posted = open_results("rpc://", app.settings, app.clock, app.codec)
    assert posted is not None
    return PostedCopies(posted, backend, app)


class PostedCopies(Copies):
    """Beside RabbitMQ, which keeps no results: they are sent to who asked, and copied for everybody else.

    Only who asked is woken by them; others find them when they look.
    """

    home: Any  # a Mailbox, too

    @property
    def address(self) -> str:
        return str(self.home.address)

    @property
    def is_listening(self) -> bool:
        return bool(self.home.is_listening)

    def listen(self) -> None:
        self.home.listen()


def _is_news(result: StoredResult, known: Mapping[str, StoredResult]) -> bool:
    old = known.get(result.id)
    return may_follow(None if old is None else old.state, result.state)


class _Tuple:
    """A handle, as far as a backend looks at one."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def as_tuple(self) -> Any:
        return self._data


class _Request:
    """What a backend looks at of the request that a result belongs to."""

    def __init__(self, meta: ResultMeta) -> None:
        self.id = meta.task_id
        self.task = meta.name
        self.args, self.kwargs = meta.args, meta.kwargs
        self.argsrepr = None if meta.args is None else repr(tuple(meta.args))
        self.kwargsrepr = None if meta.kwargs is None else repr(meta.kwargs)
        self.hostname = meta.worker
        self.retries = meta.retries
        self.delivery_info = {"routing_key": meta.queue}
        self.group = meta.group_id
        self.parent_id = meta.parent_id
        self.children = [_Tuple(child) for child in meta.children or []]
        self.stamps = meta.stamps
        self.stamped_headers = meta.stamped_headers
        self.meta: dict[str, Any] = {}
