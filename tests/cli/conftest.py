from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from celeriac import Celeriac
from celeriac.cli.root import root
from celeriac.model import Bury, new_incarnation

SHOP = """
from celeriac import Celeriac

app = Celeriac("shop", broker="sqlite:///shop.db")


@app.task
def add(a: int, b: int) -> int:
    return a + b


@app.task
def fail(word: str) -> None:
    raise ValueError(word)


@app.task
def shout(word: str) -> None:
    print(word, flush=True)
"""


class Run:
    """What a command did."""

    def __init__(self, result: click.testing.Result) -> None:
        self.code = result.exit_code
        self.out = result.stdout
        self.err = result.stderr
        self.exception = result.exception if not isinstance(result.exception, SystemExit) else None

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.out}\n--- stderr\n{self.err}\n{self.exception!r}"


Command = Callable[..., Run]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with shop.py in it."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("CELERIAC_APP", raising=False)
    monkeypatch.delitem(sys.modules, "shop", raising=False)  # another folder's tests have one of that name
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if (file := getattr(sys.modules[name], "__file__", None)) and file.startswith(str(tmp_path)):
            app = getattr(sys.modules[name], "app", None)
            if isinstance(app, Celeriac):
                app.close()
            del sys.modules[name]


@pytest.fixture
def celeriac(place: Path) -> Command:
    """Runs `celeriac` in this process."""

    def run(*args: str, stdin: str | None = None, env: dict[str, str] | None = None) -> Run:
        return Run(click.testing.CliRunner().invoke(root, list(args), input=stdin, env=env))

    return run


@pytest.fixture
def app(place: Path) -> Iterator[Celeriac]:
    """Another process's view of the same store: an application of its own on it."""
    with Celeriac("other", broker=f"sqlite:///{place / 'shop.db'}") as made:
        yield made


@pytest.fixture
def bury(app: Celeriac) -> Callable[..., Any]:
    """Publishes a task and gives it up, as a worker does; returns its id."""

    async def bury(name: str = "shop.add", *args: Any, queue: str = "celery", reason: str = "it broke") -> str:
        sent = app.send_task(name, args, queue=queue)
        consumer = await app.broker.open_consumer([queue], incarnation=new_incarnation(), lease_s=30)
        deliveries = {each.id: each for each in await consumer.claim(limit=10, wait_s=5)}
        await consumer.settle([Bury(delivery=deliveries[sent.id], reason=reason, detail="Traceback: here")])
        await consumer.close()
        return str(sent.id)

    return bury


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `celeriac` in a process of its own; ends what is left."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: str, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "celeriac", *args],
            cwd=place,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
