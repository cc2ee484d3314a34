from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from interop_fleet import Fleet

from servers import RedisServer
from servers.celery_env import CeleryEnvironment


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A fleet is started once in each test process: the tests of one Celery go to one process (`--dist loadgroup`)."""
    for item in items:
        if Path(__file__).parent in item.path.parents and hasattr(item, "callspec"):
            item.add_marker(pytest.mark.xdist_group(f"interop-{item.callspec.params.get('celery_env', 'newest')}"))


@pytest.fixture(scope="session")
def fleet(celery_env: CeleryEnvironment, redis_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Celery's worker serves the queue `theirs`, ours serves `ours`; every client may send to both.

    All is as it is by default, but that our side is told which queue Celery's workers serve, and both take
    msgpack.
    """
    with RedisServer(binary=redis_kind) as server:
        fleet = Fleet(
            celery_env, server, tmp_path_factory.mktemp(f"fleet-{celery_env.age}"),
            theirs={"accept_content": ["json", "msgpack"]} if celery_env.age == "newest" else {},
            ours={"task_celery_queues": ["theirs*"], "accept_content": ["json", "msgpack"]},
        )  # fmt: skip
        try:
            theirs = fleet.celery.worker("-Q", "theirs", "-c", "2", name="theirs", ready=False)
            fleet.celeriac.worker("-Q", "ours", "-c", "2", name="ours")
            theirs.wait_for_log(" ready.")
            yield fleet
        finally:
            fleet.close()


@pytest.fixture
def make_fleet(
    celery_env: CeleryEnvironment, redis_server: RedisServer, tmp_path: Path
) -> Iterator[Callable[..., Fleet]]:
    """A fleet of a test's own, on the shared Redis, without workers yet: the arguments of Fleet by name."""
    with ExitStack() as made:

        def make(**options: Any) -> Fleet:
            fleet = Fleet(celery_env, redis_server, tmp_path, **options)
            made.callback(fleet.close)
            return fleet

        yield make
