"""Applications, the current one, and tasks that belong to all of them."""

from __future__ import annotations

from typing import Any

from celeriac.compat.celery import _state
from celeriac.compat.celery._state import (
    app_or_default,
    disable_trace,
    enable_trace,
    pop_current_app,
    push_current_app,
)
from celeriac.compat.celery.app.base import Celery
from celeriac.compat.celery.local import Proxy

__all__ = [
    "Celery",
    "app_or_default",
    "bugreport",
    "default_app",
    "disable_trace",
    "enable_trace",
    "pop_current_app",
    "push_current_app",
    "shared_task",
]

default_app: Any = Proxy(lambda: _state.default_app)


def bugreport(app: Any = None) -> str:
    """Versions and settings, as text."""
    text: str = app_or_default(app).bugreport()
    return text


def shared_task(*args: Any, **kwargs: Any) -> Any:
    """A task of every application, those made later too; calling it means the current application's."""

    def create(**options: Any) -> Any:
        def share(function: Any) -> Any:
            name = options.get("name")

            def register(app: Any) -> Any:
                return app._task_from_fun(function, **dict(options))

            _state.connect_on_app_finalize(register)
            for app in _state._get_active_apps():
                if app.finalized:
                    register(app)

            def find() -> Any:
                app = _state.get_current_app()
                return app.tasks[name or app.gen_task_name(function.__name__, function.__module__)]

            return Proxy(find, __doc__=function.__doc__)

        return share

    if len(args) == 1 and callable(args[0]):
        return create(**kwargs)(args[0])
    if args:
        raise TypeError("@shared_task takes options by name, or the function alone")
    return create(**kwargs)
