"""How to open each adapter under test; the SQLite ones are imported when asked for."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from celeriac.brokers.memory import MemoryBroker
from celeriac.model import new_task_id
from celeriac.results.memory import MemoryResultStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from celeriac.clock import Clock
    from celeriac.interfaces import Broker, ResultStore

ENGINES = ("memory", "sqlite")
WAYS = (*ENGINES, "sqlite, full")
"""An SQLite file that syncs each commit does its work in another thread."""


def fresh_url(engine: str, folder: Path) -> str:
    """The URL of a store that nobody else uses."""
    if engine == "memory":
        return f"memory://{new_task_id()}"
    return f"sqlite:///{folder / new_task_id()}.db{'?durability=full' if engine == 'sqlite, full' else ''}"


def open_broker(url: str, clock: Clock) -> Broker:
    if url.startswith("memory:"):
        return MemoryBroker(url, clock=clock)
    from celeriac.brokers.sqlite import SqliteBroker

    return SqliteBroker(url, durability="process", clock=clock)


def open_results(url: str, clock: Clock) -> ResultStore:
    if url.startswith("memory:"):
        return MemoryResultStore(url, clock=clock)
    from celeriac.results.sqlite import SqliteResultStore

    return SqliteResultStore(url, durability="process", clock=clock)


def store_opener(engine: str, folder: Path) -> Callable[[Clock], AbstractContextManager[tuple[Broker, ResultStore]]]:
    """For the model: a fresh store for each history."""

    @contextmanager
    def open_store(clock: Clock) -> Iterator[tuple[Broker, ResultStore]]:
        url = fresh_url(engine, folder)
        broker, results = open_broker(url, clock), open_results(url, clock)
        try:
            yield broker, results
        finally:
            broker.close()
            results.close()
            for path in folder.glob(f"{Path(url).name}*"):
                if path.is_file():
                    path.unlink()

    return open_store
