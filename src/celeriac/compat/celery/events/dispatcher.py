"""Sending events."""

from __future__ import annotations

import os
from typing import Any

from celeriac.compat.celery.utils.nodenames import anon_nodename
from celeriac.compat.celery.utils.time import utcoffset
from celeriac.errors import NotSupportedError

__all__ = ["EventDispatcher"]


class EventDispatcher:
    """Sends events of an application's own to whoever listens.

    Raises:
        NotSupportedError: The broker carries no events.
    """

    app: Any = None

    def __init__(
        self, connection: Any = None, hostname: Any = None, enabled: bool = True, channel: Any = None,
        buffer_while_offline: bool = True, app: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        if app is not None:
            self.app = app
        self.hostname = hostname or anon_nodename()
        self.enabled = enabled
        self._clock = 0

    def send(self, type: str, blind: bool = False, **fields: Any) -> None:
        """Send one event."""
        channel = self.app.event_channel
        if channel is None:
            raise NotSupportedError(f"event {type!r}: the broker {self.app.broker.url} carries no events; Redis does")
        if not self.enabled:
            return
        self._clock += 1
        event = {
            "hostname": self.hostname,
            "utcoffset": utcoffset(),
            "pid": os.getpid(),
            "clock": self._clock,
            "timestamp": self.app.clock.time(),
            **fields,
            "type": type,
        }
        channel.publish([event])

    publish = send

    def enable(self) -> None:
        self.enabled = True

    def disable(self) -> None:
        self.enabled = False

    def close(self) -> None:
        """The channel is the application's."""

    def __enter__(self) -> EventDispatcher:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
