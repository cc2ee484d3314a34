"""Real Celery, in virtual environments of its own, as separate processes."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from benchmarks.environments import python_environment

from servers.keeper import KEEPER
from servers.ports import claim_port
from servers.program import PATIENCE_S, Program, ProgramError

INTEROP = Path(__file__).parents[1] / "interop"
"""Where the modules are that Celery's processes import."""

Age = Literal["newest", "oldest"]

NEWEST = "5.7.0"
_NEWEST_REQUIREMENTS = (f"celery[redis]=={NEWEST}", "flower==2.2.*", "hiredis", "msgpack")

OLDEST = "5.3.0" if sys.version_info >= (3, 13) else "5.0.0"
"""The oldest 5.x that still runs a task on Redis on this Python, found by trying.

5.0.0 is the first 5.x and works on 3.11 and 3.12; on 3.13 all before 5.3 fail (`logging._acquireLock` in 5.0,
`EntryPoints.get` in 5.2). Its dependencies are pinned to its own time, as their newest releases no longer fit:

- pip below 24.1: later ones refuse 5.0's metadata (`pytz>dev`).
- setuptools below 81: it imports `pkg_resources`.
- click below 8: 5.0.0 does not say so, and its command line is of click 7.
- kombu 5.0.2 with redis-py 3.5.3, of the same time; on 3.12 kombu 5.3 is the first that works (`EntryPoints.get`),
  and takes redis-py 4.5 and later.
"""


def _oldest_requirements() -> tuple[str, ...]:
    same = (f"celery=={OLDEST}", "setuptools<81")
    if sys.version_info >= (3, 13):
        return (*same, "kombu==5.3.0", "redis==4.5.5", "vine==5.0.0")
    if sys.version_info >= (3, 12):
        return (*same, "kombu==5.3.0", "redis==4.5.5", "vine==5.0.0", "amqp<5.2", "click<8")
    return (*same, "kombu==5.0.2", "redis==3.5.3", "vine==5.0.0", "amqp<5.1", "click<8")


@dataclass(frozen=True)
class CeleryEnvironment:
    """An interpreter with Celery."""

    age: Age
    version: str
    python: str

    @classmethod
    def build(cls, age: Age) -> CeleryEnvironment:
        """Find it, or make it once for this machine.

        Raises:
            UnavailableError: It cannot be made.
        """
        if age == "newest":
            return cls(age, NEWEST, python_environment(f"celery-{NEWEST}-flower-msgpack", _NEWEST_REQUIREMENTS))
        python = python_environment(f"celery-{OLDEST}", _oldest_requirements(), pip="pip<24.1")
        return cls(age, OLDEST, python)


class CeleryCallError(Exception):
    """A call in a shell raised; `kind` is the exception's class name there, `text` its words."""

    def __init__(self, kind: str, text: str, trace: str) -> None:
        super().__init__(f"{kind}: {text}\n{trace}")
        self.kind = kind
        self.text = text


class CelerySide:
    """Celery on one broker: workers, clients and programs of an environment, all ended by `close`.

    Args:
        environment: Which Celery.
        url: Broker, and result backend unless that is given.
        folder: For logs.
        app: A module in tests/interop, or in `path`.
        settings: For the application, over those of the module; JSON values.
        path: Where `app` can be imported from.
        backend: Result backend.
    """

    def __init__(
        self,
        environment: CeleryEnvironment,
        url: str,
        folder: Path,
        *,
        app: str = "celery_app",
        settings: Mapping[str, Any] | None = None,
        path: Path = INTEROP,
        backend: str = "",
    ) -> None:
        self.environment = environment
        self.url = url
        self._folder = folder
        self._app = app
        self.variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CELERY"))},
            "PYTHONPATH": str(path),
            "PYTHONUNBUFFERED": "1",
            "INTEROP_URL": url,
            "INTEROP_BACKEND": backend or url,
            "INTEROP_SETTINGS": json.dumps(dict(settings or {})),
            "INTEROP_LEDGER": str(folder / "celery-ledger"),
            "C_FORCE_ROOT": "1",
            "FLOWER_UNAUTHENTICATED_API": "1",
        }
        self._count = 0
        self._programs: list[Program] = []
        self._shells: list[CeleryShell] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End all of it."""
        for shell in self._shells:
            shell.close()
        for program in self._programs:
            program.signal_all(9)  # nothing that a test still wants to know comes from a worker's good order
            program.close()

    @property
    def ledger(self) -> list[str]:
        """What tasks wrote with `interop.record`, in order; one line for each run."""
        path = Path(self.variables["INTEROP_LEDGER"])
        return path.read_text().splitlines() if path.exists() else []

    def worker(self, *options: str, name: str = "", ready: bool = True, timeout_s: float = PATIENCE_S) -> Program:
        """Start a worker; one process unless `options` say otherwise. Its node is called `name@localhost`.

        Args:
            options: Of `celery worker`.
            name: `celery1` and so on unless given.
            ready: Wait until it consumes.
            timeout_s: For that.
        """
        self._count += 1
        name = name or f"celery{self._count}"
        concurrency = () if {"-c", "--concurrency", "--autoscale"} & set(options) else ("-c", "1")
        program = self._start(name, "worker", "-l", "INFO", "-n", f"{name}@localhost", *concurrency, *options)
        if ready:
            program.wait_for_log(" ready.", timeout_s)
        return program

    def beat(self, *options: str) -> Program:
        """Start `celery beat`, which keeps its state in the folder of the logs."""
        return self._start("their-beat", "beat", "-l", "INFO", "-s", str(self._folder / "beat-state"), *options)

    def shell(self) -> CeleryShell:
        """A Celery client that runs what the test tells it."""
        shell = CeleryShell(self._python("celery_shell.py", self._app), self.variables, self._folder)
        self._shells.append(shell)
        return shell

    def command(self, *words: str, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run `celery -A app …` to its end."""
        return subprocess.run(
            self._celery(*words), env=self.variables, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def flower(self, timeout_s: float = 30.0) -> Flower:
        """Start Flower; returns when it answers."""
        port = claim_port()
        program = self._start("flower", "flower", "--address=127.0.0.1", f"--port={port}")
        flower = Flower(program, f"http://127.0.0.1:{port}")
        program.wait_until(flower.answers, "an answer by HTTP", timeout_s)
        return flower

    def _start(self, log: str, *words: str) -> Program:
        program = Program(self._celery(*words), log=self._folder / f"{log}.log", environment=self.variables)
        self._programs.append(program)
        return program

    def _celery(self, *words: str) -> list[str]:
        return [self.environment.python, "-m", "celery", "-A", self._app, *words]

    def _python(self, script: str, *words: str) -> list[str]:
        return [self.environment.python, str(Path(__file__).with_name(script)), *words]


@dataclass(frozen=True)
class Flower:
    """A running Flower."""

    program: Program
    url: str

    def get(self, path: str, timeout_s: float = 10.0) -> tuple[int, str]:
        """The status and the text of a page."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=timeout_s) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read().decode()

    def answers(self) -> bool:
        try:
            return self.get("/healthcheck")[0] == 200
        except OSError:
            return False


class CeleryShell:
    """An interpreter of a Celery environment that has imported the application, and evaluates what it is sent.

    ::

        shell("add.delay(2, 3).id")
        shell("AsyncResult(id).get(timeout=5)", id=task_id)

    Names are those of the application's module, of `celery` and of `datetime`, `decimal`, `uuid`, and what earlier
    calls assigned. Statements go to `run`.
    """

    def __init__(self, command: list[str], variables: Mapping[str, str], folder: Path) -> None:
        self._log = folder / f"shell-{os.urandom(3).hex()}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid
        KEEPER.keep(self.pid)

    def __call__(self, expression: str, timeout_s: float = PATIENCE_S, **names: Any) -> Any:
        """The value of an expression, which may use `names`.

        Raises:
            CeleryCallError: It raised.
            ProgramError: No answer came in time.
        """
        return self._ask("eval", expression, names, timeout_s)

    def run(self, statements: str, timeout_s: float = PATIENCE_S, **names: Any) -> None:
        """Run statements. Raises as a call."""
        self._ask("exec", statements, names, timeout_s)

    def _ask(self, mode: str, code: str, names: Mapping[str, Any], timeout_s: float) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        too_late = threading.Timer(timeout_s, self._process.kill)
        too_late.start()
        try:
            self._process.stdin.write(base64.b64encode(pickle.dumps((mode, code, dict(names)), protocol=4)) + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            too_late.cancel()
        if not line.endswith(b"\n"):
            raise ProgramError(
                f"no answer to {code!r} within {timeout_s:g} s; last words:\n{self._log.read_text()[-3000:]}"
            )
        kind, value = pickle.loads(base64.b64decode(line))
        if kind == "error":
            raise CeleryCallError(*value)
        return value

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        KEEPER.forget(self.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
