from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from canvas_fleet import OurCanvas


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The table runs once on each engine: its tests go to one process (`--dist loadgroup`)."""
    for item in items:
        engine = item.callspec.params.get("observed") if hasattr(item, "callspec") else None
        if Path(__file__).parent in item.path.parents and engine:
            item.add_marker(pytest.mark.xdist_group(f"canvas-{engine}"))


@pytest.fixture
def make_canvas(tmp_path: Path) -> Iterator[Callable[..., OurCanvas]]:
    """Makes our side: the arguments of OurCanvas behind the folder."""
    with ExitStack() as made:
        yield lambda url, **options: made.enter_context(closing(OurCanvas(tmp_path, url, **options)))


@pytest.fixture
def luck() -> random.Random:
    """Chance that can be had again: the seed is printed, and FAULTS_SEED sets it."""
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"FAULTS_SEED={seed}")
    return random.Random(seed)
