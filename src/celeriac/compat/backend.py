"""`celery.backends.base`: what `app.backend` is, and what result backends of other packages are built on.

`Backend` by itself is a view of the application's result store, in Celery's words. A class of another package
(`django-db`) overrides the methods with a leading underscore, and then keeps a copy of every result: see `copies`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

from celeriac.codec import ResultMeta, decode_exception, encode_exception
from celeriac.codec.values import revive, to_plain
from celeriac.errors import NotSupportedError, ResultTimeout
from celeriac.model import Record, StoredResult
from celeriac.model.states import (
    EXCEPTION_STATES,
    FAILURE,
    PENDING,
    PROPAGATE_STATES,
    READY_STATES,
    RETRY,
    REVOKED,
    STARTED,
    SUCCESS,
    UNREADY_STATES,
)

if TYPE_CHECKING:
    from celeriac.interfaces import ResultStore

_DEPTH: Final = 500
_GROUP: Final = "group"
_KEYS: Final = "compat"
_TASK_KEY: Final = "celery-task-meta-"
_GROUP_KEY: Final = "celery-taskset-meta-"


class Backend:
    """The result store of an application, with the methods of Celery's backends.

    Args:
        app: The application.
        serializer: Name of the format that `encode` writes; JSON whatever it says.
        max_cached_results: Accepted: nothing is cached.
        accept: Accepted: JSON is read.
        expires: Seconds, or a timedelta, that results are kept; None: the settings say.
        expires_type: What `expires` is made to be.
        url: Where it is.
        kwargs: Of subclasses.
    """

    READY_STATES = READY_STATES
    UNREADY_STATES = UNREADY_STATES
    EXCEPTION_STATES = EXCEPTION_STATES
    PROPAGATE_STATES = PROPAGATE_STATES
    TimeoutError = ResultTimeout
    subpolling_interval: float | None = None
    supports_native_join = True
    supports_autoexpire = False
    persistent = True
    is_async = True
    retry_policy: Mapping[str, Any] = {"max_retries": 20, "interval_start": 0, "interval_step": 1, "interval_max": 1}

    def __init__(
        self,
        app: Any,
        serializer: str | None = None,
        max_cached_results: int | None = None,
        accept: Any = None,
        expires: Any = None,
        expires_type: Any = None,
        url: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.app = app
        self.serializer = serializer or app.conf.result_serializer
        self.content_type, self.content_encoding = "application/json", "utf-8"
        self.accept = accept
        self.url = url
        self.expires = self.prepare_expires(expires, expires_type)
        self.max_retries = float("inf")
        self.always_retry = False

    def as_uri(self, include_password: bool = False) -> str:
        """Where it is, the password hidden unless asked for."""
        from celeriac.masking import masked

        url = self.url or (self._store.url if self.app.results is not None else "disabled://")
        return url if include_password else masked(url)

    @property
    def _store(self) -> ResultStore:
        store: ResultStore = self.app._result_store()
        return store

    # -- writing -------------------------------------------------------------------------------------------------

    def mark_as_started(self, task_id: str, **meta: Any) -> Any:
        return self.store_result(task_id, meta, STARTED)

    def mark_as_done(self, task_id: str, result: Any, request: Any = None, store_result: bool = True,
                     state: str = SUCCESS) -> None:  # fmt: skip
        if store_result:
            self.store_result(task_id, result, state, request=request)

    def mark_as_failure(
        self,
        task_id: str,
        exc: Any,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = FAILURE,
    ) -> None:
        if store_result:
            self.store_result(task_id, exc, state, traceback=traceback, request=request)

    def mark_as_revoked(self, task_id: str, reason: str = "", request: Any = None, store_result: bool = True,
                        state: str = REVOKED) -> None:  # fmt: skip
        from celeriac.errors import TaskRevokedError

        if store_result:
            self.store_result(task_id, TaskRevokedError(reason), state, request=request)

    def mark_as_retry(self, task_id: str, exc: Any, traceback: Any = None, request: Any = None,
                      store_result: bool = True, state: str = RETRY) -> Any:  # fmt: skip
        return self.store_result(task_id, exc, state, traceback=traceback, request=request)

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        """Write a task's state and result; a final state stays. Returns the result as it was encoded."""
        encoded = self.encode_result(result, state)
        self._store_result(task_id, encoded, state, traceback, request=request, **kwargs)
        return encoded

    def _store_result(self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None,
                      **kwargs: Any) -> Any:  # fmt: skip
        meta = ResultMeta(
            status=state,
            result=result,
            traceback=traceback,
            children=self.current_task_children(request),
            date_done=self.app.now().isoformat() if state in READY_STATES else None,
            task_id=task_id,
        )
        kept_s = self.app.settings.result_expires
        expires_at = self.app.clock.time() + kept_s if kept_s else None
        payload = self.app.codec.encode_result(meta)
        self._store.put([StoredResult(id=task_id, state=state, payload=payload, expires_at=expires_at)])
        return result

    def forget(self, task_id: str) -> None:
        """Delete a result."""
        self._store.forget([task_id])

    _forget = forget

    # -- reading -------------------------------------------------------------------------------------------------

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:
        """A task's state and result, as a dict."""
        return self._get_task_meta_for(task_id)

    reload_task_result = get_task_meta

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        stored = self._store.get([task_id]).get(task_id)
        if stored is None:
            return {"status": PENDING, "result": None, "traceback": None, "children": [], "task_id": task_id}
        found: ResultMeta = self.app.codec.read_result(stored)
        told = {name: getattr(found, name) for name in ResultMeta.__struct_fields__}
        stamps = told.pop("stamps")
        plain = {name: value for name, value in told.items() if value is not None or name in ("result", "traceback")}
        return self.meta_from_decoded({**plain, **stamps})

    def get_state(self, task_id: str) -> str:
        return str(self.get_task_meta(task_id)["status"])

    get_status = get_state

    def get_result(self, task_id: str) -> Any:
        return self.get_task_meta(task_id).get("result")

    def get_traceback(self, task_id: str) -> Any:
        return self.get_task_meta(task_id).get("traceback")

    def get_children(self, task_id: str) -> Any:
        return self.get_task_meta(task_id).get("children")

    def get_many(self, task_ids: Iterable[Any], **more: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
        """The id and the state and result of each that has ended."""
        for task_id in task_ids:
            meta = self.get_task_meta(getattr(task_id, "id", task_id))
            if meta["status"] in READY_STATES:
                yield task_id, meta

    def wait_for_pending(self, result: Any, timeout: float | None = None, propagate: bool = True, **more: Any) -> Any:
        """Wait for a result, as its `get`."""
        return result.get(timeout=timeout, propagate=propagate)

    def wait_for(self, task_id: str, timeout: float | None = None, **more: Any) -> dict[str, Any]:
        """Wait for a task's end; its state and result."""
        self.app.AsyncResult(task_id).get(timeout=timeout, propagate=False)
        return self.get_task_meta(task_id)

    # -- groups --------------------------------------------------------------------------------------------------

    def save_group(self, group_id: str, result: Any) -> Any:
        """Keep the ids of a group's members under its own."""
        return self._save_group(group_id, result)

    def restore_group(self, group_id: str, cache: bool = True) -> Any:
        """The handle on a group that was saved, or None."""
        found = self._restore_group(group_id)
        return None if found is None else found["result"]

    def delete_group(self, group_id: str) -> None:
        return self._delete_group(group_id)

    def get_group_meta(self, group_id: str, cache: bool = True) -> Any:
        return self._restore_group(group_id)

    def _save_group(self, group_id: str, result: Any) -> Any:
        payload = self.encode({"result": result.as_tuple()}).encode()
        self._store.save([Record(kind=_GROUP, id=group_id, payload=payload)])
        return result

    def _restore_group(self, group_id: str) -> dict[str, Any] | None:
        found = self.app.GroupResult.restore(group_id)
        return None if found is None else {"task_id": group_id, "result": found}

    def _delete_group(self, group_id: str) -> None:
        self._store.discard(_GROUP, [group_id])

    # -- keys and values of the application's own ----------------------------------------------------------------

    def get(self, key: Any) -> Any:
        """What is kept under a key, as bytes, or None."""
        return self._store.load(_KEYS, [str(key)]).get(str(key))

    def set(self, key: Any, value: Any) -> Any:
        """Keep a value under a key, in the result store."""
        data = value if isinstance(value, bytes) else str(value).encode()
        self._store.save([Record(kind=_KEYS, id=str(key), payload=data)])

    def delete(self, key: Any) -> Any:
        """Keep nothing under a key."""
        self._store.discard(_KEYS, [str(key)])

    @property
    def client(self) -> Any:
        """A connection of the application's own to Redis, where results are there.

        Raises:
            NotSupportedError: They are elsewhere.
        """
        url = self._store.url
        if not url.startswith(("redis", "valkey", "unix")):
            raise NotSupportedError(f"app.backend.client: results are kept at {self.as_uri()}, which is no Redis")
        from redis import Redis

        return Redis.from_url(url.replace("valkey", "redis", 1))

    # -- the forms of values -------------------------------------------------------------------------------------

    def encode_result(self, result: Any, state: str) -> Any:
        """An exception as data; anything else as it is."""
        if state in EXCEPTION_STATES and isinstance(result, BaseException):
            return self.prepare_exception(result)
        return self.prepare_value(result)

    def prepare_value(self, result: Any) -> Any:
        return result.as_tuple() if hasattr(result, "as_tuple") and self.serializer != "pickle" else result

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> dict[str, Any]:
        return encode_exception(exc)

    def exception_to_python(self, exc: Any) -> Any:
        """The exception that data describes; where its class may not be rebuilt, a stand-in with its name and text."""
        if not isinstance(exc, Mapping):
            return exc
        return decode_exception(exc, allowed=self.app._may_rebuild)

    def meta_from_decoded(self, meta: dict[str, Any]) -> dict[str, Any]:
        if meta.get("status") in EXCEPTION_STATES:
            meta["result"] = self.exception_to_python(meta.get("result"))
        return meta

    def decode_result(self, payload: Any) -> dict[str, Any]:
        return self.meta_from_decoded(self.decode(payload))

    def encode(self, data: Any) -> Any:
        """JSON, with Celery's forms of what JSON lacks."""
        return self._encode(data)[-1]

    def _encode(self, data: Any) -> tuple[str, str, Any]:
        return self.content_type, self.content_encoding, json.dumps(to_plain(data, _DEPTH))

    def decode(self, payload: Any) -> Any:
        """What `encode` was given."""
        return None if payload is None else revive(json.loads(payload))

    def prepare_expires(self, value: Any, type: Any = None) -> Any:
        """Seconds that results are kept."""
        if value is None:
            value = self.app.conf.result_expires
        seconds = value.total_seconds() if isinstance(value, timedelta) else value
        if seconds is not None and type:
            return type(seconds)
        return None if seconds is None else int(seconds)

    def current_task_children(self, request: Any = None) -> list[Any]:
        """What the running task has sent, as tuples."""
        return [each.as_tuple() for each in getattr(request, "children", None) or []]

    def _get_result_meta(
        self, result: Any, state: str, traceback: Any, request: Any, format_date: bool = True, encode: bool = False
    ) -> dict[str, Any]:
        done = self.app.now() if state in READY_STATES else None
        meta = {
            "status": state,
            "result": result,
            "traceback": traceback,
            "children": self.current_task_children(request),
            "date_done": done.isoformat() if done is not None and format_date else done,
        }
        for name, attribute in (("group_id", "group"), ("parent_id", "parent_id")):
            if (found := getattr(request, attribute, None)) is not None:
                meta[name] = found
        if request is not None and self.app.conf.result_extended:
            meta |= {
                "name": getattr(request, "task", None),
                "args": getattr(request, "args", None),
                "kwargs": getattr(request, "kwargs", None),
                "worker": getattr(request, "hostname", None),
                "retries": getattr(request, "retries", None),
                "queue": (getattr(request, "delivery_info", None) or {}).get("routing_key"),
            }
        return meta

    # -- hooks that subclasses override --------------------------------------------------------------------------

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        """Whether a call that failed with it may be made again."""
        return False

    def cleanup(self) -> None:
        """Delete what is kept too long."""
        self._store.expire(limit=10_000)

    def process_cleanup(self) -> None:
        """At the end of a process; nothing is open."""

    def on_task_call(self, producer: Any, task_id: str) -> Mapping[str, Any]:
        return {}

    def add_pending_result(self, result: Any, weak: bool = False, **more: Any) -> Any:
        return result

    def remove_pending_result(self, result: Any) -> Any:
        return result

    def on_result_fulfilled(self, result: Any) -> None:
        """Nothing is held for a result that is waited for."""

    def ensure_chords_allowed(self) -> None:
        """Every store carries chords."""

    def apply_chord(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotSupportedError("apply_chord(): chords are counted by the broker's store; call the chord itself")

    def chord_error_from_stack(self, callback: Any, exc: Any = None) -> None:
        """Fail a chord's body, as when one of its members failed."""
        task_id = callback.id or callback.freeze().id
        self.store_result(task_id, exc, FAILURE)

    def __reduce__(self) -> Any:
        return type(self), (self.app,)


BaseBackend = BaseDictBackend = SyncBackendMixin = Backend


class KeyValueStoreBackend(Backend):
    """For backends that only get, set and delete values by key."""

    task_keyprefix = _TASK_KEY
    group_keyprefix = _GROUP_KEY
    implements_incr = False

    def get(self, key: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}.get")

    def set(self, key: Any, value: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}.set")

    def delete(self, key: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}.delete")

    def mget(self, keys: Iterable[Any]) -> list[Any]:
        return [self.get(key) for key in keys]

    def expire(self, key: Any, value: Any) -> None:
        """Where a key expires by itself, nothing is to be done."""

    def get_key_for_task(self, task_id: str, key: str = "") -> str:
        return f"{self.task_keyprefix}{task_id}{key}"

    def get_key_for_group(self, group_id: str, key: str = "") -> str:
        return f"{self.group_keyprefix}{group_id}{key}"

    def _store_result(self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None,
                      **kwargs: Any) -> Any:  # fmt: skip
        meta = self._get_result_meta(result, state, traceback, request)
        self.set(self.get_key_for_task(task_id), self.encode({**meta, "task_id": task_id}))
        return result

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        found = self.get(self.get_key_for_task(task_id))
        return {"status": PENDING, "result": None} if not found else self.decode_result(found)

    def forget(self, task_id: str) -> None:
        self._forget(task_id)

    def _forget(self, task_id: str) -> None:
        self.delete(self.get_key_for_task(task_id))

    def _save_group(self, group_id: str, result: Any) -> Any:
        self.set(self.get_key_for_group(group_id), self.encode({"result": result.as_tuple()}))
        return result

    def _restore_group(self, group_id: str) -> dict[str, Any] | None:
        found = self.get(self.get_key_for_group(group_id))
        if not found:
            return None
        from celeriac.app.group_result import result_from_tuple

        decoded = self.decode(found)
        return {**decoded, "result": result_from_tuple(decoded["result"], self.app)}

    def _delete_group(self, group_id: str) -> None:
        self.delete(self.get_key_for_group(group_id))


class DisabledBackend(Backend):
    """Where results are not kept: asking for one is an error."""

    def store_result(self, *args: Any, **kwargs: Any) -> None:
        """Nothing is kept."""

    def _none(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            "No result backend is configured.\nPlease see the documentation for more information."
        )

    get_state = get_status = get_result = get_traceback = get_task_meta = get_children = wait_for = _none
    get_task_meta_for = _none


def backend_of(app: Any) -> Backend:
    """What `app.backend` is: the class that the settings name, or the view of the application's own store."""
    from celeriac.compat.copies import Copies

    results = app.results
    if results is None:
        return DisabledBackend(app)
    return results.backend if isinstance(results, Copies) else Backend(app, url=results.url)
