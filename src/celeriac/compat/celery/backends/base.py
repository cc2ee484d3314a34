"""`app.backend`: an application's result store with the methods that Celery's backends have.

Also the base class that result backends of other packages derive from: see `celeriac.compat.foreign`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeriac.app.urls import masked
from celeriac.codec import ResultMeta
from celeriac.compat.celery import states
from celeriac.errors import NotSupportedError
from celeriac.model import Record, StoredResult

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Backend", "DisabledBackend", "backend_of"]


class Backend:
    """Reads and writes results of an application.

    Args:
        app: The application.
    """

    READY_STATES = states.READY_STATES
    UNREADY_STATES = states.UNREADY_STATES
    EXCEPTION_STATES = states.EXCEPTION_STATES
    supports_native_join = True
    supports_autoexpire = True
    persistent = True

    def __init__(self, app: Any) -> None:
        self.app = app

    # -- writing -------------------------------------------------------------------------------------------------

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        """Write a state and result; returns the result."""
        app = self.app
        if isinstance(result, BaseException):
            from celeriac.codec import encode_exception

            written = encode_exception(result)
        else:
            written = result
        kept_s = app.settings.result_expires
        now = app.clock.time()
        from datetime import UTC, datetime

        done = datetime.fromtimestamp(now, UTC).isoformat() if state in states.READY_STATES else None
        payload = app.codec.encode_result(
            ResultMeta(task_id=task_id, status=state, result=written, traceback=traceback, date_done=done)
        )
        app._result_store().put(
            [StoredResult(id=task_id, state=state, payload=payload, expires_at=now + kept_s if kept_s else None)]
        )
        return result

    def mark_as_started(self, task_id: str, **meta: Any) -> Any:
        return self.store_result(task_id, meta, states.STARTED)

    def mark_as_done(self, task_id: str, result: Any, request: Any = None, store_result: bool = True, **kw: Any) -> None:
        self.store_result(task_id, result, kw.get("state", states.SUCCESS))

    def mark_as_failure(
        self, task_id: str, exc: Any, traceback: Any = None, request: Any = None, store_result: bool = True, **kw: Any
    ) -> None:
        self.store_result(task_id, exc, kw.get("state", states.FAILURE), traceback=traceback)

    def mark_as_revoked(self, task_id: str, reason: str = "", request: Any = None, **kw: Any) -> None:
        from celeriac.errors import TaskRevokedError

        self.store_result(task_id, TaskRevokedError(reason), states.REVOKED)

    def mark_as_retry(self, task_id: str, exc: Any, traceback: Any = None, request: Any = None, **kw: Any) -> Any:
        return self.store_result(task_id, exc, states.RETRY, traceback=traceback)

    # -- reading -------------------------------------------------------------------------------------------------

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:
        """What is stored, with Celery's keys; `status` is PENDING where nothing is."""
        handle = self.app.AsyncResult(task_id)
        meta = handle._meta()
        if meta is None:
            return {"status": states.PENDING, "result": None, "task_id": task_id}
        return {
            "task_id": task_id,
            "status": meta.status,
            "result": handle.result,
            "traceback": meta.traceback,
            "children": handle.children,
            "date_done": meta.date_done,
        }

    def get_state(self, task_id: str) -> Any:
        return self.get_task_meta(task_id)["status"]

    get_status = get_state

    def get_result(self, task_id: str) -> Any:
        return self.get_task_meta(task_id)["result"]

    def get_traceback(self, task_id: str) -> Any:
        return self.get_task_meta(task_id).get("traceback")

    def get_children(self, task_id: str) -> Any:
        return self.get_task_meta(task_id).get("children")

    def get_many(self, task_ids: Any, **kwargs: Any) -> Any:
        """`(id, meta)` of each that has ended."""
        for task_id in task_ids:
            meta = self.get_task_meta(getattr(task_id, "id", task_id))
            if meta["status"] in states.READY_STATES:
                yield task_id, meta

    def wait_for(self, task_id: str, timeout: float | None = None, **kwargs: Any) -> dict[str, Any]:
        """Wait until it has ended."""
        self.app.AsyncResult(task_id).get(timeout=timeout, propagate=False, disable_sync_subtasks=False)
        return self.get_task_meta(task_id)

    def forget(self, task_id: str) -> None:
        """Delete a result."""
        self.app._result_store().forget((task_id,))

    # -- groups --------------------------------------------------------------------------------------------------

    def save_group(self, group_id: str, result: Any) -> Any:
        result.save()
        return result

    def restore_group(self, group_id: str, cache: bool = True) -> Any:
        return self.app.GroupResult.restore(group_id)

    def delete_group(self, group_id: str) -> None:
        self.app._result_store().discard("group", [group_id])

    # -- keys and values of an application's own -------------------------------------------------------------------

    def set(self, key: str, value: Any) -> None:
        """Keep a value under a key, in the result store."""
        data = value if isinstance(value, bytes) else str(value).encode()
        self.app._result_store().save([Record(kind="compat", id=str(key), payload=data, expires_at=None)])

    def get(self, key: str) -> bytes | None:
        found: Mapping[str, bytes] = self.app._result_store().load("compat", [str(key)])
        return found.get(str(key))

    def delete(self, key: str) -> None:
        self.app._result_store().discard("compat", [str(key)])

    # -- the rest ------------------------------------------------------------------------------------------------

    def as_uri(self, include_password: bool = False) -> str:
        """The store's URL."""
        url = str(self.app.settings.result_backend or self.app.broker_url)
        return url if include_password else masked(url)

    @property
    def url(self) -> str:
        return self.as_uri(include_password=True)

    @property
    def client(self) -> Any:
        """A connection to Redis of the application's own, where results are in Redis.

        Raises:
            NotSupportedError: They are elsewhere.
        """
        if not self.url.startswith(("redis", "rediss", "valkey", "unix")):
            raise NotSupportedError(f"app.backend.client: results are kept at {self.as_uri()}, which has no Redis client")
        import redis

        return redis.Redis.from_url(self.url.replace("valkey", "redis", 1))

    def cleanup(self) -> None:
        """Delete what has expired, where the store does not do so by itself."""
        self.app._result_store().expire(limit=10_000)

    def process_cleanup(self) -> None:
        """Nothing is left behind."""

    on_task_call = process_cleanup
    BaseDictBackend: Any = None

    def __repr__(self) -> str:
        return f"<Backend: {self.as_uri()}>"


class DisabledBackend(Backend):
    """Where no results are kept."""

    def store_result(self, *args: Any, **kwargs: Any) -> Any:
        """Nothing is kept."""

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(
            "No result backend is configured. Set result_backend to a URL, or to the broker's, to use results"
        )

    get_task_meta = get_state = get_status = get_result = get_traceback = wait_for = get_many = _refuse

    def as_uri(self, include_password: bool = False) -> str:
        return "disabled://"


BaseBackend = BaseDictBackend = KeyValueStoreBackend = SyncBackendMixin = Backend


def backend_of(app: Any) -> Backend:
    """The backend of an application."""
    return DisabledBackend(app) if app.results is None else Backend(app)
