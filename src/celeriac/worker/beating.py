"""A worker's own beat: a process beside the pool's, or a thread of `-P solo`. Any number of workers may have one.

It is user code that says what is due, so the supervisor does not run it, and it is in nobody's way there: a task that
blocks its process does not make a schedule late.
"""

from __future__ import annotations

import faulthandler
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

from celeriac.worker import exits
from celeriac.worker.backoff import Backoff
from celeriac.worker.forkserver import ignore, leave
from celeriac.worker.logging import stream_fd
from celeriac.worker.wire import Wire

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from celeriac.worker.runtime import Beating

_log = logging.getLogger("celeriac.worker")

LEAVE_S: Final = 5.0
"""What a beat may take to leave."""


class BeatProcess:
    """Runs a beat in the main thread until the supervisor says stop, or is gone."""

    def __init__(self, make: Callable[[], Beating], channel: socket.socket) -> None:
        self._make = make
        self._wire = Wire(channel)
        self._beat: Beating | None = None
        self._lock = threading.Lock()
        self._is_told = False
        self._ended = threading.Event()

    def run(self) -> int:
        """Work until told to stop; the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, ignore)  # a terminal and a service manager send them to the whole group
        if (dump := getattr(signal, "SIGUSR2", None)) is not None:
            faulthandler.register(dump, file=stream_fd(), all_threads=True)
        threading.Thread(target=self._listen, name="celeriac-beat-orders", daemon=True).start()
        try:
            beat = self._make()
            with self._lock:
                self._beat = beat
                is_told = self._is_told
            if not is_told:
                self._tell({"what": "ready", "name": beat.name})
                beat.run()
        except Exception:
            _log.exception("the beat failed")
            return exits.FAILED
        finally:
            self._ended.set()
        return exits.OK

    def _listen(self) -> None:
        while not self._wire.is_closed:
            if any(message["what"] == "stop" for message in self._wire.receive()):
                break
        else:
            _log.error("the supervisor is gone; its beat leaves")
        with self._lock:
            self._is_told = True
            beat = self._beat
        if beat is not None:
            beat.stop()
        if not self._ended.wait(LEAVE_S):
            leave(exits.FORCED)  # it waits for a store, or for code of the application's

    def _tell(self, message: Any) -> None:
        try:
            self._wire.send(message)
        except OSError:
            pass  # the supervisor is gone, which `_listen` notices


class BeatThread:
    """Runs a beat in a thread of this process, and a new one when it fails."""

    def __init__(self, make: Callable[[], Beating]) -> None:
        self._make = make
        self._beat: Beating | None = None
        self._lock = threading.Lock()
        self._told = threading.Event()
        self._thread = threading.Thread(target=self._run, name="celeriac-beat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Tell it to stop. Safe to call twice; not from a signal handler, which may interrupt who holds the lock."""
        self._told.set()
        with self._lock:
            if self._beat is not None:
                self._beat.stop()

    def join(self) -> None:
        """Wait until it has stopped, within reason."""
        self._thread.join(LEAVE_S)

    def _run(self) -> None:
        backoff = Backoff()
        while not self._told.is_set():
            try:
                beat = self._make()
                with self._lock:
                    self._beat = beat
                if not self._told.is_set():
                    beat.run()
            except Exception:
                delay_s = backoff.next()
                _log.exception("the beat failed; another one begins in %.1f s", delay_s)
                self._told.wait(delay_s)
