"""Runs of flows whose workers are killed, again and again, at any moment."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers.redis_server import RedisServer

pytestmark = [pytest.mark.processes, pytest.mark.slow]

HERE = Path(__file__).parent
RUNS = 5
"""Begun before each kill."""
KILLS = 8
PATIENCE_S = 60.0


@pytest.fixture(params=["sqlite", "apart", "redis"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str | None]:
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("flow_redis")
        server.empty()
        return str(server.url), None
    return f"sqlite:///{tmp_path}/flows.db", f"sqlite:///{tmp_path}/apart.db" if request.param == "apart" else None


class Fleet:
    """Workers of `flow_killed`, each in a process group of its own."""

    def __init__(self, folder: Path, broker: str, backend: str | None) -> None:
        self._folder = folder
        self._environment = {**os.environ, "FLOW_BROKER": broker, "PYTHONPATH": str(HERE)}
        if backend is not None:
            self._environment["CELERIAC_RESULT_BACKEND"] = backend
        self._workers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        name = f"w{time.monotonic_ns()}"
        log = (self._folder / f"{name}.worker.log").open("wb")
        command = [sys.executable, "-m", "celeriac", "-A", "flow_killed", "worker", "-c", "2", "-n", name]
        with log:
            self._workers.append(
                subprocess.Popen(
                    command, env=self._environment, stdout=log, stderr=log, start_new_session=True, cwd=self._folder
                )
            )

    def kill(self) -> None:
        """Kill all processes of the worker that was started first."""
        worker = self._workers.pop(0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def close(self) -> None:
        while self._workers:
            self.kill()

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(self._folder.glob("*.worker.log")))


@pytest.fixture
def fleet(urls: tuple[str, str | None], tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, *urls)
    yield made
    made.close()


def test_every_run_ends_as_it_should(urls: tuple[str, str | None], fleet: Fleet) -> None:
    import flow_killed

    app = _pointed(flow_killed, urls)
    chance = random.Random(7)
    try:
        fleet.start()
        fleet.start()
        runs: list[tuple[int, Any]] = []
        for _ in range(KILLS):
            fleet.start()
            for _ in range(RUNS):
                count = chance.randrange(0, 8)
                runs.append((count, flow_killed.album.start(count)))
            wanted = len(runs) - RUNS  # as many again are under way when the next is killed
            stop = time.monotonic() + PATIENCE_S
            while sum(run.ready() for _, run in runs) < wanted:
                assert time.monotonic() < stop, f"fewer than {wanted} runs have ended\n{fleet.logs()}"
                app._result_store().wait([runs[-1][1].id], timeout_s=chance.uniform(0.01, 0.1))
            fleet.kill()
        for count, run in runs:
            try:
                assert run.get(PATIENCE_S) == flow_killed.expected(count)
            except Exception as exc:
                raise AssertionError(f"{exc!r}\n{run.draw()}\n{fleet.logs()}") from exc
            assert {step.state for step in run.steps.values()} == {"SUCCESS"}
    finally:
        app.close()


def test_steps_whose_process_is_killed(urls: tuple[str, str | None], fleet: Fleet) -> None:
    """The supervisor tells those who wait for them: it knows no flow, and has what is in their messages."""
    import flow_killed

    app = _pointed(flow_killed, urls)
    try:
        fleet.start()
        run = flow_killed.mortal.start()
        assert run.get(PATIENCE_S) == "late+dead", fleet.logs()
        assert "TimeLimitExceeded" in str(run.steps["stuck"].error)
        assert "WorkerLostError" in str(run.steps["deadly"].error)
    finally:
        app.close()


def _pointed(module: Any, urls: tuple[str, str | None]) -> Any:
    """The module's application, on these URLs; it has not been used before in this process, or is made anew."""
    from celeriac.app.settings import Conf

    app = module.app
    values = {name: getattr(app.settings, name) for name in app.settings.sources if name != "result_backend"}
    values["broker_url"] = urls[0]
    if urls[1] is not None:
        values["result_backend"] = urls[1]
    app.close()
    for name in ("broker", "results", "codec", "router", "submitter", "_publisher", "flow_host", "flow_ending"):
        app.__dict__.pop(name, None)
    app.conf = Conf(**values)
    return app
