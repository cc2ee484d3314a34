from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.environments import UnavailableError

sys.path.insert(0, str(Path(__file__).parent))

from acceptance_sides import APPLICATIONS, Environment, Run, Who

from servers import RedisServer

_HERE = Path(__file__).parent
_environments: dict[str, Environment | UnavailableError] = {}

collect_ignore = ["applications", "as_celery"]


def _environment(who: Who) -> Environment | UnavailableError:
    if who not in _environments:
        try:
            _environments[who] = Environment.build(who)
        except UnavailableError as exc:
            _environments[who] = exc
    return _environments[who]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """An application is run once in each test process: what is asked of it goes to one process."""
    for item in items:
        if _HERE in item.path.parents and hasattr(item, "callspec"):
            side, application = (item.callspec.params.get(name, "") for name in ("side", "application"))
            item.add_marker(pytest.mark.xdist_group(f"acceptance-{application}-{side}"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Environments are built before the first test has its time limit."""
    if not session.config.option.collectonly and any(_HERE in item.path.parents for item in session.items):
        for who in ("celery", "celeriac"):
            _environment(who)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def environment() -> Callable[[Who], Environment]:
    """The interpreter with the packages and with one of the two."""

    def get(who: Who) -> Environment:
        found = _environment(who)
        if isinstance(found, UnavailableError):
            pytest.skip(f"{who}: {found}")
        return found

    return get


@pytest.fixture(scope="session")
def runs(
    environment: Callable[[Who], Environment], shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, Any]]:
    """Runs an application on a side, once; `runs(side, name)` gives its outcomes by check."""
    known: dict[tuple[str, ...], dict[str, Any] | Exception] = {}

    def run(side: str, name: str) -> dict[str, Any]:
        if (side, name) not in known:
            who: Who = "celery" if side.startswith("celery ") else "celeriac"
            folder = tmp_path_factory.mktemp(f"{APPLICATIONS[name].app}-{side.replace(' ', '-')}")
            shared_redis.empty()
            redis, locks = (shared_redis.url_at(shared_redis.port, database=number) for number in (1, 2))
            broker = redis if side.endswith("redis") else f"sqlite:///{folder}/tasks.db"
            one = Run(environment(who), name, APPLICATIONS[name], folder, broker, locks)
            try:
                known[side, name] = one.outcomes()
            except Exception as exc:  # not twice: it takes long
                known[side, name] = exc
        found_or_not = known[side, name]
        if isinstance(found_or_not, Exception):
            raise found_or_not
        return found_or_not

    return run
