"""Messages between supervisor, fork server and processes: JSON behind a length, over inherited socket pairs."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LENGTH = struct.Struct("=I")
_CHUNK = 1 << 16
_MOST_FDS = 16

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def frame(message: Any) -> bytes:
    """One message as bytes."""
    data = _encode(message)
    return _LENGTH.pack(len(data)) + data


class Wire:
    """One end of a stream socket. Descriptors travel beside messages and come out in the order they were sent."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fds: list[int] = []
        """Received and not yet taken."""
        self.is_closed = False
        self._buffer = bytearray()

    def send(self, message: Any, fds: Sequence[int] = ()) -> None:
        """Send one message; the other end reads all the time, so this does not block for long.

        Raises:
            OSError: The other end is gone.
        """
        data = frame(message)
        was_blocking = self.sock.getblocking()
        self.sock.setblocking(True)
        try:
            sent = socket.send_fds(self.sock, [data], list(fds)) if fds else 0
            self.sock.sendall(data[sent:])
        finally:
            self.sock.setblocking(was_blocking)

    def receive(self) -> list[Any]:
        """Read what has arrived: whole messages only. Sets `is_closed` at the end of the stream."""
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, _CHUNK, _MOST_FDS)
        except (BlockingIOError, InterruptedError):
            return []
        except ConnectionError:
            data, fds = b"", []
        for fd in fds:
            os.set_inheritable(fd, False)
        self.fds.extend(fds)
        if not data:
            self.is_closed = True
            return []
        self._buffer += data
        return list(self._messages())

    def is_waiting(self) -> bool:
        """Whether `receive` would find something, the end of the stream included."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            pass
        return True

    def _messages(self) -> Iterable[Any]:
        buffer = self._buffer
        while len(buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer)
            end = _LENGTH.size + length
            if len(buffer) < end:
                return
            message = _decode(bytes(buffer[_LENGTH.size : end]))
            del buffer[:end]
            yield message

    def close(self) -> None:
        """Close the socket and what came with it. Safe to call twice."""
        self.sock.close()
        while self.fds:
            os.close(self.fds.pop())
