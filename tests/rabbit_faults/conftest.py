"""The fixtures of this folder; what they give is in `rabbit_fleet`, and in `fleet` of the faults on Redis."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "redis_faults"))

from rabbit_fleet import RabbitFleet

from servers import RabbitServer


@pytest.fixture(scope="module")
def own_server() -> Iterator[RabbitServer]:
    """A server that the tests of one module, in one process, may end and start again; whoever does so starts it."""
    with RabbitServer() as server:
        yield server


@pytest.fixture
def faulty(start_rabbit: Any, own_server: RabbitServer) -> Iterator[RabbitServer]:
    """That server, running, with `/` empty."""
    del start_rabbit  # skips where there is no server
    own_server.start()
    own_server.clear_alarm()
    own_server.delete_vhost("/")
    own_server.vhost("/")
    yield own_server
    if own_server.is_running:
        own_server.thaw()


@pytest.fixture
def start_rabbit_fleet(tmp_path: Path) -> Iterator[Callable[..., RabbitFleet]]:
    """Makes fleets: `start_rabbit_fleet(url, **settings)`; ends their workers."""
    with ExitStack() as running:
        yield lambda url, **settings: running.enter_context(closing(RabbitFleet(tmp_path, url, **settings)))


@pytest.fixture
def luck(request: pytest.FixtureRequest) -> random.Random:
    """Chance that can be had again: the seed is printed, and FAULTS_SEED sets it."""
    import os

    seed: Any = os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(1 << 32)
    print(f"FAULTS_SEED={seed}")
    return random.Random(int(seed))
