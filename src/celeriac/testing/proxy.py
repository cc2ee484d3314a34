"""A TCP proxy that misbehaves on purpose: what networks do to a program, for tests.

It keeps to what TCP can do. No bytes are lost from the middle of a stream: they are late, or held back and delivered
in order once the trouble is over, or they were the last of their connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

import msgspec

from celeriac.clock import ENTROPY, SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType
    from typing import Any, Self

Direction: TypeAlias = Literal["requests", "replies"]
"""`requests` go from the client to the server, `replies` back."""

BOTH: Final[frozenset[Direction]] = frozenset({"requests", "replies"})

_READ: Final = 65536
_PATIENCE_S: Final = 10.0
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, with no time to linger: closing sends a reset."""

ResultT = TypeVar("ResultT")


class Manners(msgspec.Struct, frozen=True, kw_only=True):
    """How a proxy treats what passes through it; by default all goes on at once."""

    delay_s: float = 0.0
    """How long each read, or each piece of it, waits before it goes on; later bytes wait behind it."""
    jitter_s: float = 0.0
    """By up to so much more or less each time."""
    bytes_per_s: int = 0
    """How much each connection passes on in each direction; 0: as much as it can."""
    piece: int = 0
    """Pass on at most so many bytes at a time; 0: as they come."""
    hold: frozenset[Direction] = frozenset()
    """Directions in which nothing goes on, not even the end of a connection."""

    def __post_init__(self) -> None:
        for name in ("delay_s", "jitter_s", "bytes_per_s", "piece"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be below zero")
        if self.jitter_s > self.delay_s:
            raise ValueError(f"jitter_s={self.jitter_s} is more than delay_s={self.delay_s}; nothing arrives early")

    def wait_s(self, size: int) -> float:
        """How long so many bytes wait."""
        wait_s = self.delay_s + ENTROPY.uniform(-self.jitter_s, self.jitter_s) if self.jitter_s else self.delay_s
        return wait_s + size / self.bytes_per_s if self.bytes_per_s else wait_s


class PlannedCut:
    """A connection that will be cut; made by `TcpProxy.cut_after` and `TcpProxy.lose_next_reply`."""

    def __init__(self, what: str, *, direction: Direction, size: int, mark: bytes | None, reset: bool) -> None:
        self._what = what
        self._direction = direction
        self._left = size
        self._mark = mark
        self._link: _Link | None = None
        self._done = threading.Event()
        self.reset: Final = reset

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    def wait(self, timeout_s: float = _PATIENCE_S) -> None:
        """Wait until the connection was cut.

        Raises:
            TimeoutError: It was not.
        """
        if not self._done.wait(timeout_s):
            raise TimeoutError(f"planned to {self._what}, and in {timeout_s:g} s nothing came that could be cut")

    def _admit(self, link: _Link, direction: Direction, data: bytes) -> int | None:
        """How many of these bytes are the connection's last; None when it goes on."""
        if self._mark is not None:
            if direction == "replies":
                return 0 if self._link is link else None
            if self._link is None and self._mark in data:
                self._link = link
            return None
        if direction != self._direction:
            return None
        if len(data) > self._left:
            return self._left
        self._left -= len(data)
        return None

    def _link_gone(self, link: _Link) -> None:
        if self._link is link:
            self._link = None


class TcpProxy:
    """Stands before a server, on a port of the loopback; a context manager, driven from any thread.

    ::

        with TcpProxy("127.0.0.1", 6379) as proxy:
            app = Celeriac("shop", broker=f"redis://127.0.0.1:{proxy.port}/0")
            proxy.delay(0.2)
            proxy.heal()
            cut = proxy.lose_next_reply(b"EVALSHA")  # it takes effect, and nobody hears of it

    Args:
        host: Where the server is.
        port: And its port.
        listen: The proxy's own port; 0 takes one that is free. It stays the same over `stop` and `start`.
    """

    def __init__(self, host: str, port: int, /, *, listen: int = 0) -> None:
        self.port = listen
        self._target = host, port
        self._manners = Manners()
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self._cuts: list[PlannedCut] = []
        self._links: set[_Link] = set()
        self._accepted: list[float] = []
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # -- its life ------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen; returns when connections are accepted. May be repeated.

        Raises:
            OSError: The port is taken.
        """
        if self._thread is None:
            ready: Future[None] = Future()
            self._thread = threading.Thread(
                target=lambda: asyncio.run(self._serve(ready)), name="celeriac-proxy", daemon=True
            )
            self._thread.start()
            try:
                ready.result(_PATIENCE_S)
            except BaseException:
                self._thread = None
                raise
        return self

    def stop(self) -> None:
        """Cut everything and listen no more. May be repeated."""
        if self._thread is None:
            return
        self._do(self._over.set)
        self._thread.join(_PATIENCE_S)
        self._thread = self._loop = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def is_started(self) -> bool:
        return self._thread is not None

    @property
    def accepted(self) -> int:
        """How many connections there have been."""
        return len(self._accepted)

    def busiest(self, span_s: float = 1.0, *, after: int = 0) -> int:
        """How many connections came at most within so many seconds, of those behind the first `after`."""
        times, first, most = self._accepted[after:], 0, 0
        for number, time in enumerate(times, 1):
            while times[first] < time - span_s:
                first += 1
            most = max(most, number - first)
        return most

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._links)

    # -- to all connections, those to come included ---------------------------------------------------------------

    def behave(self, manners: Manners) -> None:
        """Treat all that passes from now on so; what was held and is no longer goes on in order."""
        self._do(lambda: self._set_manners(manners))

    def heal(self) -> None:
        """Pass everything on, also what was stranded, accept connections, forget planned cuts."""
        self._do(self._recall)
        self.behave(Manners())
        self.accept()

    def delay(self, seconds: float, *, jitter_s: float = 0.0) -> None:
        """Be slow in both directions."""
        self.behave(Manners(delay_s=seconds, jitter_s=jitter_s))

    def throttle(self, bytes_per_s: int) -> None:
        """Be narrow: each connection passes on so much in each direction."""
        self.behave(Manners(bytes_per_s=bytes_per_s, piece=max(1, bytes_per_s // 20)))

    def slice(self, size: int, *, delay_s: float = 0.0) -> None:
        """Pass on pieces of at most `size` bytes, each `delay_s` after the one before."""
        self.behave(Manners(piece=size, delay_s=delay_s))

    def blackhole(self) -> None:
        """Accept connections, and let nothing through in either direction."""
        self.behave(Manners(hold=BOTH))

    def half_open(self, silent: Direction = "replies") -> None:
        """Let nothing through in one direction."""
        self.behave(Manners(hold=frozenset({silent})))

    def strand(self) -> int:
        """Let nothing through on the connections that there are, as a router does that has forgotten them; those to
        come are served. How many there were.
        """
        return self._do(self._strand_all)

    def refuse(self) -> None:
        """Refuse new connections, as if nothing listened. Those that exist stay."""
        self._do(self._stop_listening)

    def accept(self) -> None:
        """Undo `refuse`."""
        self._run(self._listen())

    # -- once ------------------------------------------------------------------------------------------------------

    def cut(self, *, reset: bool = False) -> int:
        """Close every connection now, on both sides; by a TCP reset or in good order. How many there were."""
        return self._do(lambda: self._cut_all(reset=reset))

    def cut_after(self, size: int, direction: Direction = "requests", *, reset: bool = False) -> PlannedCut:
        """Pass on `size` more bytes in one direction, over all connections, then cut the one that brings another."""
        what = f"cut after {size} bytes of {direction}"
        return self._plan(PlannedCut(what, direction=direction, size=size, mark=None, reset=reset))

    def lose_next_reply(self, mark: bytes = b"", *, reset: bool = False) -> PlannedCut:
        """Pass on the next request that contains `mark`, and cut its connection when the reply comes.

        The request has taken effect and the client does not know. On a connection where requests overlap, the reply
        that is lost may be that of an earlier one, and those that follow it.

        Args:
            mark: Looked for in what one read brings, up to 64 KiB; one that is split over two is missed.
            reset: Cut by a TCP reset.
        """
        what = f"lose the reply to {mark!r}"
        return self._plan(PlannedCut(what, direction="replies", size=0, mark=mark, reset=reset))

    # -- in the loop's thread ------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        if self._loop is None:
            work.close()
            raise RuntimeError("the proxy is not started; call start() or use it in a `with` block")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_S)

    def _do(self, work: Callable[[], ResultT]) -> ResultT:
        async def run() -> ResultT:
            return work()

        return self._run(run())

    def _plan(self, cut: PlannedCut) -> PlannedCut:
        self._do(lambda: self._cuts.append(cut))
        return cut

    async def _serve(self, ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed, self._over = asyncio.Event(), asyncio.Event()
        try:
            await self._listen()
        except BaseException as exc:
            self._loop = None
            ready.set_exception(exc)
            return
        ready.set_result(None)
        await self._over.wait()
        self._stop_listening()
        self._cut_all(reset=False)
        await asyncio.gather(*(link.task for link in self._links), return_exceptions=True)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", self.port, limit=_READ)
            self.port = self._server.sockets[0].getsockname()[1]

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted.append(SYSTEM_CLOCK.monotonic())
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.run(self._target)
        except asyncio.CancelledError:
            pass  # it was cut
        finally:
            link.close(reset=False)
            self._links.discard(link)
            for cut in self._cuts:
                cut._link_gone(link)

    def _set_manners(self, manners: Manners) -> None:
        self._manners = manners
        self._changed.set()
        self._changed = asyncio.Event()

    def _cut_all(self, *, reset: bool) -> int:
        for link in self._links:
            link.abort(reset=reset)
        return len(self._links)

    def _strand_all(self) -> int:
        for link in self._links:
            link.is_stranded = True
        return len(self._links)

    def _recall(self) -> None:
        self._cuts.clear()
        for link in self._links:
            link.is_stranded = False

    async def _gate(self, link: _Link, direction: Direction) -> None:
        while link.is_stranded or direction in self._manners.hold:
            await self._changed.wait()

    async def _carry(self, link: _Link, direction: Direction, data: bytes, writer: asyncio.StreamWriter) -> bool:
        """Pass on what one read has brought; whether the connection lives on."""
        while data:
            manners = self._manners
            size = min(manners.piece or _READ, len(data))
            piece, data = data[:size], data[size:]
            if (wait_s := manners.wait_s(size)) > 0.0:
                await SYSTEM_CLOCK.sleep(wait_s)
            await self._gate(link, direction)
            for cut in self._cuts:
                last = cut._admit(link, direction, piece)
                if last is not None:
                    self._cuts.remove(cut)
                    writer.write(piece[:last])
                    await writer.drain()
                    link.abort(reset=cut.reset)
                    cut._done.set()
                    return False
            writer.write(piece)
            await writer.drain()
        return True


class _Link:
    """One connection of a client, and the one to the server that belongs to it."""

    def __init__(self, proxy: TcpProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.is_stranded = False
        self._proxy = proxy
        self._client = reader, writer
        self._writers = [writer]

    async def run(self, target: tuple[str, int]) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(*target, limit=_READ)
        except OSError:
            self.close(reset=True)
            return
        client_reader, client_writer = self._client
        self._writers.append(server_writer)
        for writer in self._writers:
            writer.transport.set_write_buffer_limits(0)  # `drain` means: the kernel has it
        async with asyncio.TaskGroup() as pumps:
            pumps.create_task(self._pump("requests", client_reader, server_writer))
            pumps.create_task(self._pump("replies", server_reader, client_writer))

    async def _pump(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_READ):
                if not await self._proxy._carry(self, direction, data, writer):
                    return
            await self._proxy._gate(self, direction)
            with contextlib.suppress(OSError):
                writer.write_eof()
        except OSError:  # one side has reset its connection, or is gone
            await self._proxy._gate(self, direction)
            self.abort(reset=True)

    def abort(self, *, reset: bool) -> None:
        """Close both sides at once and end what carries their bytes."""
        self.close(reset=reset)
        self.task.cancel()

    def close(self, *, reset: bool) -> None:
        for writer in self._writers:
            if reset and not writer.transport.is_closing():
                raw = writer.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
