"""Somebody who waits for results, in a thread or on an event loop; shared by the stores that have a listener."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from celeriac.errors import CeleriacError
    from celeriac.model import StoredResult, TaskId


class Waiter:
    """Somebody who waits for the first final result among some ids; told from the listener's thread."""

    def __init__(self, ids: Collection[TaskId], loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.ids = frozenset(ids)
        self.found: Mapping[TaskId, StoredResult] = {}
        self.error: CeleriacError | None = None
        self.looked = False
        """The store was looked into for him at least once; kept by stores whose listener looks for everybody."""
        self._loop = loop
        self._event: threading.Event | None = None if loop else threading.Event()
        self.future: asyncio.Future[None] | None = loop.create_future() if loop else None

    def tell(self) -> None:
        """Let him go on."""
        if self._event is not None:
            self._event.set()
        elif self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._resolve)
            except RuntimeError:
                pass  # his loop was closed

    def wait(self, timeout_s: float) -> None:
        """Block until told."""
        assert self._event is not None, "made for an event loop"
        self._event.wait(timeout_s)

    def _resolve(self) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_result(None)
