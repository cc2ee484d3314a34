"""A Django project whose schedule is in django-celery-beat's tables, run by two beats at a time."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from acceptance_sides import Environment, Who, interpreter

from celeriac import Celeriac
from celeriac.model import Headers
from servers import RedisServer, wait_until
from servers.program import Program

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(180)]

PROJECT = Path(__file__).parent / "applications" / "tables"
SETUP = """
import json, sys
from datetime import datetime, timedelta, timezone
import django
django.setup()
from django.core.management import call_command
from django.utils.timezone import now
from django_celery_beat.models import *
def every(n, period="seconds"):
    # two beats that write the code's entries may both have made one: the table has no constraint
    known = IntervalSchedule.objects.filter(every=n, period=period).first()
    return known or IntervalSchedule.objects.create(every=n, period=period)
def add(name, **more):
    more = {"args": json.dumps([name]), **more}
    PeriodicTask.objects.create(name=name, task="tables.celery.note", **more)
def row(name):
    return PeriodicTask.objects.get(name=name)
"""


class Project:
    """The project in a folder of its own, and its beats."""

    def __init__(self, environment: Environment, folder: Path, broker: str, running: ExitStack) -> None:
        self._python = environment.python
        self.folder = folder
        self._running = running
        self.app = Celeriac("tables", broker=broker)
        self.variables = {
            **interpreter(environment, PROJECT, as_celery=True),
            "ACCEPTANCE_FOLDER": str(folder),
            "BROKER_URL": broker,
            "DJANGO_SETTINGS_MODULE": "tables.settings",
        }
        running.callback(self.app.close)

    def django(self, text: str) -> Any:
        """Run a script with the models at hand; what it prints, read as JSON."""
        done = subprocess.run(
            [self._python, "-c", SETUP + text],
            env=self.variables, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else None

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [self._python, "-m", "celeriac", "--as-celery", "-A", "tables", *words]
        return subprocess.run(
            command, env=self.variables, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True
        )

    def worker(self, *options: str) -> Program:
        command = [self._python, "-m", "celeriac", "--as-celery", "-A", "tables", "worker", "-l", "info", *options]
        return self._running.enter_context(
            Program(command, log=self.folder / "worker.log", environment=self.variables, directory=PROJECT)
        )

    def beat(self, *options: str) -> Program:
        log = self.folder / f"beat{len(list(self.folder.glob('beat*.log')))}.log"
        command = [self._python, "-m", "celeriac", "--as-celery", "-A", "tables", "beat", "-l", "info", *options]
        return self._running.enter_context(Program(command, log=log, environment=self.variables, directory=PROJECT))

    def sent(self) -> dict[str, list[tuple[datetime, Headers, Any]]]:
        """The messages by entry: their nominal instant, headers, and arguments."""
        found: dict[str, list[Any]] = {}
        for peeked in self.app.broker.peek(limit=10_000):
            head = msgspec.json.decode(peeked.headers, type=Headers)
            at = datetime.fromisoformat(head.headers["scheduled_at"])
            body = msgspec.json.decode(peeked.body)
            found.setdefault(head.headers["periodic_task_name"], []).append((at, peeked, head, body[:2]))
        return {name: sorted(each, key=lambda one: one[0]) for name, each in found.items()}

    def instants(self, name: str) -> list[datetime]:
        return [one[0] for one in self.sent().get(name, ())]

    def wait_for(self, name: str, count: int) -> None:
        wait_until(lambda: len(self.instants(name)) >= count, f"{count} of {name!r}", timeout_s=30)


@pytest.fixture(params=["sqlite", "redis"])
def project(
    environment: Callable[[Who], Environment],
    shared_redis: RedisServer,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Project]:
    shared_redis.empty()
    broker = f"sqlite:///{tmp_path}/tasks.db" if request.param == "sqlite" else shared_redis.url
    with ExitStack() as running:
        made = Project(environment("celeriac"), tmp_path, broker, running)
        made.django("call_command('migrate', verbosity=0)")
        yield made


def steps(instants: list[datetime]) -> set[float]:
    """Seconds between one and the next; a schedule that is changed begins a microsecond later."""
    return {round((later - one).total_seconds(), 3) for one, later in pairwise(instants)}


def test_two_beats_send_what_the_tables_say_once(project: Project) -> None:
    project.django(
        """
add("second", interval=every(1), queue="q", priority=7, headers='{"mine": 1}', kwargs='{"k": [1]}', expire_seconds=60)
add("micro", interval=every(1500000, "microseconds"))
add("minutely", crontab=CrontabSchedule.objects.create(timezone="Asia/Tokyo"))
add("sun", solar=SolarSchedule.objects.create(event="sunset", latitude="52.2", longitude="21.0"))
add("first only", interval=every(1), one_off=True)
add("at three", clocked=ClockedSchedule.objects.create(clocked_time=now() + timedelta(seconds=3)), one_off=True)
add("long ago", clocked=ClockedSchedule.objects.create(clocked_time=now() - timedelta(days=3)), one_off=True)
add("later", interval=every(1), start_time=now() + timedelta(seconds=6))
add("over", interval=every(1), expires=now() - timedelta(seconds=1))
add("broken", interval=every(1), args="[1,")
add("no list", interval=every(1), args='{"a": 1}')
add("off", interval=every(1), enabled=False)
"""
    )
    first, second = project.beat(), project.beat("--max-interval", "5")
    project.wait_for("second", 4)
    assert {"sun", "minutely", "second"} <= {one.name for one in project.app.schedules} | {
        *project.django("print(json.dumps([row.name for row in PeriodicTask.objects.enabled()]))")
    }
    project.django(
        """
task = row("second"); task.interval = every(2); task.save()
task = row("off"); task.enabled = True; task.save()
add("new", interval=every(1))
"""
    )
    project.wait_for("new", 3)
    first.kill()
    project.wait_for("second", 10)
    project.wait_for("later", 3)
    project.django("""
row("new").delete()
task = row("micro"); task.enabled = False; task.save()
""")
    project.beat()
    counts = {name: len(project.instants(name)) for name in ("new", "micro")}
    project.wait_for("second", 14)
    for name, count in counts.items():
        assert len(project.instants(name)) <= count + 1, name
    found = project.sent()
    for name, each in found.items():
        assert len({one[0] for one in each}) == len(each), name
        assert len({one[2].id for one in each}) == len(each), name
    assert found.keys() - {"minutely", "sun"} == {
        "second", "micro", "first only", "at three", "long ago", "later", "off", "new", "of the code",
    }  # fmt: skip
    _, peeked, head, arguments = found["second"][0]
    assert (peeked.queue, peeked.priority, head.headers["mine"], head.expires is not None) == ("q", 7, 1, True)
    assert (head.celery_beat_task, arguments) == (True, [["second"], {"k": [1]}])
    assert steps(project.instants("second")) == {1.0, 2.0}
    assert steps(project.instants("off")) == steps(project.instants("new")) == steps(project.instants("later")) == {1.0}
    assert steps(project.instants("micro")) == {1.5}
    assert steps(project.instants("of the code")) == {2.0}
    assert [len(found[name]) for name in ("first only", "at three", "long ago")] == [1, 1, 1]
    rows = {
        name: (enabled, count, last)
        for name, enabled, count, last in project.django(
            "print(json.dumps([(row.name, row.enabled, row.total_run_count, str(row.last_run_at or ''))"
            " for row in PeriodicTask.objects.all()]))"
        )
    }
    for name in ("first only", "at three", "long ago", "over"):
        assert rows[name] == (False, 0, ""), name
    assert rows["second"][1] in range(len(found["second"]) - 1, len(found["second"]) + 2)
    assert datetime.fromisoformat(rows["later"][2]) - project.instants("later")[-1] < timedelta(seconds=3)
    assert rows["nightly"][0]
    for program in (second,):
        assert "entry 'broken' of the tables is left out: args='[1,' is not JSON" in program.log
        assert "entry 'no list' of the tables is left out" in program.log
        assert "Traceback" not in program.log
    assert "'sun'" not in second.log
    second.signal(signal.SIGTERM)
    assert second.wait() == 0


def test_a_beat_that_was_away(project: Project) -> None:
    project.django(
        """
add("hourly", interval=every(1, "hours"), last_run_at=now() - timedelta(hours=2))
add("missed", clocked=ClockedSchedule.objects.create(clocked_time=now() + timedelta(milliseconds=1)), one_off=True)
PeriodicTask.objects.filter(name="hourly").update(last_run_at=now() - timedelta(hours=2, seconds=1))
"""
    )
    project.beat()
    project.wait_for("hourly", 1)
    project.wait_for("missed", 1)
    project.wait_for("of the code", 2)
    assert len(project.instants("hourly")) == 1
    assert project.django('print(json.dumps([row("hourly").total_run_count, row("missed").enabled]))') == [1, False]
    project.django('task = row("missed"); task.enabled = True; task.save()')
    project.wait_for("missed", 2)


def test_a_scheduler_that_is_derived_from_the_packages(project: Project) -> None:
    project.django("""
add("second", interval=every(1))
add("often", interval=every(2))
add("other tenant's", interval=every(1))
add("first only", interval=every(1), one_off=True)
""")
    beats = [project.beat("-S", "tables.scheduler.OfTenants") for _ in range(2)]
    project.wait_for("second", 4)
    project.django('task = row("often"); task.interval = every(1); task.save(); add("new", interval=every(1))')
    project.wait_for("new", 3)
    beats[0].kill()
    project.wait_for("second", len(project.instants("second")) + 4)
    beats[1].signal(signal.SIGTERM)
    assert beats[1].wait() == 0
    found = project.sent()
    assert found.keys() == {"second", "often", "new", "first only", "of the code"}
    assert len(found["first only"]) == 1
    for name in ("second", "new", "of the code"):
        assert min(steps(project.instants(name))) > 0.9, name
    assert found["second"][0][2].celery_beat_task
    counts = project.django('print(json.dumps([row("second").total_run_count, row("first only").enabled]))')
    assert counts == [len(found["second"]), False]


def test_a_row_that_ran_once_is_saved_again_by_a_beat_that_knew_it_before(project: Project) -> None:
    """Two of the package's schedulers save whole rows, so one can undo that the other has ended it."""

    def is_enabled() -> bool:
        return bool(project.django('print(json.dumps(row("first only").enabled))'))

    project.django('add("second", interval=every(1)); add("first only", interval=every(1), one_off=True)')
    project.beat("-S", "tables.scheduler.OfTenants")
    project.wait_for("first only", 1)
    wait_until(lambda: not is_enabled(), "it to be over", timeout_s=30)
    project.django(
        'PeriodicTask.objects.filter(name="first only").update(enabled=True, total_run_count=0, last_run_at=now())\n'
        "PeriodicTasks.update_changed()"
    )
    project.wait_for("second", len(project.instants("second")) + 4)
    assert len(project.instants("first only")) == 1
    wait_until(lambda: not is_enabled(), "it to be over", timeout_s=30)
    project.django('task = row("first only"); task.enabled = True; task.save()')
    project.wait_for("first only", 2)


def test_tables_that_are_away_for_a_while(project: Project) -> None:
    project.django('add("second", interval=every(1))')
    beat = project.beat()
    project.wait_for("second", 2)
    tables = project.folder / "django.db"
    tables.rename(tables.with_suffix(".away"))
    beat.wait_for_log("the tables cannot be read")
    project.wait_for("second", len(project.instants("second")) + 3)
    tables.with_suffix(".away").rename(tables)
    project.django('add("new", interval=every(1))')
    project.wait_for("new", 2)
    beat.signal(signal.SIGTERM)
    assert beat.wait() == 0
    assert project.django('print(row("second").total_run_count)') == len(project.instants("second"))
    assert steps(project.instants("second")) == {1.0}


def test_a_beat_in_a_worker(project: Project) -> None:
    project.django('add("second", interval=every(1), kwargs=json.dumps({"x": "ran"}))')
    worker = project.worker("-B", "-c", "1")
    worker.wait_until(lambda: worker.log.count("tables.celery.note[") >= 6, "six lines of tasks")
    count = project.django('print(row("second").total_run_count)')
    assert count >= 2


def test_looking_changes_nothing(project: Project) -> None:
    project.django('add("mine", interval=every(90))')
    run = project.command("schedule", "list", "--json")
    assert {one["name"] for one in json.loads(run.stdout)["entries"]} == {"mine", "of the code", "nightly"}
    assert project.django("print(json.dumps([row.name for row in PeriodicTask.objects.all()]))") == ["mine"]
    assert "every 90 seconds" in run.stdout or "1 minute and 30 seconds" in run.stdout


def test_without_tables_it_says_what_to_do(project: Project) -> None:
    (project.folder / "django.db").unlink()
    beat = project.beat()
    assert beat.wait() == 78
    assert "run `python manage.py migrate`" in beat.log


def test_without_time_zones(project: Project) -> None:
    project.variables["USE_TZ"] = "0"
    project.django(
        """
add("second", interval=every(1), start_time=datetime.now() - timedelta(hours=1))
add("at two", clocked=ClockedSchedule.objects.create(clocked_time=datetime.now() + timedelta(seconds=2)), one_off=True)
add("minutely", crontab=CrontabSchedule.objects.create())
"""
    )
    beat = project.beat()
    project.wait_for("second", 3)
    project.wait_for("at two", 1)
    assert "left out" not in beat.log
    assert project.django('print(row("second").total_run_count)') >= 3
