"""What the SQLite tests share: a fresh file, messages, waiting on conditions."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from celeriac.brokers.sqlite import SqliteBroker
from celeriac.results.sqlite import SqliteResultStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}?durability=process"


@pytest.fixture
def broker(url: str) -> Iterator[SqliteBroker]:
    broker = SqliteBroker(url)
    yield broker
    broker.close()


@pytest.fixture
def store(url: str) -> Iterator[SqliteResultStore]:
    store = SqliteResultStore(url)
    yield store
    store.close()


@pytest.fixture
def run_python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a script in a process of its own; killed at the end of the test if it still runs."""
    started: list[subprocess.Popen[str]] = []

    def run(script: str, *arguments: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
