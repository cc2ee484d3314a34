"""The process that calls receivers of what happens to the worker as a whole: `worker_ready` and its like.

They are the user's code and the supervisor runs none, so it tells this process, which calls them one after another in
its main thread, where they may start threads (a health server, say). There is one only where a receiver was connected
when the application was loaded; it lives as long as the worker, with the code of its start.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, Final

from celeriac.engine import signals
from celeriac.worker import exits
from celeriac.worker.forkserver import ignore
from celeriac.worker.wire import Wire

if TYPE_CHECKING:
    import socket

HEARD: Final = ("worker_ready", "worker_shutting_down", "worker_shutdown", "heartbeat_sent")
"""The signals that are sent here."""


def with_receivers() -> tuple[str, ...]:
    """Those of them that somebody in this process listens to."""
    return tuple(name for name in HEARD if getattr(signals, name))


class Listener:
    """Calls receivers until told to stop, or until the supervisor is gone."""

    def __init__(self, node: str, channel: socket.socket) -> None:
        self._node = node
        self._wire = Wire(channel)

    def run(self) -> int:
        """Serve in this thread; the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, ignore)  # a terminal and a service manager send them to the whole group
        while not self._wire.is_closed:
            for message in self._wire.receive():
                if message["what"] == "stop":
                    return exits.OK
                self._call(message["signal"], message["arguments"])
        return exits.OK

    def _call(self, name: str, arguments: dict[str, Any]) -> None:
        getattr(signals, name).send(self._node, **arguments)
        try:
            self._wire.send({"what": "heard"})
        except OSError:
            self._wire.is_closed = True
