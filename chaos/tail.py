"""Reads a history while it grows, each line once."""

from __future__ import annotations

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
        self.running: dict[str, str] = {}
        """The token of the latest run that has not ended, by id; runs of killed processes stay until the next."""
        self.ended: set[str] = set()
        self.latest_s = 0.0
        """When a task last began or ended."""

    def look(self) -> list[Event]:
        """Take in what is new, and return it."""
        new = self._tail.poll()
        for event in new:
            if event.f == "start":
                self.running[event.id] = event.token
            elif event.f == "end":
                self.ended.add(event.id)
                if self.running.get(event.id) == event.token:
                    del self.running[event.id]
            elif event.f == "enqueue" and event.type == "ok":
                self.acknowledged.add(event.id)
            if event.f in {"start", "end"}:
                self.latest_s = max(self.latest_s, event.t)
        return new
