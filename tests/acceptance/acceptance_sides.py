"""Applications written for Celery, in interpreters of their own: one with the real one, one where we answer for it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks.environments import python_environment

from servers.program import Program, ProgramError

_PROJECTS = Path(__file__).with_name("applications")
OUTCOMES = Path(__file__).with_name("outcomes")
"""What real Celery makes of them; record_outcomes.py writes it."""
_SOURCE = Path(__file__).parents[2] / "src"

Who = Literal["celery", "celeriac"]

PUBLIC = (
    "celery-heimdall==1.0.1",
    "celery-once==3.0.1",
    "celery-progress==0.5",
    "celery-pubsub==1.0.2",
    "celery-singleton==0.3.1",
    "django-celery-beat==2.9.0",
    "django-celery-email==3.0.0",
    "django-celery-results==2.6.0",
    "django-guid==3.6.1",
    "django-health-check==4.8.0",
    "django-post-office==3.12.0",
    "flask-celeryext==0.5.1",
    "sqlalchemy-celery-beat==0.9.1",
)
"""What is tried. All of these are made for Celery, and none of them knows of us."""

_THEIR_NEEDS = (
    "asgiref==3.13.0",
    "blinker==1.9.0",
    "cron-descriptor==1.4.5",
    "django-appconf==1.2.0",
    "django-timezone-field==7.2.2",
    "django==5.2.19",
    "dnspython==2.9.2",
    "flask==3.1.3",
    "itsdangerous==2.2.0",
    "jinja2==3.1.6",
    "markupsafe==3.0.4",
    "nh3==0.3.8",
    "packaging==26.3",
    "python-crontab==3.4.0",
    "six==1.17.0",
    "sqlalchemy==2.1.9",
    "sqlparse==0.6.1",
    "tzdata==2026.6",
    "werkzeug==3.1.9",
)
_BOTH_NEED = ("click==8.5.1", "ephem==4.2.1", "hiredis==3.5.0", "redis==8.1.0", "typing-extensions==4.16.0")
_CELERY_NEEDS = (
    "amqp==5.4.2",
    "billiard==4.3.2",
    "celery==5.7.0",
    "click-didyoumean==0.3.1",
    "click-plugins==1.1.1.2",
    "click-repl==0.4.1",
    "kombu==5.7.0",
    "prompt-toolkit==3.0.53",
    "python-dateutil==2.9.0.post0",
    "tzlocal==5.4.5",
    "vine==5.1.0",
    "wcwidth==0.9.4",
)
_WE_NEED = ("markdown-it-py==4.3.0", "mdurl==0.1.2", "msgspec==0.22.0", "pygments==2.21.0", "rich==15.0.0")


class Environment(NamedTuple):
    """An interpreter with the packages and with one of the two."""

    who: Who
    python: str

    @classmethod
    def build(cls, who: Who) -> Environment:
        """Find it, or make it once for this machine. Nothing is installed that is not named here.

        Raises:
            UnavailableError: It cannot be made.
        """
        needs = _CELERY_NEEDS if who == "celery" else _WE_NEED
        return cls(who, python_environment(f"{who}-apps", ("--no-deps", *PUBLIC, *_THEIR_NEEDS, *_BOTH_NEED, *needs)))


class Application(NamedTuple):
    """One of `applications/`."""

    app: str
    """As `-A` has it."""
    options: tuple[str, ...]
    """Of the worker."""
    checks: tuple[str, ...]
    """Functions of its drive.py."""
    results: str = ""
    """Where results go, if not to the broker."""
    prepare: str = ""
    """What drive.py has to do before a worker is started."""
    folder: str = ""
    """Below `applications/`, if not called as the application is."""


_DJANGO = ("tasks", "on_commit", "progress", "celery_email", "post_office", "guid", "health", "beat")

APPLICATIONS = {
    "documented": Application(
        "proj",
        ("-c", "2"),
        (
            "first_steps", "calling", "routing", "canvas", "results_of_canvas", "failures_of_canvas", "retries",
            "task_classes", "signals", "control", "periodic", "configuration",
        ),
    ),
    "mailroom": Application("mailroom", ("-c", "2", "-Q", "celery,mail"), _DJANGO, prepare="migrate"),
    "mailroom, results in Django's database": Application(
        "mailroom", ("-c", "2"), ("results",), "django-db", prepare="migrate", folder="mailroom"
    ),
    "locks": Application("errands", ("-c", "4"), ("singleton", "once", "heimdall", "pubsub")),
    "flaskshop": Application("worker_app", ("-c", "1"), ("view", "inside", "price")),
}  # fmt: skip


class Run(NamedTuple):
    """One application, its worker and its driver."""

    environment: Environment
    name: str
    application: Application
    folder: Path
    broker: str
    locks: str

    @property
    def project(self) -> Path:
        return _PROJECTS / (self.application.folder or self.name)

    def outcomes(self) -> dict[str, Any]:
        """Start a worker, run the driver to its end, and give what it printed: by check, what came of it."""
        app, prepare = self.application.app, self.application.prepare
        with ExitStack() as running:
            if prepare:
                self._drive([prepare])
            options = ("-l", "info", "-n", "w@localhost", *self.application.options)
            worker = running.enter_context(
                Program(
                    [*self._celery(), "-A", app, "worker", *options],
                    log=self.folder / "worker.log", environment=self._variables(as_celery=False),
                    directory=self.project,
                )
            )  # fmt: skip
            worker.wait_for_log("ready")
            try:
                return self._drive(self.application.checks)
            except ProgramError as exc:
                raise ProgramError(f"{exc}\nThe worker:\n{worker.log[-5000:]}") from None

    def _drive(self, checks: Sequence[str]) -> dict[str, Any]:
        done = subprocess.run(
            [self.environment.python, "drive.py", *checks],
            env=self._variables(as_celery=self.environment.who == "celeriac"),
            cwd=self.project,
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        (self.folder / "driver.log").write_text(done.stderr)
        if done.returncode:
            raise ProgramError(f"drive.py ended with {done.returncode}:\n{done.stderr[-5000:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}
        if done.stderr:
            found["stderr"] = done.stderr
        return found

    def _celery(self) -> list[str]:
        if self.environment.who == "celery":
            return [self.environment.python, "-m", "celery"]
        return [self.environment.python, "-m", "celeriac", "--as-celery"]

    def _variables(self, *, as_celery: bool) -> dict[str, str]:
        return {
            **interpreter(self.environment, self.project, as_celery=as_celery),
            "ACCEPTANCE_FOLDER": str(self.folder),
            "BROKER_URL": self.broker,
            "LOCKS_URL": self.locks,
            "RESULT_BACKEND": self.application.results or self.broker,
        }


def interpreter(environment: Environment, *path: Path, as_celery: bool) -> dict[str, str]:
    """Variables for a program of an environment.

    Args:
        environment: Of which.
        path: Where modules are.
        as_celery: With ours, that `import celery` means celeriac.
    """
    rest = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CEL", "DJANGO"))}
    places = [str(place) for place in path]
    if environment.who == "celeriac":
        places.append(str(_SOURCE))
        if as_celery:
            places.append(str(Path(__file__).with_name("as_celery")))
    return {**rest, "PYTHONPATH": os.pathsep.join(places), "PYTHONUNBUFFERED": "1", "C_FORCE_ROOT": "1"}


def has_real_celery(environment: Environment) -> bool:
    """Whether the real one is installed there."""
    code = "import importlib.metadata as m; print([d.name for d in m.distributions() if d.name.lower() == 'celery'])"
    told = subprocess.run([environment.python, "-I", "-c", code], capture_output=True, text=True, check=True)
    return "celery" in told.stdout
