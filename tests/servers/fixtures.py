"""Fixtures of servers and of programs that are not ours. `tests/conftest.py` makes them known to all tests.

What takes long on a fresh machine, installing a package or building an environment, is done when the tests are
collected, before the first of them has its time limit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from benchmarks.environments import UnavailableError

from celeriac.testing import TcpProxy
from servers.binaries import program, rabbit_scripts, redis_kinds
from servers.celery_env import Age, CeleryEnvironment, CelerySide
from servers.node_env import NodeEnvironment
from servers.ports import claim_port
from servers.rabbit_server import RabbitServer
from servers.redis_cluster import RedisCluster
from servers.redis_sentinel import SentinelSetup
from servers.redis_server import RedisServer

AGES: tuple[Age, ...] = ("newest", "oldest")
_REDIS = frozenset({"redis_kind", "redis_server", "start_redis", "start_sentinels", "redis_cluster"})
_RABBIT = frozenset({"rabbit_server", "start_rabbit"})

_ready: dict[str, Any] = {}


def _prepare(what: str, make: Callable[[], Any]) -> None:
    if what not in _ready:
        try:
            _ready[what] = make()
        except UnavailableError as exc:
            _ready[what] = exc


def _get(what: str, make: Callable[[], Any]) -> Any:
    _prepare(what, make)
    if isinstance(found := _ready[what], UnavailableError):
        pytest.skip(f"{what}: {found}")
    return found


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly:
        return
    for item in session.items:
        names = set(getattr(item, "fixturenames", ()))
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if names & _REDIS:
            _prepare("redis-server", lambda: program("redis-server"))
        if names & _RABBIT or parameters.get("broker") == "rabbit":
            _prepare("rabbitmq-server", rabbit_scripts)
        if age := parameters.get("celery_env"):
            _prepare(f"celery-{age}", partial(CeleryEnvironment.build, age))
        if "celery_node" in names:
            _prepare("celery-node", NodeEnvironment.build)


@pytest.fixture(scope="session", params=redis_kinds())
def redis_kind(request: pytest.FixtureRequest) -> str:
    """`redis-server`, and `valkey-server` where it is installed."""
    if request.param == "redis-server":
        _get("redis-server", lambda: program("redis-server"))
    return str(request.param)


@pytest.fixture(scope="session")
def shared_redis(redis_kind: str) -> Iterator[RedisServer]:
    """One server for each test process, without persistence; tests take `redis_server`."""
    with RedisServer(binary=redis_kind) as server:
        yield server


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """The shared server, emptied. For tests that neither end nor reconfigure it; those take `start_redis`."""
    shared_redis.empty()
    return shared_redis


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Of the shared server, emptied."""
    return redis_server.url


@pytest.fixture
def start_redis(redis_kind: str) -> Iterator[Callable[..., RedisServer]]:
    """Starts servers of the test's own: `start_redis(persistence="always")`, with the arguments of RedisServer."""
    with ExitStack() as running:
        yield lambda **options: running.enter_context(RedisServer(binary=redis_kind, **options))


@pytest.fixture
def start_sentinels(redis_kind: str) -> Iterator[Callable[..., SentinelSetup]]:
    """Starts a master, replicas and sentinels: the arguments of SentinelSetup."""
    with ExitStack() as running:
        yield lambda **options: running.enter_context(SentinelSetup(binary=redis_kind, **options))


@pytest.fixture(scope="session")
def shared_cluster(redis_kind: str) -> Iterator[RedisCluster]:
    """One cluster for each test process; tests take `redis_cluster`."""
    with RedisCluster(binary=redis_kind) as cluster:
        yield cluster


@pytest.fixture
def redis_cluster(shared_cluster: RedisCluster) -> RedisCluster:
    """The shared cluster, emptied."""
    shared_cluster.empty()
    return shared_cluster


@pytest.fixture(scope="session")
def rabbit_server(tmp_path_factory: pytest.TempPathFactory) -> RabbitServer:
    """One server for all test processes. Tests neither end nor reconfigure it, and have vhosts of their own."""
    _get("rabbitmq-server", rabbit_scripts)
    place = tmp_path_factory.getbasetemp()
    return RabbitServer.shared((place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / "rabbit")


@pytest.fixture
def rabbit_vhost(rabbit_server: RabbitServer) -> Iterator[str]:
    """A new vhost of the shared server, removed after the test."""
    name = rabbit_server.vhost()
    yield name
    rabbit_server.delete_vhost(name, wait=False)


@pytest.fixture
def rabbit_url(rabbit_server: RabbitServer, rabbit_vhost: str) -> str:
    """Of that vhost."""
    return rabbit_server.url_of(rabbit_vhost)


@pytest.fixture
def start_rabbit() -> Iterator[Callable[..., RabbitServer]]:
    """Starts servers of the test's own: `start_rabbit(settings={…})`, with the arguments of RabbitServer."""
    _get("rabbitmq-server", rabbit_scripts)
    with ExitStack() as running:
        yield lambda **options: running.enter_context(RabbitServer(**options))


@pytest.fixture
def start_proxy() -> Iterator[Callable[..., TcpProxy]]:
    """Starts proxies: `start_proxy(*server.address)`."""
    with ExitStack() as running:
        yield lambda host, port: running.enter_context(TcpProxy(host, port, listen=claim_port()))


@pytest.fixture(scope="session", params=AGES)
def celery_env(request: pytest.FixtureRequest) -> CeleryEnvironment:
    """Celery 5.7, and the oldest 5.x that runs; for one of them, parametrise with `indirect=True`."""
    found: CeleryEnvironment = _get(f"celery-{request.param}", lambda: CeleryEnvironment.build(request.param))
    return found


@pytest.fixture
def celery(celery_env: CeleryEnvironment, redis_url: str, tmp_path: Path) -> Iterator[CelerySide]:
    """Real Celery on the shared Redis; the application is tests/interop/celery_app.py."""
    with CelerySide(celery_env, redis_url, tmp_path) as side:
        yield side


@pytest.fixture(scope="session")
def celery_node() -> NodeEnvironment:
    """The npm package `celery-node`."""
    found: NodeEnvironment = _get("celery-node", NodeEnvironment.build)
    return found
