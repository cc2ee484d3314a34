"""The processes of a campaign: each is told what to do, says what came of it, and can be ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

_GOES_S = 20.0
"""What was told to end has so long before it is ended."""
_NEXT_S = 300.0
"""Between two words, unless the first of them says when the next is due."""


class BrokenOffError(Exception):
    """A process died, or took so long that it was ended; the message says which."""


class Main(Protocol):
    """The main function of a process, in a module that it can import."""

    def __call__(self, name: str, order: Any, pipe: Connection, /) -> None: ...


class Crew:
    """Starts processes from any thread. `stop` ends them, and lets no more be started."""

    def __init__(self) -> None:
        self._running: set[BaseProcess] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()

    @property
    def is_stopped(self) -> bool:
        return self._over.is_set()

    def stop(self) -> None:
        """SIGINT to all that run."""
        self._over.set()
        with self._lock:
            for process in self._running:
                with suppress(ProcessLookupError):
                    if process.pid is not None:
                        os.kill(process.pid, signal.SIGINT)

    def words(self, name: str, main: Main, order: Any, due_s: float = _NEXT_S) -> Iterator[Any]:
        """Start a process, and give what it sends until it ends.

        Args:
            name: Of the process, for its main function and for messages.
            main: Runs there, with name, order and the pipe to send to.
            order: Goes there by pickle.
            due_s: For the first word. A word may have a `due_s` of its own, for the one after it.

        Raises:
            BrokenOffError: It died, or was ended because it said nothing for so long.
        """
        spawn = get_context("spawn")  # to fork a process that has threads and proxies would be a gamble
        ours, theirs = spawn.Pipe(duplex=False)
        process = spawn.Process(target=_begin, args=(main, name, order, theirs), name=f"chaos-{name}")
        with self._lock:
            if self.is_stopped:
                return
            process.start()
            self._running.add(process)
        theirs.close()
        try:
            while True:
                due = time.monotonic() + due_s
                while not ours.poll(0.5):
                    if self.is_stopped:
                        due = min(due, time.monotonic() + _GOES_S)
                    if time.monotonic() > due:
                        raise BrokenOffError(f"{name} was ended: it said nothing for {due_s:.0f} s")
                try:
                    word = ours.recv()
                except EOFError:
                    break
                due_s = getattr(word, "due_s", _NEXT_S)
                yield word
            process.join(_GOES_S)
            if process.exitcode and not self.is_stopped:
                raise BrokenOffError(f"{name} ended with exit code {process.exitcode}")
        finally:
            with self._lock:
                self._running.discard(process)
            if process.is_alive():
                process.kill()  # what it started is ended by its keeper
            process.join()
            ours.close()


def _begin(main: Callable[[str, Any, Connection], None], name: str, order: Any, pipe: Connection) -> None:
    os.setpgid(0, 0)  # Ctrl-C at the terminal is for the campaign alone, which tells us
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main(name, order, pipe)
    except KeyboardInterrupt:
        pass  # what was begun is closed by now
    finally:
        pipe.close()
