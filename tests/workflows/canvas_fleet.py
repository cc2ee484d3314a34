"""Our side of the workflow tests: `canvas_app` with its import changed, its workers, and how they die."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from celeriac.testing import RunningWorker
from servers import Program, wait_until

HERE = Path(__file__).parent
APP = "canvas_app"


class OurCanvas:
    """Producers and workers of `canvas_app` as ours; all ended by `close`.

    Args:
        folder: For the application, logs and the ledger.
        url: Of the broker.
        results: Of the results, where they are kept elsewhere.
        settings: Of the application.
        ledger: Where tasks write; in `folder` unless given.
    """

    def __init__(
        self, folder: Path, url: str, *, results: str | None = None, ledger: Path | None = None, **settings: Any
    ) -> None:
        self.folder = folder / "ours"
        self.folder.mkdir(exist_ok=True)
        self.url = url
        self.ledger = ledger or folder / "ledger"
        self.workers: list[Program] = []
        self.settings = {"result_allowed_exceptions": [f"{APP}.*"], **settings}
        self.variables = {
            "INTEROP_URL": url,
            "INTEROP_SETTINGS": json.dumps(self.settings),
            "INTEROP_LEDGER": str(self.ledger),
            **({"CANVAS_RESULTS": results} if results else {}),
        }
        source = (HERE / f"{APP}.py").read_text()
        (self.folder / f"{APP}.py").write_text(
            source.replace("from celery import Celery\n", "from celeriac import Celeriac as Celery\n")
        )
        self._module: ModuleType | None = None

    @property
    def module(self) -> ModuleType:
        """The application's module, imported here: a producer."""
        if self._module is None:
            with self.environment():
                spec = importlib.util.spec_from_file_location(APP, self.folder / f"{APP}.py")
                assert spec is not None
                assert spec.loader is not None
                self._module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(self._module)
        sys.modules[APP] = self._module  # exceptions are looked up among the modules that are imported
        return self._module

    @property
    def app(self) -> Any:
        return self.module.app

    @contextmanager
    def environment(self) -> Iterator[None]:
        """With this side's variables in this process."""
        before = {name: os.environ.get(name) for name in self.variables}
        os.environ.update(self.variables)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def worker(self, *options: str, app: str = APP, ready: bool = True, **variables: str) -> Program:
        """Start a worker, of two processes unless `options` say otherwise."""
        name = f"w{len(self.workers)}"
        concurrency = () if "-c" in options else ("-c", "2")
        program = Program(
            [sys.executable, "-m", "celeriac", "-A", app, "worker", "-n", f"{name}@ours", *concurrency, *options],
            log=self.folder / f"{name}.log",
            environment={
                **os.environ, **self.variables, **variables, "PYTHONPATH": f"{self.folder}{os.pathsep}{HERE}"
            },
            directory=self.folder,
        )  # fmt: skip
        self.workers.append(program)
        if ready:
            program.wait_for_log("ready")
        return program

    @contextmanager
    def embedded(self) -> Iterator[RunningWorker]:
        """A worker in threads of this process, for what is kept in memory."""
        with self.environment():
            worker = RunningWorker(self.app, threads=4)
            worker.start()
            try:
                yield worker
            finally:
                worker._end(grace_s=0.0)

    def depths(self) -> dict[str, int]:
        """What is in the queues, whatever its state, dead letters not counted."""
        return {
            queue: found
            for queue, depth in self.app.broker.depth().items()
            if (found := depth.ready + depth.delayed + depth.held)
        }

    def lines(self, **of: Any) -> list[dict[str, Any]]:
        """The ledger's lines that have these values."""
        if not self.ledger.exists():
            return []
        whole, _, _ = self.ledger.read_text().rpartition("\n")
        found = [json.loads(line) for line in whole.splitlines()]
        return [line for line in found if all(line.get(key) == value for key, value in of.items())]

    def wait(self, condition: Any, what: str, timeout_s: float = 20.0) -> Any:
        """Wait for it; the error shows what the workers wrote last."""
        try:
            return wait_until(condition, what, timeout_s)
        except TimeoutError as exc:
            raise AssertionError(f"{exc}; in the queues: {self.depths()}\n{self.logs()}") from None

    def wait_idle(self, timeout_s: float = 30.0) -> None:
        """Wait until nothing is in any queue."""
        self.wait(lambda: not self.depths(), "empty queues", timeout_s)

    def logs(self) -> str:
        return "\n".join(f"--- {worker.name}\n{worker.log[-3000:]}" for worker in self.workers)

    def close(self) -> None:
        if self._module is not None:
            self._module.app.close()
            if sys.modules.get(APP) is self._module:
                del sys.modules[APP]
        for worker in self.workers:
            worker.signal_all(9)
            worker.close()


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What differs, in words for a failed test."""
    lines = []
    for key in sorted({*found, *wanted}):
        if found.get(key) != wanted.get(key):
            lines += [
                f"{key}: {json.dumps(found.get(key))}",
                f"{' ' * len(key)}  {json.dumps(wanted.get(key))} is wanted",
            ]
    return "\n".join(lines)
