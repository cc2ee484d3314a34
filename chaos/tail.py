"""Reads a history while it grows, each line once."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from chaos.history import Event

if TYPE_CHECKING:
    from pathlib import Path


class Tail:
    """What was written since the last look.

    Args:
        folder: Of the history.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self._decoder = msgspec.json.Decoder(Event)

    def poll(self) -> list[Event]:
        """New events: in order within a file, and so within a process; not over all of them."""
        found: list[Event] = []
        for path in self._folder.glob("*.jsonl"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]  # the rest of a line that is being written comes next time
            self._read[path] = self._read.get(path, 0) + len(whole)
            found += map(self._decoder.decode, whole.splitlines())
        return found


class Standing:
    """Where a run stands, by its history so far; `look` brings it up to date.

    Args:
        folder: Of the history.
    """

    def __init__(self, folder: Path) -> None:
        self._tail = Tail(folder)
        self.acknowledged: set[str] = set()
        """Ids that a producer was told are stored."""
        self.unanswered: dict[str, Event] = {}
        """The call of each id that a producer was told nothing certain about."""
        self.running: dict[str, str] = {}
        """The token of the latest run that has not ended, by id; runs of killed processes stay until the next."""
        self.ended: set[str] = set()
        self.latest_s = 0.0
        """When a task last began or ended."""
        self.starts: list[tuple[float, str]] = []
        """When each began, and where (`name:pid`), not quite in order."""
        self.faults: dict[str, Event] = {}
        """What began, by number."""
        self.over: dict[str, float] = {}
        """When it was over, by number."""

    def look(self) -> list[Event]:
        """Take in what is new, and return it."""
        new = self._tail.poll()
        for event in new:
            if event.f == "start":
                self.running[event.id] = event.token
                self.starts.append((event.t, event.p))
            elif event.f == "end":
                self.ended.add(event.id)
                if self.running.get(event.id) == event.token:
                    del self.running[event.id]
            elif event.f == "enqueue":
                if event.type == "invoke":
                    self.unanswered[event.id] = event
                elif event.type != "info":
                    self.unanswered.pop(event.id, None)
                if event.type == "ok":
                    self.acknowledged.add(event.id)
            elif event.f == "fault" and event.type == "invoke":
                self.faults[event.id] = event
            elif event.f == "fault":
                self.over[event.id] = event.t
            if event.f in {"start", "end"}:
                self.latest_s = max(self.latest_s, event.t)
        return new

    def first_start(self, since: float, where: str = "") -> float | None:
        """When something first began after `since`; with `where`, in a process `name:pid`, or in those of a name."""
        latest = islice(reversed(self.starts), 20_000)
        return min((t for t, p in latest if t > since and where in ("", p, p.partition(":")[0])), default=None)
