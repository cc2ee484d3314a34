"""Queues and routes: `app.amqp`."""

from __future__ import annotations

from typing import Any

from celeriac.errors import NotSupportedError

__all__ = ["AMQP", "Queues"]


class Queues(dict[str, Any]):
    """The queues of an application by name."""

    def __init__(self, app: Any) -> None:
        self._app = app
        super().__init__(app.router.queues)
        self._consume_from: dict[str, Any] = {name: self[name] for name in app.router.select()}

    @property
    def consume_from(self) -> dict[str, Any]:
        """Those that a worker serves."""
        return self._consume_from

    def __missing__(self, name: str) -> Any:
        queue = self[name] = self._app.router.queue(name)
        return queue

    def add(self, queue: Any, **kwargs: Any) -> Any:
        """Add a queue to `task_queues`; of a name, the options say what it is."""
        from celeriac.app.queues import as_queue, queue_from_options

        made = queue_from_options(queue, kwargs) if isinstance(queue, str) else as_queue(queue)
        self._app.conf.task_queues = [*(self._app.conf.task_queues or self._consume_from.values()), made]
        self[made.name] = self._consume_from[made.name] = made
        return made

    add_compat = select_add = add

    def select(self, include: Any) -> None:
        """Serve these only."""
        if include:
            names = [include] if isinstance(include, str) else list(include)
            self._app.conf.task_queues = [self[name] for name in names]
            self._consume_from = {name: self[name] for name in names}

    def deselect(self, exclude: Any) -> None:
        """Do not serve these."""
        names = [exclude] if isinstance(exclude, str) else list(exclude or ())
        self.select([name for name in self._consume_from if name not in names])


class _Router:
    """`app.amqp.router`."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def route(self, options: Any, name: str, args: Any = (), kwargs: Any = None, task_type: Any = None) -> Any:
        """Options and route together; `queue` is a Queue."""
        found = dict(self._app.router.route(options or {}, name, args, kwargs, task_type))
        found["queue"] = self._app.router.queue(found["queue"])
        found.pop("address", None)
        return found


class AMQP:
    """Queues and routes of one application."""

    Queues = Queues

    def __init__(self, app: Any) -> None:
        self.app = app
        self._queues: Any = None

    @property
    def queues(self) -> Any:
        """By name."""
        if self._queues is None:
            self._queues = Queues(self.app)
        return self._queues

    @property
    def router(self) -> _Router:
        """Finds the queue of a task."""
        return _Router(self.app)

    @property
    def default_queue(self) -> Any:
        return self.app.router.queue(self.app.conf.task_default_queue)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotSupportedError(
            f"app.amqp.{name}: celeriac builds and publishes messages itself; there are `queues`, `router` and "
            "`default_queue` here, and the signal before_task_publish sees each message"
        )
