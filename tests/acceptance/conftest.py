from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.environments import UnavailableError

sys.path.insert(0, str(Path(__file__).parent))

from acceptance_sides import APPLICATIONS, Environment, Run, Who

from servers import RedisServer
from servers.program import ProgramError

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
    """Runs an application on a side, once in a whole test run; `runs(side, name)` gives its outcomes by check.

    Test processes share what came of it, in a file: whoever wants it while another runs it waits.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def run(side: str, name: str) -> dict[str, Any]:
        application = APPLICATIONS[name]
        file = shared / f"outcomes of {name} with {side}.json".replace("'", "").replace(" ", "-")
        with file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                who: Who = "celery" if side.startswith("celery ") else "celeriac"
                folder = tmp_path_factory.mktemp(f"{application.app}-{side.replace(' ', '-')}")
                shared_redis.empty()
                redis, locks = (shared_redis.url_at(shared_redis.port, database=number) for number in (1, 2))
                broker = redis if side.endswith("redis") else f"sqlite:///{folder}/tasks.db"
                one = Run(environment(who), name, application, folder, broker, locks)
                try:
                    told = one.outcomes()
                except (ProgramError, subprocess.TimeoutExpired) as exc:  # not twice: it takes long
                    told = {"stderr": str(exc)}
                file.write_text(json.dumps(told))
            found: dict[str, Any] = json.loads(file.read_text())
            return found

    return run
