"""Celery's fleet and ours on one broker: both import the same application, but for the import and the class."""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from celeriac import Celeriac
from servers import CelerySide, Program, RedisServer, wait_until
from servers.celery_env import INTEROP, CeleryEnvironment, CeleryShell

only_newest = pytest.mark.parametrize("celery_env", ["newest"], indirect=True)
only_redis = pytest.mark.parametrize("broker", ["redis"], indirect=True)
"""For what is about kombu's lists and keys, or about the store that ours has there."""
only_rabbit = pytest.mark.parametrize("broker", ["rabbit"], indirect=True)

PLAIN = (None, True, 0, -(2**53), 1.5, "", "Grüße \u2028 \U0001f98a", [], {}, [1, [2, {"a": None}]], {"k": [1.0]})
EXTENDED = (
    dt.datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001 - naive is one of them
    dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC),
    dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
    dt.date(2026, 1, 2),
    dt.time(1, 2, 3),
    Decimal("1.50"),
    uuid.UUID(int=5),
    b"text",
    b"\xff\x00",
)
"""All for which Celery's JSON has a form of its own."""

APP = "celery_app"
"""Of both sides. What a task raises is of the same module on both, as it is where a team moves over."""


def ported(source: str) -> str:
    """The application of a newcomer: the import and the class are ours, nothing else is touched."""
    return source.replace("from celery import Celery\n", "from celeriac import Celeriac\n").replace(
        "Celery(", "Celeriac("
    )


class OurSide:
    """Workers and producers of celeriac; the counterpart of `CelerySide`."""

    def __init__(
        self,
        url: str,
        folder: Path,
        ledger: Path,
        settings: Mapping[str, Any] | None = None,
        *,
        source: Path | None = None,
        backend: str = "",
    ) -> None:
        self.url = url
        self.backend = backend or url
        self.ledger = ledger
        self._folder = folder / "ours"
        self._folder.mkdir(exist_ok=True)
        (self._folder / f"{APP}.py").write_text(ported((source or INTEROP / f"{APP}.py").read_text()))
        self._settings = dict(settings or {})
        self.programs: list[Program] = []
        self._apps: list[Celeriac] = []

    def _variables(self, settings: Mapping[str, Any]) -> dict[str, str]:
        return {
            "INTEROP_URL": self.url,
            "INTEROP_BACKEND": self.backend,
            "INTEROP_SETTINGS": json.dumps({**self._settings, **settings}),
            "INTEROP_LEDGER": str(self.ledger),
            "C_FORCE_ROOT": "1",
        }

    def worker(self, *options: str, name: str = "", ready: bool = True, **settings: Any) -> Program:
        """Start `celeriac worker`; one process unless `options` say otherwise."""
        name = name or f"celeriac{len(self.programs) + 1}"
        concurrency = () if "-c" in options else ("-c", "1")
        program = self._start(name, "worker", "-n", f"{name}@localhost", *concurrency, *options, **settings)
        if ready:
            program.wait_for_log("ready")
        return program

    def beat(self, *options: str, **settings: Any) -> Program:
        """Start `celeriac beat`."""
        return self._start("our-beat", "beat", "-l", "INFO", *options, **settings)

    def _start(self, log: str, *words: str, **settings: Any) -> Program:
        program = Program(
            [sys.executable, "-m", "celeriac", "-A", APP, *words],
            log=self._folder / f"{log}.log",
            environment={**os.environ, **self._variables(settings), "PYTHONPATH": str(self._folder)},
            directory=self._folder,
        )
        self.programs.append(program)
        return program

    def module(self, **settings: Any) -> ModuleType:
        """The application's module, imported here: a producer."""
        before = {name: os.environ.get(name) for name in self._variables({})}
        os.environ.update(self._variables(settings))
        try:
            spec = importlib.util.spec_from_file_location(APP, self._folder / f"{APP}.py")
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        # exceptions are looked up among the modules that are imported
        sys.modules[APP] = module
        self._apps.append(module.app)
        return module

    def close(self) -> None:
        for app in self._apps:
            app.close()
        sys.modules.pop(APP, None)
        for program in self.programs:
            program.signal_all(9)
            program.close()


class Fleet:
    """One broker with both sides on it, results in Redis, and one ledger.

    Args:
        environment: Celery's.
        server: Where results are; the broker, too, unless `url` names another.
        folder: For logs.
        theirs: Celery's settings.
        ours: Ours.
        url: Of the broker.
    """

    def __init__(
        self,
        environment: CeleryEnvironment,
        server: RedisServer,
        folder: Path,
        *,
        theirs: Mapping[str, Any] | None = None,
        ours: Mapping[str, Any] | None = None,
        url: str = "",
    ) -> None:
        self.age = environment.age
        self.server = server
        self.url = url or server.url
        self.is_on_redis = self.url == server.url
        self.folder = folder
        self.celery = CelerySide(environment, self.url, folder, settings=theirs, backend=server.url)
        self.celeriac = OurSide(
            self.url,
            folder,
            Path(self.celery.variables["INTEROP_LEDGER"]),
            {"result_allowed_exceptions": [f"{APP}.*"], **(ours or {})},
            backend=server.url,
        )
        self._shell: CeleryShell | None = None
        self._shop: ModuleType | None = None

    @property
    def shell(self) -> CeleryShell:
        """Celery's client."""
        if self._shell is None:
            self._shell = self.celery.shell()
        return self._shell

    @property
    def shop(self) -> ModuleType:
        """Our client: the application's module."""
        if self._shop is None:
            self._shop = self.celeriac.module()
        sys.modules[APP] = self._shop  # another fleet of this process has one of that name
        return self._shop

    def lines(self, part: str = "") -> list[str]:
        """Of the ledger, those with `part` in them."""
        return [line for line in self.celery.ledger if part in line]

    def wait_lines(self, part: str, count: int = 1, timeout_s: float = 15.0) -> list[str]:
        """Wait for so many lines with `part`."""
        try:
            return wait_until(
                lambda: lines if len(lines := self.lines(part)) >= count else None, f"{count} x {part!r}", timeout_s
            )
        except TimeoutError as exc:
            raise TimeoutError(f"{exc}; the ledger ends with {self.celery.ledger[-10:]}") from None

    def gate(self) -> Path:
        """A file that is not there yet; tasks wait for it."""
        return self.folder / f"gate-{os.urandom(4).hex()}"

    def state(self, task_id: str) -> str:
        """As Celery's client sees it."""
        return str(self.shell("AsyncResult(task_id).state", task_id=task_id))

    def wait_state(self, task_id: str, state: str) -> None:
        wait_until(lambda: self.state(task_id) == state, f"state {state} of {task_id}", 10.0)

    def wait_stored(self, queue: str, task_id: str) -> None:
        """Until a delayed message is in our layout; on RabbitMQ nobody can look, and it is there sooner or later."""
        if self.is_on_redis:
            wait_until(lambda: self.shop.app.broker.peek(queue, ids=[task_id]), "the task in the store")

    def is_stored(self, task_id: str) -> bool:
        """Whether there is a result, whatever its state."""
        return bool(self.server.cli().exists(f"celery-task-meta-{task_id}"))

    def close(self) -> None:
        self.celeriac.close()
        self.celery.close()


def elapsed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its seconds."""
    began = time.monotonic()
    value = call()
    return value, time.monotonic() - began
