"""Remote control among the adapters of one space: commands go straight to the handlers' event loops."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.storage.memory import open_space

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from celeriac.interfaces import LogicalClock
    from celeriac.storage.memory import MemorySpace


class Servers:
    """Who answers in a space; the space's lock guards it."""

    def __init__(self) -> None:
        self.all: dict[MemoryControlServer, None] = {}


class MemoryControl:
    """A control channel within this process.

    Args:
        url: The broker's URL.
    """

    def __init__(self, url: str = "memory://") -> None:
        self._space = open_space(url)
        self._servers = self._space.part(Servers)

    async def serve(
        self,
        node: str,
        handler: Callable[[str, Mapping[str, Any]], Awaitable[Any]],
        /,
        *,
        clock: LogicalClock | None = None,
    ) -> MemoryControlServer:
        server = MemoryControlServer(self._space, node, handler)
        with self._space.lock:
            self._servers.all[server] = None
        return server

    def call(
        self,
        method: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        destination: Sequence[str] | None = None,
        timeout_s: float = 1.0,
        reply: bool = True,
    ) -> Mapping[str, Any]:
        """As `ControlChannel.call`. On the very loop that serves, no reply can arrive while this blocks it."""
        with self._space.lock:
            asked = [each for each in self._servers.all if destination is None or each.node in destination]
        request = msgspec.json.encode(arguments or {})
        gathering = Replies(len(asked))
        for server in asked:
            server.ask(method, request, gathering)
        return gathering.wait(timeout_s) if reply else {}

    def close(self) -> None:
        """There is no connection."""


class Replies:
    """What came back so far; a caller's thread waits for the rest."""

    def __init__(self, expected: int) -> None:
        self._changed = threading.Condition()
        self._expected = expected
        self._replies: dict[str, Any] = {}

    def add(self, node: str, reply: bytes) -> None:
        with self._changed:
            self._replies[node] = msgspec.json.decode(reply)
            self._expected -= 1
            self._changed.notify_all()

    def leave(self) -> None:
        """One of those asked will not answer."""
        with self._changed:
            self._expected -= 1
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> dict[str, Any]:
        """The replies, once all are there or `timeout_s` is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._expected <= 0, timeout_s)
            return dict(self._replies)


class MemoryControlServer:
    """Answers for one node on the loop that made it."""

    def __init__(
        self, space: MemorySpace, node: str, handler: Callable[[str, Mapping[str, Any]], Awaitable[Any]]
    ) -> None:
        self.node = node
        self._space = space
        self._handler = handler
        self._loop = asyncio.get_running_loop()
        self._answering: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def ask(self, method: str, request: bytes, replies: Replies) -> None:
        """Have one command answered; called from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._start, method, request, replies)
        except RuntimeError:
            replies.leave()  # its loop was closed without closing the server: a worker that is gone

    def _start(self, method: str, request: bytes, replies: Replies) -> None:
        if self._is_closed:
            replies.leave()
            return
        task = self._loop.create_task(self._answer(method, request, replies))
        self._answering.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._answering.discard(task)
            if task.cancelled():  # perhaps before its first step, so the coroutine itself could not say it
                replies.leave()

        task.add_done_callback(ended)

    async def _answer(self, method: str, request: bytes, replies: Replies) -> None:
        try:
            answer = msgspec.json.encode(await self._handler(method, msgspec.json.decode(request)))
        except Exception as exc:  # whatever a handler raises is its answer
            answer = msgspec.json.encode({"error": str(exc) or type(exc).__name__})
        replies.add(self.node, answer)

    async def close(self) -> None:
        self._is_closed = True
        servers = self._space.part(Servers)
        with self._space.lock:
            servers.all.pop(self, None)
        answering = tuple(self._answering)
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)
