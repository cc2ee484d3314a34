"""What a cluster looks like by its events."""

from __future__ import annotations

from typing import Any

from celeriac.clock import SYSTEM_CLOCK
from celeriac.compat.celery import states

__all__ = ["State", "Task", "Worker"]

_STATES = {
    "task-sent": states.PENDING,
    "task-received": states.RECEIVED,
    "task-started": states.STARTED,
    "task-succeeded": states.SUCCESS,
    "task-failed": states.FAILURE,
    "task-retried": states.RETRY,
    "task-revoked": states.REVOKED,
    "task-rejected": states.REJECTED,
}
_GRACE_S = 120.0


class Worker:
    """A worker, by its heartbeats."""

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname
        self.pid: Any = None
        self.freq = 60
        self.heartbeats: list[float] = []
        self.clock = 0
        self.active = self.processed = None
        self.loadavg: Any = None
        self.sw_ident = self.sw_ver = self.sw_sys = None

    def event(self, type_: str, timestamp: Any = None, local_received: Any = None, fields: Any = None) -> None:
        for key, value in (fields or {}).items():
            setattr(self, key, value)
        if type_ == "offline":
            self.heartbeats.clear()
        elif timestamp:
            self.heartbeats = [*self.heartbeats[-3:], timestamp]

    @property
    def alive(self) -> bool:
        return bool(self.heartbeats) and SYSTEM_CLOCK.time() - self.heartbeats[-1] < _GRACE_S

    @property
    def status_string(self) -> str:
        return "ONLINE" if self.alive else "OFFLINE"

    @property
    def id(self) -> str:
        return f"{self.hostname}.{self.pid}"

    def __repr__(self) -> str:
        return f"<Worker: {self.hostname} ({self.status_string})>"


class Task:
    """A task, by its events."""

    name: Any = None
    worker: Any = None
    timestamp: Any = None
    received = sent = started = succeeded = failed = retried = revoked = rejected = None
    args = kwargs = eta = expires = retries = result = exception = runtime = traceback = None
    exchange = routing_key = root_id = parent_id = client = None
    clock = 0
    state = states.PENDING

    def __init__(self, uuid: str | None = None, **kwargs: Any) -> None:
        self.uuid = self.id = uuid
        vars(self).update(kwargs)

    @property
    def ready(self) -> bool:
        return self.state in states.READY_STATES

    def event(self, type_: str, timestamp: Any, fields: Any) -> None:
        state = _STATES.get(f"task-{type_}", type_.upper())
        vars(self).update({key: value for key, value in fields.items() if key != "state"})
        if not (state in states.UNREADY_STATES and self.ready):
            self.state = state
        setattr(self, type_, timestamp)
        self.timestamp = timestamp

    def info(self, fields: Any = None, extra: Any = None) -> dict[str, Any]:
        names = fields or ("args", "kwargs", "retries", "result", "eta", "runtime", "expires", "exception")
        return {name: getattr(self, name) for name in (*names, *(extra or ())) if getattr(self, name, None) is not None}

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "state": self.state}

    def __repr__(self) -> str:
        return f"<Task: {self.name}({self.uuid}) {self.state} clock:{self.clock}>"


class State:
    """Workers and tasks, as their events tell."""

    Worker = Worker
    Task = Task

    def __init__(
        self, callback: Any = None, max_workers_in_memory: int = 5000, max_tasks_in_memory: int = 10000, **kw: Any
    ) -> None:
        self.workers: dict[str, Worker] = {}
        self.tasks: dict[str, Task] = {}
        self.event_callback = callback
        self.max_tasks_in_memory = max_tasks_in_memory
        self.event_count = self.task_count = 0

    def event(self, event: Any) -> Any:
        """Take an event in."""
        kind, _, what = event["type"].partition("-")
        self.event_count += 1
        fields = {key: value for key, value in event.items() if key not in ("type", "uuid")}
        host = event.get("hostname")
        found: Any = None
        if kind == "worker":
            found = self.workers.setdefault(host, Worker(host))
            found.event(what, event.get("timestamp"), None, fields)
        elif kind == "task":
            uuid = event["uuid"]
            if uuid not in self.tasks:
                self.task_count += 1
                while len(self.tasks) >= self.max_tasks_in_memory:
                    self.tasks.pop(next(iter(self.tasks)))
                self.tasks[uuid] = Task(uuid)
            found = self.tasks[uuid]
            if what != "sent":
                fields["worker"] = self.workers.setdefault(host, Worker(host))
            found.event(what, event.get("timestamp"), fields)
        if self.event_callback is not None:
            self.event_callback(self, event)
        return found, kind

    def alive_workers(self) -> list[Any]:
        return [worker for worker in self.workers.values() if worker.alive]

    def task_types(self) -> list[str]:
        return sorted({task.name for task in self.tasks.values() if task.name})

    def tasks_by_time(self, limit: int | None = None, reverse: bool = True) -> list[tuple[str, Any]]:
        found = sorted(self.tasks.items(), key=lambda one: one[1].timestamp or 0, reverse=reverse)
        return found[:limit]

    tasks_by_timestamp = tasks_by_time

    def tasks_by_type(self, name: str, limit: int | None = None, reverse: bool = True) -> list[tuple[str, Any]]:
        return [one for one in self.tasks_by_time(reverse=reverse) if one[1].name == name][:limit]

    def tasks_by_worker(self, hostname: str, limit: int | None = None, reverse: bool = True) -> list[Any]:
        return [
            one
            for one in self.tasks_by_time(reverse=reverse)
            if one[1].worker is not None and one[1].worker.hostname == hostname
        ][:limit]

    def clear(self, ready: bool = True) -> None:
        self.workers.clear()
        self.tasks.clear()

    def __repr__(self) -> str:
        return f"<State: events={self.event_count} tasks={self.task_count}>"
