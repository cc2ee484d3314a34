"""Somebody who waits for all of some results, in an order of his own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from celeriac.results.waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from celeriac.model import StoredResult, TaskId


class Gatherer(Waiter):
    """Stays until all of its results have come, each once; its thread is woken for the one it waits for only."""

    def __init__(self, ids: Collection[TaskId]) -> None:
        super().__init__(ids)
        self.got: dict[TaskId, StoredResult] = {}
        self._wanted: TaskId | None = None
        self._came = threading.Event()

    def take(self, found: Mapping[TaskId, StoredResult]) -> None:
        """Of the listener's thread: these have come."""
        self.got.update(found)
        if self._wanted in self.got:
            self._came.set()

    def tell(self) -> None:
        """Of the listener's thread: it is over, with an error."""
        self._came.set()

    def wait_for(self, task_id: TaskId, timeout_s: float) -> StoredResult | None:
        """Block until this one has come; None after `timeout_s`.

        Raises:
            CeleriacError: The listener has given up.
        """
        self._wanted = task_id
        self._came.clear()  # before the look: what comes from here on sets it
        if task_id not in self.got and self.error is None:
            self._came.wait(timeout_s)
        result = self.got.pop(task_id, None)
        if result is None and self.error is not None:
            raise self.error
        return result
