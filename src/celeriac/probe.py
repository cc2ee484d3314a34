"""Points in production code that a test can wait for, instead of sleeping.

A component calls `probe.signal("claimed", count)`; in production that is one attribute look-up and a call that does
nothing. A test passes a `Probe` whose `wait()` returns once the named event has been signalled.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any


class Probe:
    """Records named events; thread-safe. `Probe.INERT` is what production uses."""

    INERT: InertProbe

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: defaultdict[str, list[Any]] = defaultdict(list)

    def signal(self, name: str, value: Any = None) -> None:
        """Note that `name` happened."""
        with self._changed:
            self._events[name].append(value)
            self._changed.notify_all()

    def events(self, name: str) -> list[Any]:
        """The values signalled under `name` so far, oldest first."""
        with self._changed:
            return list(self._events[name])

    def wait(self, name: str, *, count: int = 1, timeout_s: float = 10.0) -> list[Any]:
        """Block until `name` was signalled `count` times in all.

        Raises:
            TimeoutError: Says what was waited for and what had been signalled by then.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._events[name]) >= count, timeout_s):
                seen = {key: len(values) for key, values in self._events.items() if values}
                raise TimeoutError(f"waited {timeout_s} s for {count} x {name!r}; signalled so far: {seen}")
            return list(self._events[name])


class InertProbe(Probe):
    """Signals nothing and costs nothing."""

    def signal(self, name: str, value: Any = None) -> None:
        return


Probe.INERT = InertProbe()
