"""The fixtures of this folder; what they give is in `beat_crew`."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from benchmarks.environments import UnavailableError

sys.path.insert(0, str(Path(__file__).parent))

from beat_crew import Crew

from servers.binaries import program
from servers.redis_cluster import RedisCluster
from servers.redis_server import RedisServer

ENGINES = ("sqlite", "redis")


@pytest.fixture(scope="session")
def beats_redis() -> Iterator[RedisServer]:
    with RedisServer(binary=_binary()) as server:
        yield server


@pytest.fixture(scope="session")
def beats_cluster() -> Iterator[RedisCluster]:
    with RedisCluster(binary=_binary()) as cluster:
        yield cluster


def _binary() -> str:
    try:
        return program("redis-server")
    except UnavailableError as exc:
        pytest.skip(f"redis-server: {exc}")


@pytest.fixture(params=ENGINES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A broker that keeps schedules: a file, or a server; `cluster` where a test asks for it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'beats.db'}"
    server: RedisServer | RedisCluster = request.getfixturevalue(f"beats_{request.param}")
    server.empty()
    return server.url


@pytest.fixture
def make_crew(tmp_path: Path) -> Iterator[Callable[..., Crew]]:
    """Makes crews: `make_crew(url, schedule, **settings)`; ends their programs."""
    with ExitStack() as running:

        def make(url: str, schedule: dict[str, Any], **more: Any) -> Crew:
            return running.enter_context(closing(Crew(tmp_path, url, schedule, **more)))

        yield make


@pytest.fixture
def luck(request: pytest.FixtureRequest) -> random.Random:
    """Chance that can be had again: the seed is printed, and BEATS_SEED sets it."""
    import os

    seed: Any = os.environ.get("BEATS_SEED") or random.SystemRandom().randrange(1 << 32)
    print(f"BEATS_SEED={seed}")
    return random.Random(int(seed))
