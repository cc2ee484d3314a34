"""The history: what every process of a run says it did, one line each, which survives its `kill -9`.

A file for each process or family of processes. A line is appended with one `write`, so that lines of several processes
never mix, and what was written before a process was killed is there.
"""

from __future__ import annotations

import heapq
import os
import time
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LATE_S: Final = 1.0
"""Lines of one file may stand so much before others that happened earlier: its processes take the time, then write."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One line. What `f` can be, and which fields it has, is the table below."""

    t: float
    """When: CLOCK_MONOTONIC in seconds, which all processes of a host share."""
    p: str
    """Who: `name:pid`."""
    f: str
    """What was done."""
    type: Literal["invoke", "ok", "fail", "info"] = "info"
    """`invoke`: begun. `ok`, `fail`: how it ended. `info`: it happened, or nobody knows how what was invoked ended."""
    id: str = ""
    n: int = 0
    token: str = ""
    what: str = ""
    at: float = 0.0
    value: Any = None


# f        | types         | fields
# ---------|---------------|------------------------------------------------------------------------------------------
# enqueue  | invoke        | id, what=task, value=facts (below); ends: in what it is to end, where that is not success:
#          |               | failure, or any
# enqueue  | ok, fail, info| id, at=how long it took in s, what=error's class; fail: it will never run; info: unknown
# start    | info          | id, n=retries, token=of this run (random), what=task, at=due (monotonic) where it has one,
#          |               | value=incarnation it was claimed under
# end      | info          | id, n, token, what=task, at=when its next attempt may start (monotonic), if there is one
# body     | info          | id=of the workflow, token=of its run, value=what the header returned; before its `end`
# errback  | info          | id=of the workflow, token=of its run, before its `end`
# flow     | invoke        | id=of a workflow, what=body, errback or either: which of them is to come, once; value=ids
#          |               | of the header in order: the body gets a token of a run of each
# tick     | info          | id=entry, at=its nominal instant (µs since the epoch), token, value=id of its message; a
#          |               | periodic task has started
# tick     | ok            | id=entry, value={first, last, step, skipped} in µs: at the end, each of these instants has
#          |               | come but so many as the mark says were skipped
# revoke   | invoke, ok    | id, value={terminate: bool}; ok: acknowledged, it may not start any more
# result   | ok            | id, what=state, token=the run whose value it is, n=1, 2, … of each look at it
# dead     | ok            | id, what=reason: found among the dead letters at the end
# fault    | invoke, ok    | id=number, what=kind, value=Blame as dict: what it explains; ok: it is over
# back     | info          | id=number of the fault, at=seconds until somebody consumed again
# depth    | ok            | what=queue, value={ready, delayed, held, dead}, at the very end
# sample   | info          | id=process, value={rss_kib, fds, connections}
# phase    | info          | what=begin, drain, end
# fenced   | info          | id=incarnation: from here on this process starts nothing under it
# gone     | info          | id=process, what=how: it ended, and nobody had ended it
# log      | info          | id=process, what=line: what a worker logged that it must not, value=the lines around it
# figure   | info          | what=its name, at=its value: of the scenario's own, for the report
#
# Facts of an enqueue, all of them optional:
# due, expires     monotonic seconds
# key              of a limit with concurrency 1: such tasks run in order
# priority, queue  two levels of one queue are compared
# max_retries      more attempts are wrong
# ends             in what it is to end, where that is not success: failure, or any
# follows          id of what may bring it about: it need not be acknowledged, or run at all
# after            ids of what has to end first, and sends it then


class Blame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a fault can be the reason of."""

    pids: tuple[int, ...] = ()
    """Processes that it ended, or stopped for longer than a lease: what they ran when it began may run again."""
    cuts: bool = False
    """Leases may be lost while it lasts: whatever runs then, or ends, may run again, until a lease after its end."""
    everyone: bool = True
    """Cuts all workers off; else only those of `pids`."""
    loses: bool = False
    """Acknowledged messages may be gone (a server that lost its disk): nothing is held against a run that has this."""


class Recorder:
    """Appends to one file of a history; usable from threads and after `fork`.

    Args:
        folder: Of the history.
        name: Of the process or the family of processes.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._fd = os.open(folder / f"{name}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._encoder = msgspec.json.Encoder()

    def note(self, f: str, type: Literal["invoke", "ok", "fail", "info"] = "info", /, **fields: Any) -> None:
        """Write an event of now."""
        event = Event(t=time.monotonic(), p=f"{self.name}:{os.getpid()}", f=f, type=type, **fields)
        os.write(self._fd, self._encoder.encode(event) + b"\n")

    def close(self) -> None:
        os.close(self._fd)


def read(folder: Path) -> Iterator[Event]:
    """All events of a history, in the order of their time, in bounded memory.

    Raises:
        ValueError: A line is no event; the message names file and line. The last line may be cut short.
    """
    return heapq.merge(*map(_read_file, sorted(folder.glob("*.jsonl"))), key=lambda event: event.t)


def _read_file(path: Path) -> Iterator[Event]:
    decoder = msgspec.json.Decoder(Event)
    waiting: list[tuple[float, int, Event]] = []
    latest = 0.0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break  # its writer was killed in the middle, or writes it now
            try:
                event = decoder.decode(line)
            except msgspec.MsgspecError as exc:
                raise ValueError(f"{path.name}, line {number}: {exc}: {line[:200]!r}") from exc
            latest = max(latest, event.t)
            heapq.heappush(waiting, (event.t, number, event))
            while waiting and waiting[0][0] < latest - _LATE_S:
                yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]
