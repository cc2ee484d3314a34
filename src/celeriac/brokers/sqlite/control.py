"""Remote control over stream sockets in the wake directory: one socket per serving worker, one JSON line each way."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.clock import ENTROPY, SYSTEM_CLOCK, Clock
from celeriac.errors import BrokerError
from celeriac.storage import forks
from celeriac.storage.sqlite import Database, WakeRoom

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from celeriac.interfaces import LogicalClock
    from celeriac.storage.sqlite import Durability

_PREFIX: Final = "n"
_MOST_BYTES: Final = 16 << 20
"""Of one line; what is longer is not read."""


class _Command(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    arguments: dict[str, Any] = {}
    destination: list[str] | None = None
    reply: bool = True


class _Reply(msgspec.Struct, frozen=True, kw_only=True):
    node: str
    reply: Any


_read_command = msgspec.json.Decoder(_Command).decode
_read_reply = msgspec.json.Decoder(_Reply).decode


class SqliteControl:
    """Reaches the workers that use one database file, through its wake directory.

    Args:
        url: The broker's URL.
        durability: As the broker's; of no meaning here.
        timeout_s: As the broker's.
        clock: As the broker's.
        allow_network_fs: As the broker's.
    """

    def __init__(
        self,
        url: str,
        *,
        durability: Durability = "full",
        timeout_s: float = 5.0,
        clock: Clock = SYSTEM_CLOCK,
        allow_network_fs: bool = False,
    ) -> None:
        self._database = Database(
            url, durability=durability, timeout_s=timeout_s, clock=clock, allow_network_fs=allow_network_fs
        )
        self._room: WakeRoom | None = None
        self._gate = threading.Lock()
        forks.register(self)

    async def serve(
        self,
        node: str,
        handler: Callable[[str, Mapping[str, Any]], Awaitable[Any]],
        /,
        *,
        clock: LogicalClock | None = None,
    ) -> SqliteControlServer:
        room = self._open_room()
        name = f"{_PREFIX}{ENTROPY.getrandbits(64):016x}"
        # Between bind and listen a caller is refused, and takes the name for a dead worker's and removes it: so it gets
        # the name that callers look for when it listens.
        early = f".{name}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(room.address(early))
            listener.setblocking(False)
            server = SqliteControlServer(room, name, node, handler)
            await server.start(listener)
            room.rename(early, name)
        except BaseException:
            listener.close()
            room.unlink(early)
            raise
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
        command = _Command(
            method=method,
            arguments=dict(arguments or {}),
            destination=None if destination is None else list(destination),
            reply=reply,
        )
        line = msgspec.json.encode(command) + b"\n"
        room = self._open_room()
        deadline = time.monotonic() + timeout_s
        replies: dict[str, Any] = {}
        with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
            for name in sorted(room.names(_PREFIX)):
                sock = _dial(room, name, line, timeout_s)
                if sock is not None:
                    stack.enter_context(contextlib.closing(sock))
                    selector.register(sock, selectors.EVENT_READ, bytearray())
            while selector.get_map() and (left_s := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left_s):
                    sock = key.fileobj  # type: ignore[assignment]
                    assert isinstance(sock, socket.socket)
                    if _receive(sock, key.data):
                        continue
                    selector.unregister(sock)
                    if key.data:
                        with contextlib.suppress(msgspec.MsgspecError):  # cut off: the worker died while it answered
                            answer = _read_reply(bytes(key.data))
                            replies[answer.node] = answer.reply
        return replies if reply else {}

    def _open_room(self) -> WakeRoom:
        with self._gate:
            if self._room is None:
                self._database.prepare()
                self._room = WakeRoom(self._database.wake_directory)
            return self._room

    def close(self) -> None:
        """Each call has sockets of its own."""

    def before_fork(self) -> None:
        return

    def after_fork(self) -> None:
        self._gate = threading.Lock()


class SqliteControlServer:
    """Answers for one node on the loop that made it."""

    def __init__(
        self, room: WakeRoom, name: str, node: str, handler: Callable[[str, Mapping[str, Any]], Awaitable[Any]]
    ) -> None:
        self._room = room
        self._name = name
        self._node = node
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self, listener: socket.socket) -> None:
        """Listen, and begin to answer, on a bound socket."""
        self._server = await asyncio.start_unix_server(self._accept, sock=listener, limit=_MOST_BYTES)

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        self._room.unlink(self._name)
        server.close()
        for task in list(self._answering):
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            with contextlib.suppress(
                OSError, ValueError, msgspec.MsgspecError
            ):  # a caller that went away, or no caller
                command = _read_command(await reader.readline())
                if command.destination is None or self._node in command.destination:
                    answer = await self._answer(command)
                    if command.reply:
                        writer.write(answer)
                        await writer.drain()
        except asyncio.CancelledError:
            pass  # closing: the caller sees the end of the line
        finally:
            self._answering.discard(task)
            writer.close()

    async def _answer(self, command: _Command) -> bytes:
        reply: Any
        try:
            reply = await self._handler(command.method, command.arguments)
            return msgspec.json.encode(_Reply(node=self._node, reply=reply))
        except Exception as exc:
            return msgspec.json.encode(_Reply(node=self._node, reply={"error": f"{type(exc).__name__}: {exc}"}))


def _dial(room: WakeRoom, name: str, line: bytes, timeout_s: float) -> socket.socket | None:
    """Connect to one worker and ask; None when nobody is there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    try:
        sock.connect(room.address(name))
        sock.sendall(line)
        sock.setblocking(False)
    except ConnectionRefusedError:
        sock.close()
        room.unlink(name)  # its worker died without tidying up
        return None
    except OSError:
        sock.close()
        return None
    return sock


def _receive(sock: socket.socket, into: bytearray) -> bool:
    """Read what is there; False at the end."""
    try:
        data = sock.recv(65536)
    except BlockingIOError:
        return True
    except OSError:
        return False
    into += data
    if len(into) > _MOST_BYTES:
        raise BrokerError(f"a worker's reply to a control command has more than {_MOST_BYTES} bytes")
    return bool(data)
