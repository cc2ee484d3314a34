from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "control"))

from control_fleet import Fleet
from rabbit_town import Town


@pytest.fixture
def found_town(rabbit_url: str) -> Iterator[Callable[..., Town]]:
    """Makes towns on the test's vhost: `found_town(task_queues=[…])`."""
    with ExitStack() as stack:

        def found(**settings: Any) -> Town:
            return stack.enter_context(Town(rabbit_url, **settings))

        yield found


@pytest.fixture
def rabbit_fleet(tmp_path: Path, rabbit_url: str) -> Iterator[Fleet]:
    """Workers in processes of their own."""
    with Fleet(tmp_path, rabbit_url) as fleet:
        yield fleet
