"""Events: `app.events`."""

from __future__ import annotations

from typing import Any

__all__ = ["Events"]


class Events:
    """Receivers and senders of events, of one application."""

    def __init__(self, app: Any = None) -> None:
        self.app = app

    @property
    def Receiver(self) -> Any:
        """Listens: `Receiver(connection, handlers={…}).capture()`."""
        from celeriac.compat.celery.events.receiver import EventReceiver

        return self.app.subclass_with_self(EventReceiver)

    @property
    def Dispatcher(self) -> Any:
        """Sends: `Dispatcher(connection).send("my-event", …)`."""
        from celeriac.compat.celery.events.dispatcher import EventDispatcher

        return self.app.subclass_with_self(EventDispatcher)

    @property
    def State(self) -> Any:
        """What a cluster looks like by its events."""
        from celeriac.compat.celery.events.state import State

        return State

    def default_dispatcher(self, hostname: Any = None, enabled: bool = True, buffer_while_offline: bool = False) -> Any:
        """A context manager that gives a sender."""
        return self.Dispatcher(hostname=hostname)
