"""Applications with flows, in memory, SQLite and Redis, and a worker in this process for each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from flow_shop import Shop

from celeriac.testing.embedded import RunningWorker
from celeriac.testing.memory import memory_url


@pytest.fixture
def shop() -> Iterator[Shop]:
    """In memory, without a worker."""
    made = Shop(memory_url())
    yield made
    made.app.close()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return memory_url()
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/flows.db"
    return str(request.getfixturevalue("redis_url"))


@pytest.fixture
def working(store_url: str) -> Iterator[Shop]:
    """On each engine, with a worker."""
    made = Shop(store_url)
    with RunningWorker(made.app, threads=2):
        yield made
    made.app.close()
