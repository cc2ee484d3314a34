"""Expired results are deleted, in batches, and again after an error."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from celeriac.model import StoredResult
from celeriac.results.memory import MemoryResultStore
from celeriac.testing import ManualClock
from celeriac.worker.janitor import BATCH, EVERY_S, keep_clean

if TYPE_CHECKING:
    import pytest


class Clumsy:
    """Fails at the first look and counts the others."""

    def __init__(self, store: MemoryResultStore) -> None:
        self.store = store
        self.looks: list[int] = []

    def expire(self, *, limit: int) -> int:
        if not self.looks:
            self.looks.append(0)
            raise OSError("the disk is full")
        self.looks.append(self.store.expire(limit=limit))
        return self.looks[-1]


async def test_expired_results_are_deleted_though_the_first_look_fails(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    store = MemoryResultStore("memory://janitor", clock=clock)
    count = BATCH + 5
    gone = [f"gone-{number}" for number in range(count)]
    stored = [StoredResult(id=one, state="SUCCESS", payload=b"{}", expires_at=clock.time() + 1) for one in gone]
    store.put([*stored, StoredResult(id="kept", state="SUCCESS", payload=b"{}", expires_at=None)])
    clumsy: Any = Clumsy(store)
    task = asyncio.create_task(keep_clean(clumsy, clock))
    async with asyncio.timeout(20):
        while sum(clumsy.looks) < count:
            clock.advance(EVERY_S / 4)
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "expired results could not be deleted: the disk is full" in caplog.text
    assert store.get([*gone, "kept"]).keys() == {"kept"}
