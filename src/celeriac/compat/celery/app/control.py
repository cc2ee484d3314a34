"""Remote control with Celery's signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeriac.app import control as core
from celeriac.compat.celery.exceptions import DuplicateNodenameWarning
from celeriac.errors import NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Control", "DuplicateNodenameWarning", "Inspect", "flatten_reply"]


def flatten_reply(reply: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One dict by node, of a list of replies."""
    return {node: answer for one in reply for node, answer in one.items()}


class Inspect:
    """Questions to workers; each answer is `{node: reply}`, None when no worker replied."""

    def __init__(
        self, destination: Any = None, timeout: float = 1.0, callback: Any = None, connection: Any = None,
        app: Any = None, limit: int | None = None, pattern: Any = None, matcher: Any = None,
    ) -> None:  # fmt: skip
        from celeriac.compat.celery._state import app_or_default

        self.app = app if app is not None else app_or_default()
        self.destination = destination
        self.timeout = timeout
        self.callback = callback
        self.pattern = pattern
        self.matcher = matcher

    def _request(self, command: str, **kwargs: Any) -> Any:
        """Any command by name."""
        return self._prepare(
            self.app.control.broadcast(
                command, arguments=kwargs, destination=self.destination, reply=True, timeout=self.timeout,
                callback=self.callback, pattern=self.pattern, matcher=self.matcher,
            )
        )  # fmt: skip

    def ask(self, command: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Any command by name; empty when no worker replied."""
        return self._request(command, **(arguments or {})) or {}

    def _prepare(self, reply: Any) -> Any:
        if not reply:
            return None
        by_node = flatten_reply(reply)
        if isinstance(self.destination, str):
            return by_node.get(self.destination)
        return by_node

    def report(self) -> Any:
        return self._request("report")

    def clock(self) -> Any:
        return self._request("clock")

    def active(self, safe: Any = None) -> Any:
        """The tasks that run now."""
        return self._request("active", safe=bool(safe))

    def scheduled(self, safe: Any = None) -> Any:
        """The tasks that are not due yet."""
        return self._request("scheduled")

    def reserved(self, safe: Any = None) -> Any:
        """The tasks that were taken and have not started."""
        return self._request("reserved")

    def stats(self) -> Any:
        return self._request("stats")

    def revoked(self) -> Any:
        return self._request("revoked")

    def registered(self, *taskinfoitems: str) -> Any:
        """The tasks each worker knows."""
        return self._request("registered", taskinfoitems=list(taskinfoitems))

    registered_tasks = registered

    def ping(self, destination: Any = None) -> Any:
        if destination:
            self.destination = destination
        return self._request("ping")

    def active_queues(self) -> Any:
        return self._request("active_queues")

    def query_task(self, *ids: Any) -> Any:
        """Where these tasks are."""
        if len(ids) == 1 and isinstance(ids[0], (list, tuple)):
            ids = tuple(ids[0])
        return self._request("query_task", ids=list(ids))

    def conf(self, with_defaults: bool = False) -> Any:
        return self._request("conf", with_defaults=with_defaults)

    def hello(self, from_node: str, revoked: Any = None) -> Any:
        return self._request("hello", from_node=from_node, revoked=revoked)

    def memsample(self) -> Any:
        return self._request("memsample")

    def memdump(self, samples: int = 10) -> Any:
        raise NotSupportedError("inspect().memdump(): use memsample(), or a profiler in the process")

    def objgraph(self, type: str = "Request", n: int = 200, max_depth: int = 10) -> Any:
        raise NotSupportedError("inspect().objgraph(): use objgraph in the process")


class Control(core.Control):
    """Commands to workers and queues."""

    def __init__(self, app: Any = None) -> None:
        from celeriac.compat.celery._state import app_or_default

        super().__init__(app if app is not None else app_or_default())
        self.app = self._app

    def inspect(self, destination: Any = None, timeout: float = 1.0, **kwargs: Any) -> Inspect:  # type: ignore[override]
        """Ask workers what they do."""
        return Inspect(destination, timeout, **{"app": self._app, **kwargs})

    def broadcast(
        self, command: str, arguments: Mapping[str, Any] | None = None, destination: Any = None,
        connection: Any = None, reply: bool = False, timeout: float = 1.0, limit: int | None = None,
        callback: Any = None, channel: Any = None, pattern: Any = None, matcher: Any = None, **extra: Any,
    ) -> Any:  # fmt: skip
        """Send any command to workers.

        Raises:
            NotSupportedError: With `pattern`.
        """
        if pattern is not None or matcher is not None:
            raise NotSupportedError("control by pattern is not there: give destination=[…] with the nodes' names")
        given = {key: value for key, value in {**(arguments or {}), **extra}.items() if value is not None}
        nodes = [destination] if isinstance(destination, str) else destination
        answers = super().broadcast(command, given, nodes, reply=reply, timeout=timeout)
        answers = answers[:limit] if limit else answers
        if callback is not None:
            for one in answers:
                callback(one)
        return answers if reply else None

    def _ordered(self, command: str, arguments: dict[str, Any], destination: Any, kwargs: dict[str, Any]) -> Any:
        return self.broadcast(command, arguments, destination, **kwargs)

    def revoke(
        self, task_id: Any, destination: Any = None, terminate: bool = False, signal: Any = "SIGTERM", **kwargs: Any
    ) -> Any:
        """Forbid tasks to start, durably and on all workers; with `terminate`, stop those that run."""
        ids = [str(one) for one in task_id] if isinstance(task_id, (list, tuple, set)) else str(task_id)
        signal = getattr(signal, "name", signal)
        return super().revoke(ids, terminate=terminate, signal=str(signal))

    def terminate(self, task_id: Any, destination: Any = None, signal: Any = "SIGTERM", **kwargs: Any) -> Any:  # type: ignore[override]
        """As `revoke(terminate=True)`."""
        return self.revoke(task_id, destination, True, signal, **kwargs)

    def revoke_by_stamped_headers(self, headers: Any, destination: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Not there yet."""
        raise NotSupportedError(
            "revoke_by_stamped_headers is not built yet in this version; revoke by id: AsyncResult.children names them"
        )

    def ping(self, destination: Any = None, timeout: float = 1.0, **kwargs: Any) -> Any:
        """`[{node: {"ok": "pong"}}, …]` of the workers that are up."""
        return self.broadcast("ping", {}, destination, reply=True, timeout=timeout, **kwargs)

    def rate_limit(self, task_name: str, rate_limit: Any, destination: Any = None, **kwargs: Any) -> Any:
        """Change how often a task may start on each worker."""
        return self._ordered("rate_limit", {"task_name": task_name, "rate_limit": rate_limit}, destination, kwargs)

    def time_limit(
        self, task_name: str, soft: Any = None, hard: Any = None, destination: Any = None, **kwargs: Any
    ) -> Any:
        """Change a task's time limits."""
        return self._ordered("time_limit", {"task_name": task_name, "soft": soft, "hard": hard}, destination, kwargs)

    def add_consumer(  # type: ignore[override]
        self, queue: str, exchange: Any = None, exchange_type: str = "direct", routing_key: Any = None,
        options: Any = None, destination: Any = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Make workers serve one more queue, declared as the rest says where the engine has exchanges."""
        way = {"exchange": exchange, "exchange_type": exchange_type, "routing_key": routing_key, **(options or {})}
        return self._ordered("add_consumer", {"queue": queue, **way}, destination, kwargs)

    def cancel_consumer(self, queue: str, destination: Any = None, **kwargs: Any) -> Any:
        """Make workers leave a queue."""
        return self._ordered("cancel_consumer", {"queue": queue}, destination, kwargs)

    def enable_events(self, destination: Any = None, **kwargs: Any) -> Any:
        return self._ordered("enable_events", {}, destination, kwargs)

    def disable_events(self, destination: Any = None, **kwargs: Any) -> Any:
        return self._ordered("disable_events", {}, destination, kwargs)

    def pool_grow(self, n: int = 1, destination: Any = None, **kwargs: Any) -> Any:
        return self._ordered("pool_grow", {"n": n}, destination, kwargs)

    def pool_shrink(self, n: int = 1, destination: Any = None, **kwargs: Any) -> Any:
        return self._ordered("pool_shrink", {"n": n}, destination, kwargs)

    def autoscale(self, max: int, min: int, destination: Any = None, **kwargs: Any) -> Any:
        """Workers have no autoscaler, and answer so."""
        return self._ordered("autoscale", {"max": max, "min": min}, destination, kwargs)

    def shutdown(self, destination: Any = None, **kwargs: Any) -> Any:
        return self._ordered("shutdown", {}, destination, kwargs)

    def pool_restart(
        self, modules: Any = None, reload: bool = False, reloader: Any = None, destination: Any = None, **kwargs: Any
    ) -> Any:
        """Replace all processes; the code is imported anew, whatever `modules` says."""
        return self._ordered("pool_restart", {}, destination, kwargs)

    def heartbeat(self, destination: Any = None, **kwargs: Any) -> Any:
        return self._ordered("heartbeat", {}, destination, kwargs)

    def election(self, id: str, topic: str, action: Any = None, connection: Any = None) -> Any:
        """Celery's experiment of electing a worker; not there."""
        raise NotSupportedError("control.election: workers elect nobody; a message goes to one worker anyway")

    def purge(self, connection: Any = None, queues: Any = None) -> int:  # type: ignore[override]
        """Delete all waiting messages; returns how many."""
        if isinstance(connection, (list, tuple)):
            queues = connection
        return super().purge(queues)

    discard_all = purge  # type: ignore[assignment]
