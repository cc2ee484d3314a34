"""Which application is the current one, and what is to be done to each application when it is finalised."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from celeriac.compat.celery.local import Proxy
from celeriac.engine.attempt import current_attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celeriac.compat.celery.app.base import Celery

__all__ = [
    "connect_on_app_finalize",
    "current_app",
    "current_task",
    "get_current_app",
    "get_current_task",
    "get_current_worker_task",
    "set_default_app",
]


class _Local(threading.local):
    app: Celery | None = None


_tls = _Local()
_lock = threading.RLock()
_apps: weakref.WeakSet[Celery] = weakref.WeakSet()
_on_finalize: list[Callable[[Celery], Any]] = []
_latest: Celery | None = None
default_app: Celery | None = None
task_join_will_block = False


def set_default_app(app: Celery | None) -> None:
    """Make `app` the one for threads that have none of their own."""
    global default_app
    default_app = app


def get_current_app() -> Celery:
    """The application that was made last in this thread, else in this process, else the default one.

    Celery gives threads other than the first an unconfigured default application unless `set_default` was called. Here
    they get the last one that was made.
    """
    global default_app
    found = _tls.app or default_app or _latest
    if found is None:
        with _lock:
            if default_app is None:
                from celeriac.compat.celery.app.base import Celery

                loader = os.environ.get("CELERY_LOADER") or "default"
                default_app = Celery("default", set_as_current=False, loader=loader, fixups=[])
            found = default_app
    return found


def _set_current_app(app: Celery | None) -> None:
    global _latest
    _tls.app = app
    _latest = app


def push_current_app(app: Celery | None) -> tuple[Any, ...]:
    """Make `app` the current one of this process; returns what `pop_current_app` takes."""
    before = (_tls.app, _latest, default_app)
    _set_current_app(app)
    return before


def pop_current_app(before: tuple[Any, ...]) -> None:
    """Put back what was current before."""
    global _latest, default_app
    _tls.app, _latest, default_app = before


def get_current_task() -> Any:
    """The task that runs in this thread or coroutine; None outside one."""
    attempt = current_attempt.get()
    return None if attempt is None else attempt.plan.task


get_current_worker_task = get_current_task

current_app: Any = Proxy(get_current_app)
current_task: Any = Proxy(get_current_task)


def connect_on_app_finalize(callback: Callable[[Celery], Any]) -> Callable[[Celery], Any]:
    """Have `callback(app)` called when any application, made later too, is finalised."""
    _on_finalize.append(callback)
    return callback


def _announce_app_finalized(app: Celery) -> None:
    for callback in tuple(_on_finalize):
        callback(app)


def _register_app(app: Celery) -> None:
    _apps.add(app)


def _deregister_app(app: Celery) -> None:
    _apps.discard(app)


def _get_active_apps() -> Iterator[Celery]:
    return iter(list(_apps))


def _task_join_will_block() -> bool:
    return task_join_will_block


def _set_task_join_will_block(blocks: bool) -> None:
    global task_join_will_block
    task_join_will_block = blocks


def enable_trace() -> None:
    """Accepted for Celery's sake: nothing is traced."""


disable_trace = enable_trace


def app_or_default(app: Celery | None = None) -> Celery:
    """The application given, else the current one."""
    return get_current_app() if app is None else app
