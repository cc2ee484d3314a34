"""The supervisor's side of the fork server and of each process."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.clock import SYSTEM_CLOCK
from celeriac.worker.failure import LoadError
from celeriac.worker.forkserver import serve
from celeriac.worker.runtime import Loader, Manifest, Orders
from celeriac.worker.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celeriac.engine.casualties import Cause
    from celeriac.model import Delivery
    from celeriac.worker.slots import Slot, SlotMap

_log = logging.getLogger("celeriac.worker")

_tickets = itertools.count(1)


class Child:
    """One pool process as the supervisor knows it."""

    def __init__(
        self, slot: Slot, index: int, channel: socket.socket, on_message: Callable[[Child, Any], None]
    ) -> None:
        self.slot = slot
        self.index = index
        self.pid = 0
        self.is_ready = False
        self.is_leaving = False
        """It was told to stop, or has said that it will: its end is no crash by itself."""
        self.is_unwanted = False
        """No successor when it ends."""
        self.has_successor = False
        self.culprits: dict[str, Cause] = {}
        """Why we killed it: what to judge of the ids it was running."""
        self.was_killed = False
        """By us."""
        self.is_broken = False
        """Killed because it had stopped working, which is charged to what it ran like a crash."""
        self.terminated: set[int] = set()
        """Epochs of tasks whose termination has begun."""
        self.condemned: set[int] = set()
        """Epochs of tasks of which it is being noted that we kill them."""
        self.noted: set[str] = set()
        """Ids whose end by our hand has been noted with the broker."""
        self.unheld: dict[str, Delivery] = {}
        """Messages of running tasks that it has taken out of their queues for good: only it and we have them."""
        self.suspect_since: float | None = None
        self.blocked_by = 0
        """The epoch of the task of which it was said that nothing else of the process gets a turn."""
        self.totals: dict[str, int] = {}
        self.ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        """Its wait status: the exit code, or the negated signal; None when nobody could tell."""
        self._wire = Wire(channel)
        self._on_message = on_message
        self._answers: dict[int, asyncio.Future[Any]] = {}
        channel.setblocking(False)
        asyncio.get_running_loop().add_reader(channel, self._hear)

    def __repr__(self) -> str:
        return f"<process {self.pid} in slot {self.index}>"

    def stop(self, grace_s: float) -> None:
        """Tell it to finish what runs within `grace_s` and leave."""
        self.is_leaving = True
        self.send({"what": "stop", "grace_s": grace_s})

    def kill(self, **culprits: Cause) -> None:
        """End it at once. `culprits`: see the attribute."""
        self.was_killed = True
        self.culprits.update(culprits)
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send it a signal; nothing when it has ended, or its pid is not known yet."""
        if self.pid and not self.ended.done():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass  # its end is about to be reported

    async def ask(self, timeout_s: float, what: str = "tasks", **more: Any) -> dict[str, Any] | None:
        """What it runs and holds, or its answer to another question; None when it does not answer in time."""
        ticket = next(_tickets)
        answer = self._answers[ticket] = asyncio.get_running_loop().create_future()
        self.send({"what": what, "ticket": ticket, **more})
        try:
            async with asyncio.timeout(timeout_s):
                return await answer  # type: ignore[no-any-return]
        except TimeoutError:
            return None
        finally:
            del self._answers[ticket]

    def end(self, status: int | None) -> None:
        """It has ended. May be called twice."""
        if not self.ended.done():
            self._hear()
            while not self._wire.is_closed and self._wire.is_waiting():
                self._hear()  # its last words may be long
            asyncio.get_running_loop().remove_reader(self._wire.sock)
            self._wire.close()
            self.ended.set_result(status)

    def send(self, message: Any) -> None:
        """Tell it something; nothing when it has ended."""
        if not self.ended.done():
            try:
                self._wire.send(message)
            except OSError:
                pass  # its end is about to be reported

    def _hear(self) -> None:
        for message in self._wire.receive():
            if message["what"] == "answer":
                self.totals = message.get("totals", self.totals)
                waiter = self._answers.get(message["ticket"])
                if waiter is not None and not waiter.done():
                    waiter.set_result(message)
            else:
                if message["what"] == "bye":
                    self.totals = message["totals"]
                self._on_message(self, message)
        if self._wire.is_closed:
            asyncio.get_running_loop().remove_reader(self._wire.sock)

    @property
    def is_hung_up(self) -> bool:
        """Whether its end of the channel is closed."""
        return self._wire.is_closed


class Server:
    """The process of a fork server, and our end of the line to it."""

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self.sock = sock

    @classmethod
    def fork(cls) -> Server | None:
        """Fork one from this process, which must not have imported the application; None where that is not safe.

        It shares what this process has imported so far, which is most of what it needs: with two pool processes that
        is a third of a worker's memory. Only while this process has one thread and no event loop.
        """
        if not hasattr(os, "fork") or threading.active_count() > 1:
            return None
        gc.collect()
        gc.freeze()  # or the collectors of both would write to, and so copy, every page they share
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            serve(theirs)
        theirs.close()
        return cls(pid, ours)

    @classmethod
    def spawn(cls) -> Server:
        """Start one as a fresh interpreter."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "celeriac.worker.forkserver", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        process.returncode = 0  # it is waited for here; else Popen would warn that it still runs
        return cls(process.pid, ours)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; whether it has ended. Blocks."""
        deadline = SYSTEM_CLOCK.monotonic() + timeout_s
        while True:
            try:
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    return True
            except ChildProcessError:
                return True
            if SYSTEM_CLOCK.monotonic() >= deadline:
                return False
            SYSTEM_CLOCK.pause(0.01)

    def kill(self) -> None:
        """End it at once, and wait for that."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.wait(5.0)


class Nursery:
    """A fork server and the children it has made."""

    def __init__(self, loader: Loader, server: Server | None = None) -> None:
        """Wire it; `server` is one that runs already, else `start` starts one."""
        self._loader = loader
        self._server = server
        self._wire: Wire | None = None
        self._manifest: asyncio.Future[Manifest] = asyncio.get_running_loop().create_future()
        self._children: dict[int, Child] = {}
        self._forking: dict[int, Child] = {}
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the fork server has ended without being told to."""
        self._is_stopping = False

    @property
    def pid(self) -> int:
        return 0 if self._server is None else self._server.pid

    async def start(self) -> Manifest:
        """Start it and wait until the application is imported.

        Raises:
            LoadError: The import failed.
        """
        if self._server is None:
            self._server = Server.spawn()
        ours = self._server.sock
        self._wire = Wire(ours)
        self._wire.send({"target": self._loader.target, "arguments": self._loader.arguments, "path": sys.path})
        ours.setblocking(False)
        asyncio.get_running_loop().add_reader(ours, self._hear)
        return await asyncio.shield(self._manifest)

    def share(self, slots: SlotMap) -> None:
        """Hand over the map that its children will write to."""
        assert self._wire is not None
        sizes = {"slots": slots.slots, "entries": slots.entries, "cells": slots.cells}
        self._wire.send({"what": "map", **sizes}, [slots.fd])

    def fork(
        self,
        child: Child,
        theirs: socket.socket,
        queues: Sequence[str],
        *,
        orders: Orders | None = None,
        role: str = "pool",
    ) -> None:
        """Fork a process for `child`, whose pid becomes known a moment later; role `listener`: no pool process."""
        assert self._wire is not None
        self._forking[child.index] = child
        message = {"what": "fork", "slot": child.index, "queues": list(queues), "role": role, "orders": orders}
        with theirs:
            self._wire.send(message, [theirs.fileno()])

    def stop(self) -> None:
        """Let it end when its last child has. Safe to call twice, and before start."""
        self._is_stopping = True
        if self._wire is not None and not self._wire.is_closed:
            try:
                self._wire.send({"what": "stop"})
            except OSError:
                pass

    async def close(self) -> None:
        """Wait for its end for a second, then make sure."""
        self.stop()
        if self._server is None:
            return
        if not await asyncio.to_thread(self._server.wait, 1.0):
            await asyncio.to_thread(self._server.kill)
        self._hang_up()

    def _hang_up(self) -> None:
        if self._wire is not None and self._wire.sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._wire.sock)
            self._wire.close()

    def _hear(self) -> None:
        assert self._wire is not None
        for message in self._wire.receive():
            what = message["what"]
            if what == "forked":
                child = self._forking.pop(message["slot"])
                child.pid = message["pid"]
                self._children[child.pid] = child
                if child.was_killed:
                    child.kill()
            elif what == "died":
                ended = self._children.pop(message["pid"], None)
                if ended is not None:
                    ended.end(message["status"])
            elif what == "unforked":
                _log.error("cannot fork another process: %s", message["message"])
                self._forking.pop(message["slot"]).end(None)
            elif what == "ready" and not self._manifest.done():
                self._manifest.set_result(msgspec.convert(message["manifest"], Manifest))
            elif what == "error" and not self._manifest.done():
                self._manifest.set_exception(LoadError(message["reason"], message["trace"]))
        if self._wire.is_closed:
            self._hang_up()
            self._gone()

    def _gone(self) -> None:
        if not self._manifest.done():
            ended = "the process that imports it ended before it had finished"
            self._manifest.set_exception(LoadError(f"the application could not be loaded: {ended}"))
        if not self.lost.done() and not self._is_stopping:
            self.lost.set_result(None)
        for child in [*self._forking.values()]:
            child.end(None)
        self._forking.clear()

    def orphans(self) -> list[Child]:
        """Children whose end nobody will report, because the fork server is gone."""
        return list(self._children.values()) if self._wire is not None and self._wire.is_closed else []
