"""`celeriac doctor --celery`: what is found in a project, how it is judged, and that nothing of it is imported."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import pytest

from celeriac.cli.root import root
from celeriac.compat.survey import Row, Survey, survey
from celeriac.errors import ConfigError

FILES = {
    "shop/__init__.py": "from .celery import app as celery_app\n",
    "shop/celery.py": """
        import os
        from celery import Celery
        from celery.schedules import crontab

        app = Celery("shop", task_acks_late=True, broker="redis://localhost")
        app.config_from_object("django.conf:settings", namespace="CELERY")
        app.autodiscover_tasks()
        app.conf.beat_schedule = {"nightly": {"task": "shop.tasks.add", "schedule": crontab(hour=3)}}
        app.steps["worker"].add(object)

        @app.on_after_configure.connect
        def more(sender, **kwargs):
            sender.add_periodic_task(10.0, None)
            sender.setup_security()
    """,
    "shop/settings.py": """
        import os
        INSTALLED_APPS = ["django.contrib.auth", "eventlet"]
        CELERY_BROKER_URL = os.environ.get("BROKER", "sqs://")
        CELERY_RESULT_BACKEND = f"redis://{os.environ['HOST']}/1"
        CELERY_TASK_SERIALIZER = "pickle"
        CELERY_TASK_TIME_LIMIT = 30
        CELERY_EMAIL_TASK_CONFIG = {}
        CELERYD_PREFETCH_MULTIPLIER = 1
        BROKER_OF_STOCKS = "not ours"
    """,
    "shop/tasks.py": """
        raise RuntimeError("this file was imported")
        from celery import shared_task, chain, Task
        from celery.app.trace import build_tracer
        from . import celery_app

        class Base(Task):
            rate_limit = "3/m"
            Strategy = "x:y"
            mine = 1

            def on_failure(self, exc, task_id, args, kwargs, einfo):
                self.start_strategy()

        @shared_task(bind=True, base=Base, autoretry_for=(OSError,))
        def add(self, x, y):
            self.request.delivery_info
            self.request.logfile
            self.mine
            raise self.retry(countdown=3)

        @celery_app.task
        def mul(x, y): ...

        def run():
            found = (add.s(1, 2) | mul.s(3)).apply_async(exchange="e", priority=3)
            found.collect()
            found.nonesuch
            celery_app.control.inspect().memdump()
            celery_app.control.election("x")
            chain(add.s(), mul.s()).election()
    """,
    "shop/broken.py": "def :\n",
    "Procfile": "web: gunicorn shop\nworker: celery -A shop worker -l info -c4 -P gevent -B\n# celery -A shop amqp\n",
    "docker-compose.yml": """
        services:
          worker:
            command: ["celery", "-A", "shop", "worker", "--detach"]
            container_name: celery
          check:
            command: celery --app shop inspect objgraph -d celery@x -t 3 && echo
          celery:
            image: shop
    """,
    "shop.service": "[Service]\nExecStart=/srv/env/bin/celery -A shop \\\n  beat -S django\n",
    "requirements.txt": "celery[redis]==5.3\n# eventlet\ngevent>=24\n",
    "venv/pyvenv.cfg": "home = /\n",
    "venv/other.py": "from celery.bootsteps import Step\n",
    "node_modules/x.py": "from celery.bootsteps import Step\n",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text).lstrip())
    return tmp_path


@pytest.fixture
def found(project: Path) -> Survey:
    return survey(project)


def write(folder: Path, text: str, name: str = "tasks.py") -> dict[str, Row]:
    (folder / name).write_text(textwrap.dedent(text))
    return {f"{row.kind} {row.name}": row for row in survey(folder).rows}


def test_what_is_missing(found: Survey) -> None:
    missing = {f"{row.kind} {row.name}" for row in found.of("missing")}
    assert missing == {
        "app setup_security",
        "app steps",
        "command celery inspect objgraph",
        "command option celery worker --detach",
        "control election",
        "import celery.app.trace.build_tracer",
        "inspect memdump",
        "request logfile",
        "setting CELERY_BROKER_URL (broker_url)",
        "setting CELERY_TASK_SERIALIZER (task_serializer)",
        "signature election",
        "task option Strategy",
        "task start_strategy",
    }
    assert not found.is_covered
    assert all(row.note for row in found.rows if row.verdict != "covered")


def test_what_differs(found: Survey) -> None:
    assert {f"{row.kind} {row.name}" for row in found.of("differs")} == {
        "call option exchange",
        "call option priority",
        "command option celery worker -P gevent",
        "package celery",
        "package eventlet",
        "package gevent",
        "setting CELERYD_PREFETCH_MULTIPLIER (worker_prefetch_multiplier)",
        "setting CELERY_EMAIL_TASK_CONFIG",
    }


def test_what_is_covered(found: Survey) -> None:
    covered = {f"{row.kind} {row.name}" for row in found.of("covered")}
    assert covered >= {
        "app add_periodic_task",  # of the sender of on_after_configure
        "app autodiscover_tasks",
        "command celery beat",
        "command option celery worker -B",
        "import celery.schedules.crontab",
        "setting beat_schedule",
        "command celery worker",
        "command option celery worker -c",
        "import celery.shared_task",
        "request delivery_info",
        "result collect",
        "retry option countdown",
        "setting CELERY_RESULT_BACKEND (result_backend)",
        "setting CELERY_TASK_TIME_LIMIT (task_time_limit)",
        "setting task_acks_late",
        "setting broker_url",
        "task on_failure",
        "task option autoretry_for",
        "task option rate_limit",
    }
    assert not {name for name in covered if "nonesuch" in name or "mine" in name}


def test_places_are_told(found: Survey) -> None:
    places = {f"{row.kind} {row.name}": [str(place) for place in row.places] for row in found.rows}
    assert places["command celery worker"] == ["Procfile:2", "docker-compose.yml:3"]
    assert places["command celery beat"] == ["shop.service:2"]
    assert places["app steps"] == ["shop/celery.py:9"]
    assert places["package celery"] == ["requirements.txt:1"]
    assert [str(place) for place in found.unread] == ["shop/broken.py:1"]
    assert not any("venv" in place or "node_modules" in place for each in places.values() for place in each)


APP = "from celery import Celery\na = Celery()\n"
SHARED = "from celery import shared_task\n"


@pytest.mark.parametrize(
    ("text", "expected", "verdict"),
    [
        ("import celery\ncelery.current_app.producer_or_acquire()", "app producer_or_acquire", "differs"),
        ("import celery.signals as s\ns.task_prerun.connect(print)", "import celery.signals.task_prerun", "covered"),
        ("from celery import signals\nsignals.beat_init", "import celery.signals.beat_init", "covered"),
        ("import celery as c\napp = c.Celery()\napp.setup_security()", "app setup_security", "missing"),
        ("from celery.nowhere import x", "import celery.nowhere.x", "missing"),
        ("from kombu import Queue", "import kombu.Queue", "covered"),
        ("from celery import Celery\na = Celery(broker='sqs://')", "setting broker_url", "missing"),
        (APP + "a.conf.update(task_routes={'x': 'q'})", "setting task_routes", "covered"),
        (APP + "a.conf['CELERY_ACKS_LATE'] = 1", "setting CELERY_ACKS_LATE (task_acks_late)", "missing"),
        ("URL = 'zookeeper://x'\nCELERY_BROKER_URL = URL", "setting CELERY_BROKER_URL (broker_url)", "missing"),
        ("class Config:\n    CELERY_TIMEZONE = 'Europe/Oslo'", "setting CELERY_TIMEZONE (timezone)", "covered"),
        ("app.config.from_mapping(CELERY=dict(task_ignore_result=True))", "setting task_ignore_result", "covered"),
        (SHARED + "@shared_task\ndef a(): a.apply_async(producer=1)", "call option producer", "differs"),
        (SHARED + "@shared_task(backend=None)\ndef a(): ...", "task option backend", "missing"),
        ("from celery.result import AsyncResult\nAsyncResult('x').backend", "result backend", "differs"),
    ],
)  # fmt: skip
def test_one_use(tmp_path: Path, text: str, expected: str, verdict: str) -> None:
    rows = write(tmp_path, text)
    assert expected in rows, sorted(rows)
    assert rows[expected].verdict == verdict, rows[expected]


def test_a_module_of_settings_is_read(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("from celery import Celery\na = Celery()\na.config_from_object('celeryconfig')\n")
    rows = write(tmp_path, "broker_url = 'sqs://'\nworker_timer = 'x'\nmine = 1\n", "celeryconfig.py")
    assert rows["setting broker_url"].verdict == "missing"
    assert rows["setting worker_timer"].verdict == "differs"
    assert "setting mine" not in rows


def test_other_objects_attributes_are_not_celerys(tmp_path: Path) -> None:
    assert not write(
        tmp_path, "import flask\napp = flask.Flask(1)\napp.steps\nself.request.logfile\nx.s().election()\n"
    )


def test_a_project_without_celery(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    assert survey(tmp_path).rows == ()


def test_a_file_and_a_module(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert survey(project / "shop" / "celery.py").files == 1
    monkeypatch.syspath_prepend(str(project))
    assert {row.name for row in survey("shop").rows} >= {"steps", "setup_security"}
    with pytest.raises(ConfigError, match="no such directory, file or module"):
        survey("nothing.of.the.kind")


Command = Callable[..., Any]


def doctor(*args: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(root, ["-C", "doctor", "--celery", *args])


def test_the_command(project: Path) -> None:
    run = doctor(str(project))
    assert run.exit_code == 1, run.output
    assert "NOT COVERED" in run.stdout
    assert "13 are not covered" in run.stdout
    assert "shop/broken.py:1 is not valid Python" in run.stdout


def test_the_command_says_it_is_fine(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(SHARED + "@shared_task\ndef a(): ...\n")
    run = doctor(str(tmp_path))
    assert run.exit_code == 0, run.output
    assert "1 are covered" in run.stdout


def test_json(project: Path) -> None:
    run = doctor(str(project), "--json")
    assert run.exit_code == 1
    told = json.loads(run.stdout)
    assert {"kind": "app", "name": "steps"}.items() <= next(u for u in told["uses"] if u["name"] == "steps").items()
    assert told["unread"] == ["shop/broken.py:1"]


def test_a_path_that_is_none() -> None:
    run = doctor("/nowhere/at/all")
    assert run.exit_code == 2
    assert "no such directory" in run.stderr
