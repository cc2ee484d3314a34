"""What limited messages pass through: per key a gate with its slots, its pace and the lines that wait before it.

A line is the waiting messages of one key and one queue, best first. Of each line only the head stands among the ready
messages of its queue, and only while its gate is open; a claim that finds the gate shut takes the head away, so
whatever waits behind is never looked at. What opens the gate (a slot, a token) puts the heads back.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celeriac.brokers.memory.queues import Entry
    from celeriac.model import Admission


class Gate:
    """One key. `held` counts what is handed out; `arrival` is GCRA's theoretical arrival time, wall clock."""

    __slots__ = ("admission", "arrival", "held", "is_timed", "lines")

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.held = 0
        self.arrival = 0.0
        self.is_timed = False
        """Somebody will look when the next token comes."""
        self.lines: dict[str, list[tuple[int, int, Entry]]] = {}

    @property
    def has_room(self) -> bool:
        """Whether a slot is free."""
        most = self.admission.concurrency
        return most is None or self.held < most

    @property
    def opens_at(self) -> float:
        """When the rate allows the next start."""
        return 0.0 if self.admission.interval_s is None else self.arrival - self.admission.slack_s

    def start(self, now: float) -> None:
        """Take a slot and a token."""
        self.held += 1
        if self.admission.interval_s is not None:
            self.arrival = max(now, self.arrival) + self.admission.interval_s

    def join(self, entry: Entry, queue: str, priority: int) -> None:
        """Put a message in its place in the line of its queue."""
        heappush(self.lines.setdefault(queue, []), (-priority, entry.order, entry))

    def head(self, queue: str) -> Entry | None:
        """The next of a line."""
        line = self.lines.get(queue)
        while line:
            entry = line[0][2]
            if entry.message is not None:
                return entry
            heappop(line)  # cancelled
        self.lines.pop(queue, None)
        return None

    def pop(self, queue: str) -> None:
        """The head of a line was taken."""
        heappop(self.lines[queue])

    def heads(self) -> Iterable[Entry]:
        """The next of every line."""
        return [head for queue in list(self.lines) if (head := self.head(queue)) is not None]

    def is_idle(self, now: float) -> bool:
        """Whether nothing would be lost without it."""
        return not self.held and not self.is_timed and self.arrival <= now and not any(map(self.head, list(self.lines)))
