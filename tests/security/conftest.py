from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from guarded_shop import Shop, keys_in

from servers import RedisServer
from servers.binaries import program

ENGINES = ("sqlite", "redis", "rabbit", "memory")


@pytest.fixture(scope="session")
def guarded_redis() -> Iterator[RedisServer]:
    program("redis-server")
    with RedisServer() as server:
        yield server


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Where broker and results are."""
    if request.param == "sqlite":
        return {"url": f"sqlite:///{tmp_path}/shop.db"}
    if request.param == "redis":
        server = request.getfixturevalue("guarded_redis")
        server.empty()
        return {"url": server.url}
    if request.param == "rabbit":
        return {"url": request.getfixturevalue("rabbit_url"), "backend": f"sqlite:///{tmp_path}/results.db"}
    return {"url": f"memory://{tmp_path.name}"}


@pytest.fixture
def start_shop(place: dict[str, Any], tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Makes shops on one engine, which share a key file unless told else."""
    keys = keys_in(tmp_path)
    made: list[Shop] = []

    def start(**settings: Any) -> Shop:
        made.append(Shop(**{**place, "keys": keys, **settings}))
        return made[-1]

    yield start
    for shop in made:
        shop.app.close()


@pytest.fixture
def shop(start_shop: Callable[..., Shop]) -> Shop:
    return start_shop()
