"""Applications with flows, in memory, SQLite and Redis, and a worker in this process for each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from benchmarks.environments import UnavailableError
from flow_shop import Shop

from celeriac.testing.embedded import RunningWorker
from celeriac.testing.memory import memory_url
from servers.binaries import program
from servers.redis_server import RedisServer


@pytest.fixture
def shop() -> Iterator[Shop]:
    """In memory, without a worker."""
    made = Shop(memory_url())
    yield made
    made.app.close()


@pytest.fixture(scope="session")
def flow_redis() -> Iterator[RedisServer]:
    """One server for the tests of this folder; a fixture chosen by a parameter cannot ask for a parametrised one."""
    try:
        program("redis-server")
    except UnavailableError as exc:
        pytest.skip(f"redis-server: {exc}")
    with RedisServer(binary="redis-server") as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "apart", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return memory_url()
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/flows.db"
    if request.param == "apart":  # a result store that is not the broker's: no transaction holds both
        return f"sqlite:///{tmp_path}/flows.db sqlite:///{tmp_path}/results.db"
    server = request.getfixturevalue("flow_redis")
    server.empty()
    return str(server.url)


@pytest.fixture
def working(store_url: str) -> Iterator[Shop]:
    """On each engine, with a worker."""
    made = Shop(store_url)
    with RunningWorker(made.app, threads=2):
        yield made
    made.app.close()
