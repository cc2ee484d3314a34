"""The memory that supervisor and processes share: who runs what since when, under which lease, and how much was done.

A process writes here on its hot path (about a microsecond per task in all) and nothing is sent. The supervisor reads:
from it come hard limits, the attribution of a crash to the task that was running, the leases to beat for, and live
state for monitors. It outlives the process that wrote it, which is the point.

One slot per process: a head of 8-byte cells, then one entry per place where a task can run (the main thread or each
thread, then each async slot), then a ring of the tasks that may not run twice and have ended lately. An entry is valid
while its epoch is not 0. The writer sets the epoch last and clears it first, and no epoch is used twice, so a reader
that finds the same epoch before and after has not read a torn entry.
"""

from __future__ import annotations

import itertools
import mmap
import os
import struct
from typing import Final

import msgspec

from celeriac.worker.board import Board, board_size

STARTING: Final = 1
READY: Final = 2
DRAINING: Final = 3
"""It takes nothing more and ends when what runs has ended; a successor may start."""
GONE: Final = 4
"""It ended in order: everything is settled or given back."""

_CELL = 8
_HEAD = 192
_PID, _STATE, _LEASE, _PROGRESS, _WAITING, _NUMBER = range(6)
_COUNTERS = 6
_CLEAN = 13
_INCARNATION = 128
_ENTRY = struct.Struct("=dddHH128s152s")
_ENTRY_OFFSET = _CELL
_ENTRY_SIZE = 320
_ONCE = struct.Struct("=H128s6x")
_ONCE_PLACES: Final = 1024
"""More than a process holds of claimed messages, so that what is overwritten is settled."""
assert _ENTRY_OFFSET + _ENTRY.size <= _ENTRY_SIZE

COUNTERS: Final = ("started", "succeeded", "failed", "retried", "released", "buried", "lost")


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A task as its entry shows it."""

    entry: int
    epoch: int
    id: str
    name: str
    started: float
    """On the host's monotonic clock, as is `deadline`."""
    deadline: float | None
    """When the hard limit falls due."""
    limit_s: float
    """The hard limit; 0 where there is none."""


class SlotMap:
    """All slots of one worker, in an unlinked file that children inherit by its descriptor."""

    def __init__(self, fd: int, *, slots: int, entries: int, cells: int = 0) -> None:
        """Map what another process created with the same `slots`, `entries` and `cells`."""
        self.fd = fd
        self.slots = slots
        self.entries = entries
        self.cells = cells
        self._map = mmap.mmap(fd, self.size(slots, entries, cells))

    @staticmethod
    def size(slots: int, entries: int, cells: int = 0) -> int:
        return slots * _slot_size(entries) + board_size(cells)

    @classmethod
    def create(cls, *, slots: int, entries: int, cells: int = 0) -> SlotMap:
        """Make a new one, all zero; pages that nobody touches take no memory.

        Args:
            slots: Processes.
            entries: Places per process where a task can run.
            cells: Tasks that may have a rate limit.
        """
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("celeriac-slots")
        else:
            import tempfile

            handle, path = tempfile.mkstemp(prefix="celeriac-slots-")
            os.unlink(path)  # noqa: PTH108 - a descriptor is all that is wanted
            fd = handle
        os.ftruncate(fd, cls.size(slots, entries, cells))
        return cls(fd, slots=slots, entries=entries, cells=cells)

    def slot(self, index: int) -> Slot:
        if not 0 <= index < self.slots:
            raise IndexError(f"slot {index} of {self.slots}")
        return Slot(self._map, index * _slot_size(self.entries), self.entries)

    def board(self) -> Board:
        """What is not of one process; one per process, for it counts in it."""
        return Board(
            memoryview(self._map),
            self.fd,
            base=self.size(self.slots, self.entries, 0) - board_size(0),
            cells=self.cells,
        )

    def close(self) -> None:
        """Unmap and close. Slots handed out keep the memory alive until they are gone."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Slot:
    """One process's part of the map."""

    __slots__ = ("_base", "_entries", "_first", "_floats", "_ints", "_map", "_once", "_places", "entries", "lease_cell")

    def __init__(self, memory: mmap.mmap, base: int, entries: int) -> None:
        self._map = memory
        self._base = base
        self._entries = base + _HEAD
        view = memoryview(memory)
        self._ints = view.cast("Q")
        self._floats = view.cast("d")
        self._first = base // _CELL
        self._once = self._entries + entries * _ENTRY_SIZE
        self._places = itertools.count()
        self.entries = entries
        self.lease_cell = self._first + _LEASE

    # -- the head ------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the process that used this slot before."""
        end = self._entries + self.entries * _ENTRY_SIZE
        self._map[self._base : end] = bytes(end - self._base)

    @property
    def pid(self) -> int:
        return self._ints[self._first + _PID]

    @pid.setter
    def pid(self, value: int) -> None:
        self._ints[self._first + _PID] = value

    @property
    def state(self) -> int:
        return self._ints[self._first + _STATE]

    @state.setter
    def state(self, value: int) -> None:
        self._ints[self._first + _STATE] = value

    @property
    def lease_until(self) -> float:
        """When this process must stop starting tasks, on the host's monotonic clock."""
        return self._floats[self.lease_cell]

    @lease_until.setter
    def lease_until(self, value: float) -> None:
        self._floats[self.lease_cell] = value

    @property
    def floats(self) -> memoryview[float]:
        """The whole map as cells; `floats[lease_cell]` is the cheapest way to look at the lease."""
        return self._floats

    @property
    def progress(self) -> float:
        """When the claim loop last moved."""
        return self._floats[self._first + _PROGRESS]

    @progress.setter
    def progress(self, value: float) -> None:
        self._floats[self._first + _PROGRESS] = value

    @property
    def waiting(self) -> int:
        """Claimed and not started."""
        return self._ints[self._first + _WAITING]

    @waiting.setter
    def waiting(self, value: int) -> None:
        self._ints[self._first + _WAITING] = value

    @property
    def clean(self) -> float:
        """What had started before this moment and does not run any more is settled. Only kept where nobody can be
        asked what a process held (`BrokerTraits.adopts`).
        """
        return self._floats[self._first + _CLEAN]

    @clean.setter
    def clean(self, value: float) -> None:
        self._floats[self._first + _CLEAN] = value

    @property
    def incarnation(self) -> str:
        """Empty before the first consumer is open."""
        start = self._base + _INCARNATION
        return self._map[start : start + 64].rstrip(b"\0").decode("ascii", "replace")

    @incarnation.setter
    def incarnation(self, value: str) -> None:
        start = self._base + _INCARNATION
        self._map[start : start + 64] = value.encode("ascii").ljust(64, b"\0")

    def count(self, counter: int, by: int = 1) -> None:
        """Add to one of COUNTERS, by its position. One writer per process: the IO thread."""
        self._ints[self._first + _COUNTERS + counter] += by

    def counters(self) -> dict[str, int]:
        first = self._first + _COUNTERS
        return {name: self._ints[first + index] for index, name in enumerate(COUNTERS)}

    # -- entries -------------------------------------------------------------------------------------------------

    def begin(self, entry: int, epoch: int, started: float, limit_s: float | None, task_id: str, name: str) -> None:
        """Note that a task starts at `entry`. `epoch` is never 0 and never used twice by this process."""
        offset = self._entries + entry * _ENTRY_SIZE
        wire_id = task_id.encode("utf-8", "replace")
        wire_name = name.encode("utf-8", "replace")
        limit = 0.0 if limit_s is None else limit_s
        _pack(
            self._map,
            offset + _ENTRY_OFFSET,
            started,
            started + limit,
            limit,
            len(wire_id),
            len(wire_name),
            wire_id,
            wire_name,
        )
        self._ints[offset >> 3] = epoch

    def end(self, entry: int) -> None:
        """Note that nothing runs at `entry` any more."""
        self._ints[(self._entries + entry * _ENTRY_SIZE) >> 3] = 0

    def running(self) -> list[Running]:
        """What runs now, in the order of the entries."""
        found = []
        ints = self._ints
        cell = self._entries >> 3
        for entry in range(self.entries):
            if ints[cell]:
                one = self._read(entry)
                if one is not None:
                    found.append(one)
            cell += _ENTRY_SIZE >> 3
        return found

    def newest(self, entries: int) -> list[str]:
        """The ids of what ran last at the first `entries` entries, ended or not, and is not known to be settled; of a
        process that is dead.
        """
        ids = []
        clean = self.clean
        for entry in range(entries):
            offset = self._entries + entry * _ENTRY_SIZE
            started, _, _, id_size, _, wire_id, _ = _ENTRY.unpack_from(self._map, offset + _ENTRY_OFFSET)
            if id_size and started >= clean:
                ids.append(wire_id[:id_size].decode("utf-8", "replace"))
        return ids

    def end_once(self, task_id: str) -> None:
        """Note that a task that may not run twice has ended, before its entry is cleared. From any thread."""
        wire_id = task_id.encode("utf-8", "replace")
        place = next(self._places) % _ONCE_PLACES
        _pack_once(self._map, self._once + place * _ONCE.size, len(wire_id), wire_id)

    def ended_once(self) -> list[str]:
        """The ids of the last of such tasks, settled or not; of a process that is dead.

        Those of processes that had the slot before may be among them: who asks what this one held finds none of them.
        """
        ids = []
        for size, wire_id in _ONCE.iter_unpack(self._map[self._once : self._once + _ONCE_PLACES * _ONCE.size]):
            if size:
                ids.append(wire_id[:size].decode("utf-8", "replace"))
        return ids

    def is_busy(self) -> bool:
        """Whether any task runs."""
        ints = self._ints
        first = self._entries >> 3
        step = _ENTRY_SIZE >> 3
        return any(ints[cell] for cell in range(first, first + self.entries * step, step))

    def _read(self, entry: int) -> Running | None:
        offset = self._entries + entry * _ENTRY_SIZE
        for _ in range(100):  # a writer that is faster than this reader a hundred times is not running for long
            epoch = self._ints[offset >> 3]
            if epoch == 0:
                return None
            started, deadline, limit, id_size, name_size, wire_id, wire_name = _ENTRY.unpack_from(
                self._map, offset + _ENTRY_OFFSET
            )
            if self._ints[offset >> 3] == epoch:
                return Running(
                    entry=entry,
                    epoch=epoch,
                    id=wire_id[:id_size].decode("utf-8", "replace"),
                    name=wire_name[:name_size].decode("utf-8", "replace"),
                    started=started,
                    deadline=deadline if limit else None,
                    limit_s=limit,
                )
        return None


def _slot_size(entries: int) -> int:
    return _HEAD + entries * _ENTRY_SIZE + _ONCE_PLACES * _ONCE.size


_pack = _ENTRY.pack_into
_pack_once = _ONCE.pack_into
