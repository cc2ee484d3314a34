"""The process that imports the application once and forks the ones that run tasks.

Children share the imported code's memory and start in milliseconds. It is single-threaded, so a fork copies no lock in
a state that nobody will ever leave; it runs no task, so it does not crash; and it keeps the supervisor free of user
code. (multiprocessing has a fork server too, which cannot be told what to import, hand its result back, or report the
end of a child.)

The first one of a worker is forked from the supervisor, with which it shares the memory of this package; those of a
restart are fresh interpreters, run as `python -m celeriac.worker.forkserver <descriptor>`.
"""

from __future__ import annotations

import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

from celeriac.worker import exits
from celeriac.worker.failure import LoadError
from celeriac.worker.memory import share_arenas
from celeriac.worker.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeriac.worker.runtime import Loaded
    from celeriac.worker.slots import SlotMap


def resolve(target: str) -> Callable[..., Any]:
    """The object that `package.module:name` names."""
    module, _, name = target.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def ignore(signum: int, frame: object) -> None:
    """A handler that does nothing. Unlike SIG_IGN it is not inherited by programs that a task starts."""


class ForkServer:
    """Serves fork requests until the supervisor says stop or is gone."""

    def __init__(self, sock: socket.socket) -> None:
        self._wire = Wire(sock)
        self._children: dict[int, int] = {}
        self._map: SlotMap | None = None
        self._is_stopping = False

    def run(self) -> int:
        """Import, report, serve; the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
            signal.signal(number, ignore)
        request: list[Any] = []
        while not request:
            request = self._wire.receive()
            if self._wire.is_closed:
                return exits.OK
        order = request[0]
        sys.path[:] = order["path"]
        try:
            loaded: Loaded = resolve(order["target"])(**order["arguments"])
            manifest = loaded.manifest
            from celeriac.worker import process  # imported here once, for all children
            from celeriac.worker.logging import configure

            if manifest.options.threads > 1:
                share_arenas()
            if manifest.options.log_setup:
                configure(manifest.options)
                loaded.on_logging()
        except BaseException as exc:
            error = LoadError.of(exc)
            self._send({"what": "error", "reason": str(error), "trace": error.trace})
            return exits.CONFIG
        self._send({"what": "ready", "manifest": manifest})
        gc.collect()
        gc.freeze()  # what is shared now is not touched by a child's collector, so its pages stay shared
        # A thread of the application's that was started at import is its own risk, and not worth a warning per child.
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
        return self._serve(loaded, process.run_child)

    def _serve(self, loaded: Loaded, run_child: Callable[..., int]) -> int:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, ignore)
        with selectors.DefaultSelector() as selector:
            selector.register(self._wire.sock, selectors.EVENT_READ)
            selector.register(reader, selectors.EVENT_READ)
            while not (self._is_stopping and not self._children):
                for key, _ in selector.select():
                    if key.fileobj == reader:
                        os.read(reader, 4096)
                        continue
                    for message in self._wire.receive():
                        if message["what"] == "fork":
                            self._fork(message, loaded, run_child, (reader, writer), selector)
                        elif message["what"] == "map":
                            from celeriac.worker.slots import SlotMap

                            sizes = {name: message[name] for name in ("slots", "entries", "cells")}
                            self._map = SlotMap(self._wire.fds.pop(0), **sizes)
                        elif message["what"] == "stop":
                            self._is_stopping = True
                    if self._wire.is_closed:
                        return exits.OK  # the supervisor is gone; the children notice it themselves
                self._reap()
        return exits.OK

    def _fork(
        self,
        message: dict[str, Any],
        loaded: Loaded,
        run_child: Callable[..., int],
        pipe: tuple[int, int],
        selector: selectors.BaseSelector,
    ) -> None:
        channel = self._wire.fds.pop(0)
        assert self._map is not None
        try:
            pid = os.fork()
        except OSError as exc:
            os.close(channel)
            self._send({"what": "unforked", "slot": message["slot"], "message": str(exc)})
            return
        if pid:
            os.close(channel)
            self._children[pid] = message["slot"]
            self._send({"what": "forked", "slot": message["slot"], "pid": pid})
            return
        code = exits.FAILED
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            selector.close()
            self._wire.close()
            os.close(pipe[0])
            os.close(pipe[1])
            code = run_child(loaded, self._map, message, socket.socket(fileno=channel))
        except BaseException:
            traceback.print_exc()
        finally:
            leave(code)

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            slot = self._children.pop(pid, None)
            if slot is not None:
                self._send({"what": "died", "slot": slot, "pid": pid, "status": os.waitstatus_to_exitcode(status)})

    def _send(self, message: Any) -> None:
        try:
            self._wire.send(message)
        except OSError:
            self._wire.is_closed = True


def leave(code: int) -> NoReturn:
    """End this process without the clean-up that belongs to the one it was forked from."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # closed by a task
    os._exit(code)


def serve(sock: socket.socket) -> NoReturn:
    """Be a fork server on this socket, and end the process with it."""
    code = exits.FAILED
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)  # the terminal's input is the supervisor's
        os.close(nothing)
        code = ForkServer(sock).run()
    except BaseException:
        traceback.print_exc()
    finally:
        leave(code)


def main() -> None:
    sock = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(sock.fileno(), False)
    serve(sock)


if __name__ == "__main__":
    main()
