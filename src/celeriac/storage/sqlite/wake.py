"""Waking waiting processes without polling: sockets that ring, and a board that says who would like to hear.

The wake directory `<database>-wake/` holds

- `board`: a small file that every process maps. It has a stamp that changes with each cancellation, and for each seat
  a flag (somebody sits there and waits) and a mask (which queues he serves);
- `c0`, `c1`, … and `r0`, …: one bound datagram socket for each taken seat, consumers and result waiters apart.

**No wake-up is lost.** A waiter raises its flag, looks into the database once more, and only then sleeps. A writer
commits, then looks at the board. Either the waiter's look finds what was committed, or the writer finds the flag.
Who rings takes the flag down first, so a waiter that is awake already costs a writer one memory search, some 200 ns.
Rings are hints all the same: a waiter also looks by itself every `FALLBACK_S`, for writers that do not ring.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import socket
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from celeriac.clock import ENTROPY
from celeriac.errors import StorageError
from celeriac.storage import forks

if TYPE_CHECKING:
    from collections.abc import Iterable

FALLBACK_S: Final = 0.25
"""How often a waiter looks though nobody rang."""

Kind = Literal["c", "r"]
"""A consumer's seat, or a result waiter's."""

SEATS: Final = 1024
"""For each kind; who finds none is not woken and lives by the fallback."""
_FLAGS: Final[dict[str, int]] = {"c": 64, "r": 64 + SEATS}
_MASKS = 64 + 2 * SEATS
_SIZE = _MASKS + 8 * SEATS
_ALL_QUEUES = (1 << 64) - 1
_PATH_BYTES = 103  # of sun_path on macOS, less its terminator; Linux has four more


def mask_of(queues: Iterable[str]) -> int:
    """One bit out of 64 per queue. Two queues may share a bit: that rings once in vain."""
    mask = 0
    for queue in queues:
        mask |= 1 << (zlib.crc32(queue.encode()) & 63)
    return mask


class WakeRoom:
    """A wake directory, as one process sees it."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._socket_directory: int | str | None = None
        self._sender: socket.socket | None = None
        self._gate = threading.Lock()
        descriptor = os.open(f"{directory}/board", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(descriptor).st_size < _SIZE:
                os.ftruncate(descriptor, _SIZE)  # a second process doing the same changes nothing
            self._board = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        self._words = memoryview(self._board).cast("Q")
        self._mask_at = _MASKS // 8
        forks.register(self)

    # -- the cancellation stamp

    @property
    def stamp(self) -> int:
        """Changes with every `bump` of any process; one memory read."""
        return self._words[0]

    def bump(self) -> None:
        """Change the stamp. A fresh random number, not a counter: two processes that count at once could repeat one."""
        self._words[0] = ENTROPY.getrandbits(63) | 1

    # -- ringing

    def ring(self, mask: int, count: int = 1) -> int:
        """Wake up to `count` waiting consumers that serve one of the queues in `mask`; returns how many.

        Where such consumers serve different sets of queues, one of each set is woken: the mask is only a hash, so the
        first alone might be the wrong one.
        """
        flags, find = _FLAGS["c"], self._board.find
        end = flags + SEATS
        at = find(b"\x01", flags, end)
        if at < 0:
            return 0
        rung = 0
        sets: set[int] = set()
        while at >= 0:
            serves = self._words[self._mask_at + at - flags]
            if serves & mask and (rung < count or serves not in sets) and self._ring("c", at - flags):
                rung += 1
                sets.add(serves)
            at = find(b"\x01", at + 1, end)
        return rung

    def ring_results(self) -> None:
        """Wake every process that waits for results."""
        flags, find = _FLAGS["r"], self._board.find
        at = find(b"\x01", flags, flags + SEATS)
        while at >= 0:
            self._ring("r", at - flags)
            at = find(b"\x01", at + 1, flags + SEATS)

    def _ring(self, kind: Kind, seat: int) -> bool:
        self._board[_FLAGS[kind] + seat] = 0
        sender = self._sender
        if sender is None:
            sender = self._sender = _datagram()
        try:
            sender.sendto(b"\x01", socket.MSG_DONTWAIT, self.address(f"{kind}{seat}"))
        except BlockingIOError:
            return True  # so many rings wait there that it is awake
        except OSError:
            return False  # whoever sat there is gone; his flag is down now
        return True

    # -- seats

    def sit(self, kind: Kind, mask: int = _ALL_QUEUES) -> Seat | None:
        """Take a free seat; None when all are taken."""
        lock = os.open(f"{self.directory}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a stale socket is replaced by one process at a time
            probe = _datagram()
            try:
                for seat in range(SEATS):
                    address = self.address(f"{kind}{seat}")
                    try:
                        probe.connect(address)
                        continue  # taken
                    except FileNotFoundError:
                        pass
                    except OSError:
                        _unlink(f"{self._socket_root()}/{kind}{seat}")
                    bell = _datagram()
                    try:
                        bell.bind(address)
                    except OSError:
                        bell.close()
                        raise
                    self._board[_FLAGS[kind] + seat] = 0
                    if kind == "c":
                        self._words[self._mask_at + seat] = mask
                    return Seat(self, kind, seat, bell)
            finally:
                probe.close()
        finally:
            os.close(lock)
        return None

    def raise_flag(self, kind: Kind, seat: int) -> None:
        self._board[_FLAGS[kind] + seat] = 1

    def lower_flag(self, kind: Kind, seat: int) -> bool:
        at = _FLAGS[kind] + seat
        was = self._board[at] == 1
        self._board[at] = 0
        return was

    # -- addresses

    def address(self, name: str) -> str:
        """A path of this name that fits into a socket address; the same socket whichever process asks."""
        root = self._socket_directory
        if root is None:
            root = self._find_socket_directory()
        return f"/proc/self/fd/{root}/{name}" if isinstance(root, int) else f"{root}/{name}"

    def names(self, prefix: str) -> list[str]:
        """Names of the sockets whose name starts so."""
        return [name for name in os.listdir(self._socket_root()) if name.startswith(prefix)]  # noqa: PTH208

    def rename(self, old: str, new: str) -> None:
        """Give a socket another name, in one step; it goes on as it was."""
        root = self._socket_root()
        os.rename(f"{root}/{old}", f"{root}/{new}")  # noqa: PTH104

    def unlink(self, name: str) -> None:
        """Remove a socket's name; fine when it is gone."""
        _unlink(f"{self._socket_root()}/{name}")

    def _socket_root(self) -> str:
        return self.address("")[:-1]

    def _find_socket_directory(self) -> int | str:
        with self._gate:
            if self._socket_directory is None:
                if len(os.fsencode(self.directory)) + 40 <= _PATH_BYTES:
                    self._socket_directory = self.directory
                elif Path("/proc/self/fd").is_dir():
                    # a socket address holds 107 bytes; through the descriptor of its directory any path is short
                    self._socket_directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                else:
                    self._socket_directory = _short_directory(self.directory)
            return self._socket_directory

    def close(self) -> None:
        """Let go of the board. Not to be used afterwards."""
        self._words.release()
        with contextlib.suppress(BufferError):
            self._board.close()
        if self._sender is not None:
            self._sender.close()
            self._sender = None
        if isinstance(self._socket_directory, int):
            os.close(self._socket_directory)
        self._socket_directory = None

    def before_fork(self) -> None:
        return

    def after_fork(self) -> None:
        self._gate = threading.Lock()  # sender, board and directory are fine to share


class Seat:
    """A taken seat: a flag on the board and a bell to listen to."""

    def __init__(self, room: WakeRoom, kind: Kind, number: int, bell: socket.socket) -> None:
        self._room = room
        self._kind: Kind = kind
        self._number = number
        self.bell = bell
        """Non-blocking; readable when rung."""
        forks.register(self)

    def wait_for_ring(self) -> None:
        """Raise the flag. Look into the database after this and before sleeping."""
        self._room.raise_flag(self._kind, self._number)

    def is_rung(self) -> bool:
        """Lower the flag; True when somebody has rung since it was raised."""
        return not self._room.lower_flag(self._kind, self._number)

    def silence(self) -> None:
        """Take all rings off the bell."""
        try:
            while self.bell.recv(16):
                pass
        except OSError:
            return

    def leave(self) -> None:
        """Free the seat."""
        if self.bell.fileno() < 0:
            return
        self._room.lower_flag(self._kind, self._number)
        self._room.unlink(f"{self._kind}{self._number}")
        self.bell.close()

    def before_fork(self) -> None:
        return

    def after_fork(self) -> None:
        self.bell.close()  # else the seat would look taken for as long as the child lives


def _datagram() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108


def _short_directory(directory: str) -> str:
    """Where there is no /proc: a directory under the temporary one that every process derives from the long one."""
    import hashlib
    import tempfile

    facts = os.stat(directory)  # noqa: PTH116
    key = hashlib.sha256(f"{facts.st_dev}:{facts.st_ino}".encode()).hexdigest()[:16]
    short = f"{tempfile.gettempdir()}/celeriac-{os.geteuid()}-{key}"
    with contextlib.suppress(FileExistsError):
        os.mkdir(short, 0o700)  # noqa: PTH102
    if os.lstat(short).st_uid != os.geteuid():
        raise StorageError(f"{short} belongs to another user; remove it, or use a shorter path than {directory}")
    return short
