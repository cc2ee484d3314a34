"""Command lines written for Celery."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_of_celery import Fleet

from servers.program import Program, wait_until

pytestmark = pytest.mark.processes

PROJ__CELERY = """
import os

from celery import Celery

app = Celery("proj", broker=os.environ["PROJ_URL"], backend=os.environ["PROJ_URL"], include=["proj.tasks"])
app.conf.update(result_expires=3600, task_default_queue="proj")

if __name__ == "__main__":
    app.start()
"""

PROJ__TASKS = """
from celery.signals import celeryd_init, worker_init, worker_process_init, worker_ready, worker_shutdown
from celery.worker.control import control_command, inspect_command

from .celery import app

COUNT = {"value": 0}


@app.task
def add(x, y):
    return x + y


@app.task(ignore_result=True)
def nothing():
    pass


@control_command(args=[("n", int)], signature="[N=1]")
def increase(state, n=1):
    COUNT["value"] += n
    return {"ok": COUNT["value"]}


@inspect_command()
def counted(state, **kwargs):
    return {"value": COUNT["value"], "node": state.hostname, "tasks": "proj.tasks.add" in state.app.tasks}


@inspect_command()
def broken(state):
    raise ValueError("no")


@celeryd_init.connect
def configure(sender=None, conf=None, **kwargs):
    conf.worker_max_tasks_per_child = 1000


def say(what):
    def receiver(sender=None, **kwargs):
        print(f"<<{what}>>", flush=True)

    return receiver


for name, one in {"init": worker_init, "process": worker_process_init, "ready": worker_ready,
                  "shutdown": worker_shutdown}.items():
    one.connect(say(name), weak=False)
"""


@pytest.fixture
def proj(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, variables={"PROJ_URL": f"sqlite:///{tmp_path}/proj.db"}) as fleet:
        fleet.write(proj__celery=PROJ__CELERY, proj__tasks=PROJ__TASKS)
        yield fleet


def _ok(run: subprocess.CompletedProcess[str]) -> str:
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_a_worker_as_the_tutorial_starts_it(proj: Fleet) -> None:
    worker = proj.worker(
        "proj", "-l", "info", "-c", "1", "-Q", "proj,other", "-P", "prefork", "-O", "fair", "-E", "-n", "w1@%h",
        "--without-gossip", "--without-mingle", "--without-heartbeat", "--prefetch-multiplier=1", "--pidfile=w1.pid",
        "--max-tasks-per-child=100", "--time-limit=300", "--statedb=state.db", "-s", "schedule", "--events",
    )  # fmt: skip
    worker.wait_for_log("<<ready>>")
    assert int((proj.folder / "w1.pid").read_text()) == worker.pid
    assert "-O has no effect" in worker.log
    assert "--statedb has no effect" in worker.log
    assert "queues   other, proj" in worker.log or "queues   proj, other" in worker.log
    assert worker.log.count("<<init>>") == worker.log.count("<<process>>") == 1
    assert _ok(proj.command("-A", "proj", "call", "proj.tasks.add", "-a", "[2, 2]", "--wait")).strip() == "4"
    sent = _ok(proj.command("call", "proj.tasks.add", "--args=[1, 1]", "--queue", "other", "-A", "proj")).strip()
    assert _ok(proj.command("-A", "proj", "result", sent)).strip() == "2"
    assert "w1@" in _ok(proj.command("-A", "proj", "status"))
    assert "* proj.tasks.add" in _ok(proj.command("-A", "proj", "inspect", "registered"))
    # remote-control commands of the application's own keep what they have done
    assert "ok: 2" in _ok(proj.command("-A", "proj", "control", "increase", "2"))
    assert "ok: 3" in _ok(proj.command("-A", "proj", "control", "increase"))
    counted = json.loads(_ok(proj.command("-A", "proj", "inspect", "counted", "-j")))
    assert [(one["value"], one["tasks"]) for one in counted.values()] == [(3, True)]
    broken = proj.command("-A", "proj", "inspect", "broken")
    assert broken.returncode == 1
    assert "ValueError('no')" in broken.stdout
    wrong = proj.command("-A", "proj", "inspect", "no_such_thing")
    assert wrong.returncode == 2
    assert "'no_such_thing' is not one of" in wrong.stderr
    proj.command("-A", "proj", "control", "shutdown")
    worker.wait()
    assert "<<shutdown>>" in worker.log
    assert not (proj.folder / "w1.pid").exists()


def test_autoscale_runs_the_most(proj: Fleet) -> None:
    worker = proj.worker("proj", "--autoscale=3,1", "-P", "threads", "-l", "WARNING", ready=False)
    worker.wait_for_log("--autoscale runs 3 processes all the time")
    worker.wait_for_log("3 threads")


@pytest.mark.parametrize("option", [("-D",), ("--uid", "1000"), ("--umask=022",)])
def test_what_a_service_manager_does_better(proj: Fleet, option: tuple[str, ...]) -> None:
    run = proj.command("-A", "proj", "worker", *option)
    assert run.returncode == 2
    assert "service manager" in run.stderr


def test_beat_as_people_start_it(proj: Fleet) -> None:
    with (proj.folder / "proj" / "celery.py").open("a") as file:
        file.write("app.conf.beat_schedule = {'often': {'task': 'proj.tasks.add', 'schedule': 0.5, 'args': (1, 2)}}\n")
    pidfile = proj.folder / "beat.pid"
    options = ("-l", "info", "-s", "schedule", "-S", "celery.beat:PersistentScheduler", "--max-interval", "5")
    beat = proj.start("--as-celery", "-A", "proj", "beat", *options, "--pidfile", str(pidfile), ready="proj.tasks.add")
    assert pidfile.read_text().strip() == str(beat.pid)
    assert not (proj.folder / "schedule").exists()
    worker = proj.worker("proj", "-B", "-l", "info", "-c", "1")
    worker.wait_for_log("proj.tasks.add")
    listed = _ok(proj.command("-A", "proj", "schedule", "list"))
    assert "every 0.5 seconds" in listed
    beat.signal(15)
    assert beat.wait() == 0
    assert not pidfile.exists()
    check = proj.command("-A", "proj", "beat", "-S", "redbeat.RedBeatScheduler", "--check")
    assert check.returncode == 78
    assert "app.schedules.add" in check.stderr


def test_a_beat_from_python(proj: Fleet) -> None:
    code = (
        "import celeriac; celeriac.install_as_celery(); from proj.celery import app; "
        "app.conf.beat_schedule = {'often': {'task': 'proj.tasks.add', 'schedule': 0.2, 'args': (1, 2)}}; "
        "app.Beat(loglevel='INFO', scheduler='celery.beat.Scheduler').run()"
    )
    with Program(
        [proj.python, "-c", code], log=proj.folder / "py.log", environment=proj.variables, directory=proj.folder
    ) as beat:
        beat.wait_for_log("sent proj.tasks.add")
        beat.signal(2)
        assert beat.wait() == 0


def test_the_environment_asks_for_it_too(proj: Fleet) -> None:
    proj.variables["CELERIAC_AS_CELERY"] = "1"
    run = proj.command("-A", "proj", "list", "bindings", as_celery=False)
    assert "proj" in _ok(run)


def test_purge_and_queues(proj: Fleet) -> None:
    for _ in range(3):
        _ok(proj.command("-A", "proj", "call", "proj.tasks.nothing"))
    assert "deleted 3 messages" in _ok(proj.command("-A", "proj", "purge", "-f", "-Q", "proj"))


def test_an_application_started_by_itself(proj: Fleet) -> None:
    start = "import proj.tasks; from proj.celery import app; app.worker_main(['worker', '-c', '1', '-n', 'mine@%h'])"
    code = f"import celeriac; celeriac.install_as_celery(); {start}"
    worker = Program(
        [proj.python, "-c", code], log=proj.folder / "mine.log", environment=proj.variables, directory=proj.folder
    )
    with worker:
        worker.wait_for_log("ready")
        assert _ok(proj.command("-A", "proj", "call", "proj.tasks.add", "-a", "[5, 2]", "--wait")).strip() == "7"


def test_a_worker_from_python(proj: Fleet) -> None:
    code = (
        "import celeriac; celeriac.install_as_celery(); from proj.celery import app; "
        "app.Worker(concurrency=1, loglevel='INFO', hostname='py@here', queues='proj').start()"
    )
    with Program(
        [proj.python, "-c", code], log=proj.folder / "py.log", environment=proj.variables, directory=proj.folder
    ) as worker:
        worker.wait_for_log("ready")
        assert "py@here: OK" in _ok(proj.command("-A", "proj", "status"))


def test_several_workers_by_name(proj: Fleet) -> None:
    files = ("--pidfile=run/%n.pid", "--logfile=log/%n.log")
    shown = _ok(
        proj.command("multi", "show", "w1", "w2", "-A", "proj", "-Q:w2", "other", "-c", "1", "-c:1", "3", *files)
    )
    first, second = shown.splitlines()
    assert "-c 3" in first
    assert "other" not in first
    assert "-c 1" in second
    assert "-Q other" in second
    names = _ok(proj.command("multi", "names", "3")).split()
    assert [name.partition("@")[0] for name in names] == ["celery1", "celery2", "celery3"]
    start = ("multi", "start", "w1", "w2", "-A", "proj", "-c", "1", "-l", "INFO", *files)
    try:
        assert _ok(proj.command(*start)).count(": started") == 2
        pids = [int((proj.folder / "run" / f"{name}.pid").read_text()) for name in ("w1", "w2")]

        def both_up() -> bool:
            return proj.command("-A", "proj", "status").stdout.count(": OK") == 2

        wait_until(both_up, "two workers", every_s=0.2)
        again = proj.command(*start)
        assert again.returncode == 1
        assert "runs already" in again.stderr
        assert _ok(proj.command("multi", "restart", "w1", "-A", "proj", "-c", "1", *files)).count("w1@") == 2
        assert int((proj.folder / "run" / "w1.pid").read_text()) != pids[0]
    finally:
        stopped = proj.command("multi", "stopwait", "w1", "w2", *files)
    assert _ok(stopped).count(": stopped") == 2
    assert not list((proj.folder / "run").iterdir())
    assert proj.command("-A", "proj", "status", "-t", "0.3").returncode == 69
    gone = proj.command("multi", "stop", "w1", *files)
    assert gone.returncode == 1
    assert "does not run" in gone.stderr


def test_multi_says_when_a_worker_does_not_start(proj: Fleet) -> None:
    run = proj.command("multi", "start", "w1", "-A", "no_such_module")
    assert run.returncode == 1
    assert "ended with" in run.stderr
    assert "w1.log" in run.stderr
