"""One connection that subscribes and asks at once: RESP3 lets a subscribed connection go on with commands.

It reads the socket itself rather than through redis-py, whose connection belongs to one thread: here callers write,
each in its own thread, and one thread reads.
"""

from __future__ import annotations

import contextlib
import selectors
import ssl
import threading
from typing import TYPE_CHECKING, Any, Final

import hiredis
from redis import exceptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeriac.storage.redis import Deployment

_NOTHING: Final = object()
_PIECE: Final = 64 * 1024


class Ear:
    """An open connection. One thread may `hear` while others `say`.

    Args:
        deployment: Where to connect.

    Raises:
        redis.exceptions.RedisError: As the driver reports.
        OSError: The same.
    """

    def __init__(self, deployment: Deployment) -> None:
        link: Any = deployment.connect(deployment.address(""))
        try:
            link.send_command("HELLO", 3)
            link.read_response(disable_decoding=True)
        except BaseException:
            link.disconnect()
            raise
        self._link = link
        self._socket = link._get_socket()
        # TLS cannot be written and read at once; what is under way of either is over in a moment
        self._turn = threading.Lock() if isinstance(self._socket, ssl.SSLSocket) else contextlib.nullcontext()
        self._is_tls = isinstance(self._socket, ssl.SSLSocket)
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)

    def say(self, commands: Sequence[Sequence[bytes]]) -> None:
        """Send commands in one write. Callers take turns."""
        pieces = []
        for command in commands:
            pieces.append(b"*%d\r\n" % len(command))
            pieces += [b"$%d\r\n%b\r\n" % (len(part), part) for part in command]
        with self._turn:
            self._socket.sendall(b"".join(pieces))

    def hear(self, timeout_s: float) -> list[Any]:
        """Whatever has come: pushes are `hiredis.PushNotification`, all else answers in the order of the questions.

        Raises:
            redis.exceptions.RedisError: The connection was closed, or the server refused a command.
            OSError: The connection broke.
        """
        if not (self._is_tls and self._socket.pending()) and not self._selector.select(max(0.0, timeout_s)):
            return []
        with self._turn:
            data = self._socket.recv(_PIECE)
        if not data:
            raise exceptions.ConnectionError("connection closed by the server")
        reader = self._reader
        replies = []
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOTHING:
                if isinstance(reply, hiredis.ReplyError):
                    raise exceptions.ResponseError(str(reply))
                replies.append(reply)
        except hiredis.ProtocolError as exc:
            raise exceptions.InvalidResponse(str(exc)) from exc
        return replies

    def wake(self) -> None:
        """Make the thread that hears find the connection broken."""
        try:
            self._socket.shutdown(2)
        except OSError:
            pass

    def close(self) -> None:
        """Close it; by the thread that hears."""
        self._selector.close()
        self._link.disconnect()
