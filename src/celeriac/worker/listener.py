"""The process that calls receivers of what happens to the worker as a whole: `worker_ready` and its like.

They are the user's code and the supervisor runs none, so it tells this process, which calls them one after another in
its main thread, where they may start threads (a health server, say). It also runs the application's own remote-control
commands, which so find between two calls what they left. There is one only where a receiver or a command was there
when the application was loaded; it lives as long as the worker, with the code of its start.
"""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.engine import signals
from celeriac.worker import exits
from celeriac.worker.forkserver import ignore
from celeriac.worker.wire import Wire

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

_log = logging.getLogger("celeriac.worker")

HEARD: Final = ("worker_ready", "worker_shutting_down", "worker_shutdown", "heartbeat_sent")
"""The signals that are sent here."""


def with_receivers() -> tuple[str, ...]:
    """Those of them that somebody in this process listens to."""
    return tuple(name for name in HEARD if getattr(signals, name))


class Listener:
    """Calls receivers until told to stop, or until the supervisor is gone."""

    def __init__(self, node: str, channel: socket.socket, commands: Mapping[str, Callable[..., Any]]) -> None:
        self._node = node
        self._commands = commands
        self._wire = Wire(channel)

    def run(self) -> int:
        """Serve in this thread; the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, ignore)  # a terminal and a service manager send them to the whole group
        while not self._wire.is_closed:
            for message in self._wire.receive():
                if message["what"] == "stop":
                    return exits.OK
                if message["what"] == "command":
                    reply = self._reply(message["name"], message["arguments"])
                    self._tell({"what": "answer", "ticket": message["ticket"], "reply": reply})
                else:
                    getattr(signals, message["signal"]).send(self._node, **message["arguments"])
                    self._tell({"what": "heard"})
        return exits.OK

    def _reply(self, name: str, arguments: dict[str, Any]) -> Any:
        try:
            return msgspec.to_builtins(self._commands[name](self._node, **arguments), enc_hook=repr, str_keys=True)
        except Exception as exc:
            _log.exception("remote command %s%r failed", name, arguments)
            return {"error": repr(exc)}

    def _tell(self, message: Any) -> None:
        try:
            self._wire.send(message)
        except OSError:
            self._wire.is_closed = True
