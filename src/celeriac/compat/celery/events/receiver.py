"""Receiving events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeriac.errors import NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["EventReceiver"]


class EventReceiver:
    """Calls `handlers[type]` (or `handlers["*"]`) with each event that comes."""

    app: Any = None

    def __init__(
        self, channel: Any = None, handlers: Mapping[str, Any] | None = None, routing_key: str = "#",
        node_id: Any = None, app: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        if app is not None:
            self.app = app
        self.handlers = dict(handlers or {})
        self.should_stop = False
        events = self.app.event_channel
        if events is None:
            raise NotSupportedError(f"the broker {self.app.broker.url} carries no events; Redis does")
        self._receiver = events.listen()

    def process(self, type: str, event: Any) -> None:
        """Hand an event to its handler."""
        handler = self.handlers.get(type) or self.handlers.get("*")
        if handler is not None:
            handler(event)

    def capture(self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True) -> None:
        """Hand out events for ever, or until `limit` have come, or none for `timeout` seconds.

        Raises:
            TimeoutError: None came in time.
        """
        for _ in self.itercapture(limit, timeout, wakeup):
            pass

    def itercapture(self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True) -> Iterator[Any]:
        """The same, giving each event."""
        if wakeup:
            self.wakeup_workers()
        count = 0
        try:
            while not self.should_stop:
                events = self._receiver.receive(timeout_s=1.0 if timeout is None else timeout)
                if not events and timeout is not None:
                    raise TimeoutError(f"no event within {timeout:g} s")
                for event in events:
                    self.process(event["type"], dict(event))
                    yield event
                    count += 1
                    if limit is not None and count >= limit:
                        return
        finally:
            self._receiver.close()

    def wakeup_workers(self, channel: Any = None) -> None:
        """Make workers show that they live."""
        self.app.control.broadcast("heartbeat")
