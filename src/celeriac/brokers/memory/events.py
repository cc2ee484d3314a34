"""Events among the adapters of one space: to the receivers that are open, each with a bounded queue of its own."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from celeriac.storage.memory import open_space

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celeriac.storage.memory import MemorySpace

MOST_KEPT: Final = 100_000
"""Events that a receiver has not taken; more push the oldest out."""


class Receivers:
    """Who listens in a space; the space's lock guards it."""

    def __init__(self) -> None:
        self.all: dict[MemoryEventReceiver, None] = {}


class MemoryEvents:
    """An event channel within this process.

    Args:
        url: The broker's URL.
    """

    def __init__(self, url: str = "memory://") -> None:
        self._space = open_space(url)
        self._receivers = self._space.part(Receivers)

    def publish(self, events: Sequence[Mapping[str, Any]], /) -> None:
        with self._space.lock:
            receivers = list(self._receivers.all)
        for receiver in receivers:
            receiver.put(events)

    async def apublish(self, events: Sequence[Mapping[str, Any]], /) -> None:
        self.publish(events)

    def listen(self) -> MemoryEventReceiver:
        return MemoryEventReceiver(self._space)

    async def aclose(self) -> None:
        """There is no connection."""

    def close(self) -> None:
        """There is no connection."""


class MemoryEventReceiver:
    """One listener."""

    def __init__(self, space: MemorySpace) -> None:
        self._space = space
        self._changed = threading.Condition()
        self._events: deque[Mapping[str, Any]] = deque(maxlen=MOST_KEPT)
        self._receivers = space.part(Receivers)
        with space.lock:
            self._receivers.all[self] = None

    def put(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Take what was published; from any thread."""
        with self._changed:
            self._events.extend(events)
            self._changed.notify_all()

    def receive(self, /, *, timeout_s: float) -> Sequence[Mapping[str, Any]]:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._events), timeout_s)
            found = list(self._events)
            self._events.clear()
            return found

    def close(self) -> None:
        with self._space.lock:
            self._receivers.all.pop(self, None)
