"""Pointing an application that is defined elsewhere at memory, for the length of a test."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from celeriac.app.adapters import open_broker
from celeriac.app.once import once
from celeriac.app.settings import Conf
from celeriac.clock import ENTROPY
from celeriac.testing.messages import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celeriac.app.application import Celeriac
    from celeriac.clock import Clock

_OF_TASKS = ("call_defaults", "plan")
"""What a task works out from the settings."""


def memory_url() -> str:
    """A space in memory that nobody else uses."""
    return f"memory://test-{ENTROPY.getrandbits(64):016x}"


@contextlib.contextmanager
def in_memory(app: Celeriac, *, clock: Clock | None = None, **settings: Any) -> Iterator[Celeriac]:
    """Give an application an empty in-memory broker and result store, and back what it had afterwards.

    Tasks keep their identity, so code under test that imported them sends to memory too. Other settings stay as they
    are, results that are disabled too; `settings` go over them. Not for several threads at once.

        with in_memory(shop.app) as app:
            order("book")
            assert app.broker.depth()["celery"].ready == 1

    Args:
        app: Any application, used already or not.
        clock: A ManualClock, say; the application's own unless given.
        settings: By name, such as `task_always_eager=True`.

    Yields:
        The same application.
    """
    old = {"conf": app.conf, "clock": app.clock, **_taken(app)}
    plans = dict(app.plans)
    of_tasks = {task: _pop(task.__dict__, _OF_TASKS) for task in app.tasks.values()}
    app.plans.clear()
    try:
        app.conf = _with(app.conf, settings)
        app.clock = clock or app.clock
        app.__dict__["broker"] = Recorder(
            open_broker(app.broker_url, app.conf.freeze("a test uses it"), app.clock, app.codec)
        )
        yield app
    finally:
        app.close()
        _taken(app)
        for task in app.tasks.values():
            _pop(task.__dict__, _OF_TASKS)
            task.__dict__.update(of_tasks.get(task, {}))
        app.plans.clear()
        app.plans.update(plans)
        app.__dict__.update(old)


def _with(conf: Conf, settings: dict[str, Any]) -> Conf:
    now = conf.settings
    values = {name: getattr(now, name) for name in now.sources}
    url = memory_url()
    values["broker_url"] = url
    if not _is_disabled(values.get("result_backend")):
        values["result_backend"] = url
    return Conf(**{**values, **settings})


def _is_disabled(backend: Any) -> bool:
    return isinstance(backend, str) and backend.partition(":")[0] == "disabled"


def _taken(app: Celeriac) -> dict[str, Any]:
    """Take away what the application made from its settings: it will be made anew."""
    return _pop(
        app.__dict__,
        [name for kind in type(app).__mro__ for name, made in vars(kind).items() if isinstance(made, once)],
    )


def _pop(values: dict[str, Any], names: Any) -> dict[str, Any]:
    return {name: values.pop(name) for name in names if name in values}
