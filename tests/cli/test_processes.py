"""The worker and the demo as a user starts them: real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from cli_programs import eventually, finish

from celeriac import Celeriac
from celeriac.clock import SYSTEM_CLOCK

Command = Callable[..., Any]

pytestmark = [pytest.mark.processes, pytest.mark.slow]


def test_a_worker_from_start_to_end(celeriac: Command, app: Celeriac, start: Callable[..., Any]) -> None:
    worker = start("-A", "shop", "worker", "-c", "1", "-n", "w1@%h", "-Q", "celery,images", "-E", "--without-gossip")
    run = celeriac("-A", "shop", "call", "shop.add", "-a", "[2, 2]", "--timeout", "30")
    assert (run.code, run.out) == (0, "4\n"), run
    run = celeriac("-A", "shop", "call", "shop.fail", "-a", '["ouch"]', "--timeout", "30", "--traceback")
    assert (run.code, run.out) == (1, ""), run
    assert "ValueError: ouch" in run.err
    assert 'shop.py", line' in run.err

    (node,) = eventually("a ping", lambda: celeriac("-A", "shop", "inspect", "ping", "--json").json)
    assert node.startswith("w1@")
    assert f"{node}: OK" in celeriac("-A", "shop", "status").out
    assert celeriac("-A", "shop", "inspect", "registered", "--json").json[node] == [
        "shop.add",
        "shop.fail",
        "shop.shout",
    ]
    text = celeriac("-A", "shop", "inspect", "active_queues").out
    assert [line.strip() for line in text.splitlines()] == [f"-> {node}: OK", "* celery", "* images"]
    assert celeriac("-A", "shop", "inspect", "stats", "-d", node).code == 0
    assert celeriac("-A", "shop", "inspect", "ping", "-d", "nobody@x", "-t", "0.2").code == 69
    doctor = celeriac("-A", "shop", "doctor", "--json")
    assert doctor.code == 0, doctor
    assert any(f"queue images: {node}" == each["found"] for each in doctor.json["findings"])

    assert celeriac("-A", "shop", "control", "add_consumer", "more").code == 0
    eventually("one more queue", lambda: "more" in celeriac("-A", "shop", "inspect", "active_queues").out)

    worker.send_signal(signal.SIGTERM)
    code, _, err = finish(worker)
    assert code == 0, err
    assert "task events are wanted, and the sqlite broker carries none" in err
    assert "--without-gossip has no effect" in err


def test_a_worker_is_told_to_shut_down(celeriac: Command, app: Celeriac, start: Callable[..., Any]) -> None:
    worker = start("-q", "-A", "shop", "worker", "-P", "gevent", "-c", "3")
    assert celeriac("-A", "shop", "call", "shop.add", "-a", "[2, 2]", "--timeout", "30").code == 0
    eventually("a ping", lambda: app.control.ping(timeout=0.2))
    (stats,) = celeriac("-A", "shop", "inspect", "stats", "--json").json.values()
    assert "threads" in stats["pool"]["implementation"]
    assert stats["pool"]["max-concurrency"] == 3
    celeriac("-A", "shop", "control", "shutdown", "-t", "0.5")
    code, _, err = finish(worker)
    assert code == 0, err
    assert "-P gevent" not in err, "--quiet"


def test_a_worker_purges_and_logs_json(
    celeriac: Command, app: Celeriac, start: Callable[..., Any], place: Path
) -> None:
    app.send_task("shop.shout", ("purged",))
    worker = start("-A", "shop", "worker", "-c", "1", "--purge", "--json-logs", "-f", "worker.log", "-l", "debug")
    eventually("the purge", lambda: not app.broker.depth(["celery"])["celery"].ready)
    assert celeriac("-A", "shop", "call", "shop.add", "-a", "[1, 1]", "--timeout", "30").out == "2\n"
    worker.send_signal(signal.SIGTERM)
    assert finish(worker)[0] == 0
    lines = [json.loads(line) for line in (place / "worker.log").read_text().splitlines()]
    assert lines
    assert not any("purged" in json.dumps(line) for line in lines)
    assert not app.broker.peek()


@pytest.mark.parametrize("pool", [(), ("-P", "solo")])
@pytest.mark.parametrize(
    ("app", "code", "trace", "reason"),
    [
        ("shpo", None, (), "there is no module 'shpo' in "),
        ("bad", "from celeriac import Celeriac\napp = Celeriac('bad', brokr='x')\n", (), "unknown setting brokr"),
        ("bad:app", "def part():\n    1 / 0\npart()\n", ("line 3, in <module>", "line 2, in part"), "bad.py:2): ZeroD"),
        ("bad:app", "def app():\n    return len(3)\n", ("line 2, in app",), "TypeError: object of type 'int'"),
        ("shop:add", None, (), "'shop:add' is of type add, not a Celeriac application; is it shop:app?"),
    ],
)
def test_a_worker_without_its_application_says_why(
    start: Callable[..., Any],
    place: Path,
    app: str,
    code: str | None,
    trace: tuple[str, ...],
    reason: str,
    pool: tuple[str, ...],
) -> None:
    if code is not None:
        (place / "bad.py").write_text(code)
    exit_code, _, err = finish(start("-A", app, "worker", *pool))
    assert exit_code == 78
    *above, last = err.splitlines()
    assert last.startswith("the application could not be loaded: ")
    assert reason in last
    assert [line.split('bad.py", ')[1] for line in above if "File" in line] == list(trace), err
    assert trace or not above, err


def test_a_pool_from_the_settings_is_used(start: Callable[..., Any], celeriac: Command, place: Path) -> None:
    (place / "alone.py").write_text(
        "import os\nfrom celeriac import Celeriac, signals\n"
        "app = Celeriac('alone', broker='sqlite:///shop.db', worker_pool='solo')\n"
        "signals.worker_init.connect(lambda **_: print('init', os.getpid(), flush=True))\n"
        "@app.task\ndef who(): return os.getpid()\n"
    )
    worker = start("-A", "alone", "worker")
    assert celeriac("-A", "alone", "call", "alone.who", "--timeout", "30").out == f"{worker.pid}\n"
    worker.send_signal(signal.SIGTERM)
    code, out, err = finish(worker)
    assert (code, out) == (0, f"init {worker.pid}\n"), err
    assert "pool     solo, " in err


WATCH = """
import os, threading, time
from celeriac import Celeriac, signals

app = Celeriac("watch", broker="sqlite:///shop.db", worker_lease=3.0, worker_reap_every=1.0)

def note(*words):
    with open("notes", "a") as file:
        print(*words, os.getpid(), threading.current_thread().name, file=file)

@app.task
def beats():
    return None

@signals.worker_ready.connect
def ready(sender, **_):
    note("ready", sender)
    threading.Thread(target=lambda: note("thread"), name="health").start()

@signals.worker_ready.connect
def broken(**_):
    raise ValueError("a receiver that fails")

@signals.heartbeat_sent.connect
def beat(**_):
    note("beat")

@signals.worker_shutting_down.connect
def shutting_down(sig, how, exitcode, **_):
    note("shutting_down", sig, how, exitcode)

@signals.worker_shutdown.connect
def shutdown(**_):
    time.sleep(float(os.environ.get("LINGER", "0.2")))
    note("shutdown")
"""


def notes(place: Path) -> list[list[str]]:
    path = place / "notes"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("pool", ["processes", "solo"])
def test_receivers_of_the_worker_s_signals_are_called(start: Callable[..., Any], place: Path, pool: str) -> None:
    (place / "watch.py").write_text(WATCH)
    worker = start("-A", "watch", "worker", "-c", "2", "-n", "w@h", "-P", pool)
    beating = pool == "processes"
    eventually("all of the start", lambda: {"ready", "thread", *["beat"] * beating} <= {one[0] for one in notes(place)})
    worker.send_signal(signal.SIGTERM)
    code, _, err = finish(worker)
    assert code == 0, err
    assert "a receiver that fails" in err
    assert "Traceback" in err
    assert {one[-2] for one in notes(place)} == {notes(place)[0][-2]}, "all in one process"
    assert (int(notes(place)[0][-2]) == worker.pid) is (pool == "solo")
    said = [one[:-2] for one in notes(place) if one[0] not in ("beat", "thread")]
    assert said == [["ready", "w@h"], ["shutting_down", "SIGTERM", "Warm", "0"], ["shutdown"]]
    assert {one[-1] for one in notes(place) if one[0] != "thread"} == {"MainThread"}


def test_a_receiver_that_does_not_return_holds_up_the_end_for_seconds_only(
    start: Callable[..., Any], place: Path
) -> None:
    (place / "watch.py").write_text(WATCH)
    worker = start("-A", "watch", "worker", "-c", "1", LINGER="600")
    eventually("the start", lambda: notes(place))
    began = SYSTEM_CLOCK.monotonic()
    worker.send_signal(signal.SIGTERM)
    code, _, err = finish(worker)
    assert code == 0, err
    assert SYSTEM_CLOCK.monotonic() - began < 9.0
    assert "receivers of worker_shutdown did not return in time" in err


def test_without_receivers_there_is_no_process_for_them(
    start: Callable[..., Any], app: Celeriac, celeriac: Command
) -> None:
    worker = start("-A", "shop", "worker", "-c", "1")
    (stats,) = eventually("its worker", lambda: app.control.inspect(timeout=0.2).stats()).values()
    family = psutil.Process(worker.pid).children(recursive=True)
    assert len(family) == 2, "the fork server and one process"
    assert {one.pid for one in family} > set(stats["pool"]["processes"])


# -- the demo -----------------------------------------------------------------------------------------------------


@pytest.fixture
def temporary_files(tmp_path: Path) -> dict[str, str]:
    """A TMPDIR that is seen to be left empty."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    return {"TMPDIR": str(temporary)}


@pytest.mark.parametrize("is_apart", [False, True], ids=["with the broker", "results apart"])
def test_the_demo_counts_every_module(
    start: Callable[..., Any], temporary_files: dict[str, str], tmp_path: Path, is_apart: bool
) -> None:
    from celeriac.cli.demo import survey

    apart = ("--result-backend", f"sqlite:///{tmp_path}/results.db") if is_apart else ()
    code, out, err = finish(start(*apart, "demo", "--processes", "2", "--json", **temporary_files), 110)
    assert code == 0, err
    found = json.loads(out)
    modules = survey.modules(survey.library())
    assert found["modules"] == len(modules) > 500
    assert found["faults"] == []
    assert sum(found["modules_by_process"].values()) == len(modules)
    assert len(found["modules_by_process"]) == 2
    assert found["tasks"] > len(modules)
    assert found["tasks_per_second"] > 0
    assert not list(Path(temporary_files["TMPDIR"]).iterdir())


def test_the_demo_ends_in_order_when_interrupted(start: Callable[..., Any], temporary_files: dict[str, str]) -> None:
    temporary = Path(temporary_files["TMPDIR"])
    demo = start("demo", "--processes", "1", **temporary_files)

    def running() -> Celeriac | None:
        for file in temporary.glob("celeriac-demo-*/demo.db"):
            return Celeriac("watcher", broker=f"sqlite:///{file}")
        return None

    with eventually("its database", running) as watcher:
        eventually("its modules", lambda: any(each.ready > 100 for each in watcher.broker.depth().values()))
        (reply,) = eventually("its worker", lambda: watcher.control.inspect(timeout=0.2).stats()).values()
    demo.send_signal(signal.SIGINT)
    code, _, err = finish(demo)
    assert code == 130, err
    assert "Traceback" not in err
    assert not list(temporary.iterdir())
    for process in (reply["pid"], *reply["pool"]["processes"]):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_the_demo_leaves_nothing_on_an_engine_of_yours(start: Callable[..., Any], app: Celeriac, place: Path) -> None:
    kept = app.send_task("shop.add", (1, 2))
    code, out, err = finish(start("demo", "--broker", f"sqlite:///{place / 'shop.db'}", "--processes", "2"), 110)
    assert code == 0, err
    assert "every module was counted exactly once" in out
    assert [each.id for each in app.broker.peek()] == [kept.id]
    assert not app.control.ping(timeout=0.1)


def test_the_demo_fails_when_its_worker_does(start: Callable[..., Any], place: Path) -> None:
    # the worker's environment is the demo's: an interpreter option that makes its first import fail
    (place / "lonely").mkdir()
    (place / "lonely" / "sitecustomize.py").write_text(
        "import sys\nif 'worker' in sys.orig_argv: sys.exit('this worker does not start')\n"
    )
    code, out, err = finish(start("demo", PYTHONPATH="lonely"))
    assert code == 1, err
    assert "the worker ended with exit code" in err
    assert "this worker does not start" in err
    assert out == ""
