"""The fixtures of this folder; what they give is in `fleet`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from control_fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Workers on a SQLite file."""
    with Fleet(tmp_path, f"sqlite:///{tmp_path}/queue.db") as fleet:
        yield fleet


@pytest.fixture
def redis_fleet(tmp_path: Path, redis_url: str) -> Iterator[Fleet]:
    """Workers on Redis."""
    with Fleet(tmp_path, redis_url) as fleet:
        yield fleet


@pytest.fixture(params=["sqlite", "redis"])
def here(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Iterator[Fleet]:
    """Workers on either engine with a store that can be looked into."""
    with Fleet(tmp_path, redis_url if request.param == "redis" else f"sqlite:///{tmp_path}/queue.db") as fleet:
        yield fleet


@pytest.fixture(params=["sqlite", "redis", "rabbit"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, rabbit_url: str) -> Iterator[Fleet]:
    """Workers on each engine."""
    urls = {"sqlite": f"sqlite:///{tmp_path}/queue.db", "redis": redis_url, "rabbit": rabbit_url}
    with Fleet(tmp_path, urls[request.param]) as fleet:
        yield fleet
