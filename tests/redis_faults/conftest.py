"""The fixtures of this folder; what they give is in `fleet`."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fleet import Fleet


@pytest.fixture
def start_fleet(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Makes fleets: `start_fleet(url, **settings)`; ends their workers."""
    with ExitStack() as running:
        yield lambda url, **settings: running.enter_context(closing(Fleet(tmp_path, url, **settings)))


@pytest.fixture
def luck(request: pytest.FixtureRequest) -> random.Random:
    """Chance that can be had again: the seed is printed, and FAULTS_SEED sets it."""
    import os

    seed: Any = os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(1 << 32)
    print(f"FAULTS_SEED={seed}")
    return random.Random(int(seed))
