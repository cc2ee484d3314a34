"""Deletes results whose time is over. Every worker does it; whoever comes first finds the work, the others none."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from celeriac.clock import ENTROPY

if TYPE_CHECKING:
    from celeriac.clock import Clock
    from celeriac.interfaces import ResultStore

_log = logging.getLogger("celeriac.worker")

EVERY_S: Final = 60.0
"""Between two looks, on average: workers that were started together shall not look together."""
BATCH: Final = 1000
"""Results of one transaction: a few milliseconds of the write lock."""


async def keep_clean(results: ResultStore, clock: Clock) -> None:
    """Delete expired results until cancelled. What goes wrong is logged and tried again at the next look."""
    while True:
        await clock.sleep(EVERY_S * ENTROPY.uniform(0.5, 1.5))
        try:
            while await asyncio.to_thread(results.expire, limit=BATCH) == BATCH:
                await clock.sleep(0.05)  # others want to write too
        except Exception as exc:
            _log.warning("expired results could not be deleted: %s", exc)
