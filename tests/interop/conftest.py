from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from interop_fleet import Fleet

from servers import RabbitServer, RedisServer
from servers.celery_env import CeleryEnvironment


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A fleet is started once in each test process: the tests of one go to one process (`--dist loadgroup`).

    On RabbitMQ there is the newest Celery only, with results on the first kind of Redis.
    """
    too_many = []
    for item in items:
        if Path(__file__).parent in item.path.parents and hasattr(item, "callspec"):
            chosen = item.callspec.params
            age, broker = chosen.get("celery_env", "newest"), chosen.get("broker", "redis")
            item.add_marker(pytest.mark.xdist_group(f"interop-{age}-{broker}"))
            if broker == "rabbit" and (age != "newest" or chosen.get("redis_kind", "redis-server") != "redis-server"):
                too_many.append(item)
    if too_many:
        config.hook.pytest_deselected(items=too_many)
        items[:] = [item for item in items if item not in set(too_many)]


@pytest.fixture(scope="session", params=["redis", "rabbit"])
def broker(request: pytest.FixtureRequest) -> str:
    """What carries the messages."""
    return str(request.param)


@pytest.fixture(scope="session")
def broker_url(broker: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Makes URLs of brokers that are not the Redis of the results; "" where they are."""
    if broker == "redis":
        yield lambda: ""
        return
    server: RabbitServer = request.getfixturevalue("rabbit_server")
    made: list[str] = []

    def make() -> str:
        made.append(server.vhost())
        return server.url_of(made[-1])

    yield make
    for name in made:
        server.delete_vhost(name, wait=False)


@pytest.fixture(scope="session")
def fleet(
    celery_env: CeleryEnvironment,
    redis_kind: str,
    broker: str,
    broker_url: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    """Celery's worker serves the queue `theirs`, ours serves `ours`; every client may send to both.

    All is as it is by default, but that our side is told which queue Celery's workers serve, and both take
    msgpack.
    """
    with RedisServer(binary=redis_kind) as server:
        fleet = Fleet(
            celery_env, server, tmp_path_factory.mktemp(f"fleet-{celery_env.age}"),
            theirs={"accept_content": ["json", "msgpack"]} if celery_env.age == "newest" else {},
            # on RabbitMQ it says how a queue is declared that both are going to declare
            ours={
                "task_celery_queues": ["theirs*", "ours*"][: 1 if broker == "redis" else 2],
                "task_unknown_wait": 0,
                "accept_content": ["json", "msgpack"],
            },
            url=broker_url(),
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
    celery_env: CeleryEnvironment, redis_server: RedisServer, broker_url: Callable[[], str], tmp_path: Path
) -> Iterator[Callable[..., Fleet]]:
    """A fleet of a test's own, on shared servers, without workers yet: the arguments of Fleet by name."""
    with ExitStack() as made:

        def make(**options: Any) -> Fleet:
            fleet = Fleet(celery_env, redis_server, tmp_path, **{"url": broker_url(), **options})
            made.callback(fleet.close)
            return fleet

        yield make
