"""`celeriac beat` and `worker --beat` as a user starts them: real processes, real signals, real ends."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from cli_programs import eventually, finish

from celeriac import Celeriac, __version__
from celeriac.app.beating import Answering, banner
from celeriac.model import ScheduleRow

Command = Callable[..., Any]

pytestmark = [pytest.mark.processes, pytest.mark.slow]

EVERY_S = 0.2

CLOCKWORK = """
import os
from celeriac import Celeriac, every, signals

app = Celeriac("clockwork", broker=os.environ["CLOCKWORK"], beat_misfire_grace=60.0)


def note(file, *words):
    fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, (" ".join(map(str, words)) + "\\n").encode())
    os.close(fd)


@app.periodic(every(0.2), name="tick")
@app.task(bind=True)
def tick(self):
    note("ticks", self.request.headers["scheduled_at"], self.request.id)


@signals.beat_init.connect
def alone(sender, **_):
    note("signals", "beat_init", sender.name)


@signals.beat_embedded_init.connect
def embedded(sender, **_):
    note("signals", "beat_embedded_init", sender.name)
"""


@pytest.fixture
def clockwork(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celeriac]:
    """An application with an entry that is due every 0.2 s; this is another process's view of it."""
    (place / "clockwork.py").write_text(CLOCKWORK)
    url = f"sqlite:///{place / 'clockwork.db'}"
    monkeypatch.setenv("CLOCKWORK", url)
    with Celeriac("clockwork", broker=url) as made:
        yield made


def lines(file: Path) -> list[list[str]]:
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def ticks(place: Path) -> list[tuple[datetime, str]]:
    """The instants for which the task has run, in that order, each with the message's id."""
    return [(datetime.fromisoformat(at), task_id) for at, task_id in lines(place / "ticks")]


def wait_for_ticks(place: Path, count: int) -> None:
    eventually(f"{count} ticks", lambda: len(ticks(place)) >= count)


def assert_each_once(place: Path) -> None:
    """No instant is missing between the first and the last, and none is there twice."""
    found = sorted(at for at, _ in ticks(place))
    assert len({task_id for _, task_id in ticks(place)}) == len(found)
    steps = [round((after - before).total_seconds() / EVERY_S, 3) for before, after in itertools.pairwise(found)]
    assert steps == [1.0] * len(steps), steps


def drain(place: Path, app: Celeriac) -> None:
    """Wait until all that was sent has run."""
    eventually("an empty queue", lambda: not any(each.ready + each.held for each in app.broker.depth().values()))


def test_a_beat_and_a_worker_on_sqlite(start: Callable[..., Any], place: Path, clockwork: Celeriac) -> None:
    beat_and_worker(start, place, clockwork.broker_url)


def test_a_beat_and_a_worker_on_redis(
    start: Callable[..., Any], place: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    (place / "clockwork.py").write_text(CLOCKWORK)
    monkeypatch.setenv("CLOCKWORK", redis_url)
    beat_and_worker(start, place, redis_url)


def beat_and_worker(start: Callable[..., Any], place: Path, url: str) -> None:
    worker = start("-A", "clockwork", "worker", "-c", "1")
    beat = start("-A", "clockwork", "beat", "--enable-remote-control")
    wait_for_ticks(place, 5)
    with Celeriac("clockwork", broker=url) as app:
        eventually("both answers", lambda: len(app.control.ping(timeout=1.0)) == 2)
        [[node, _]] = app.control.inspect(timeout=0.5).active().items()
    assert not node.startswith("celerybeat@"), "it answers nothing else"
    beat.send_signal(signal.SIGHUP)
    beat.send_signal(signal.SIGTERM)
    code, _, err = finish(beat, 10.0)
    assert code == 0, err
    assert f"celeriac {__version__}  beat@" in err
    assert "entries  1 of the code, 0 of the store" in err
    assert "  next     " in err
    assert "for entry 'tick'" in err
    with Celeriac("clockwork", broker=url) as app:
        drain(place, app)
        assert not list(app.schedules.beats())
    worker.send_signal(signal.SIGTERM)
    assert finish(worker)[0] == 0
    assert_each_once(place)
    assert [words[0] for words in lines(place / "signals")] == ["beat_init"]


def test_one_of_two_beats_is_killed(start: Callable[..., Any], place: Path, clockwork: Celeriac) -> None:
    start("-A", "clockwork", "worker", "-c", "1")
    beats = [start("-A", "clockwork", "beat", "-n", f"b{number}") for number in (1, 2)]
    eventually("two beats", lambda: len(clockwork.schedules.beats()) == 2)
    wait_for_ticks(place, 3)
    for victim in (0, 1):
        beats[victim].send_signal(signal.SIGKILL)
        finish(beats[victim])
        wait_for_ticks(place, len(ticks(place)) + 3)
        beats[victim] = start("-A", "clockwork", "beat")
        wait_for_ticks(place, len(ticks(place)) + 3)
    for beat in beats:
        beat.send_signal(signal.SIGINT)
        assert finish(beat)[0] == 0
    drain(place, clockwork)
    assert_each_once(place)


def test_a_beat_logs_json_into_a_file(start: Callable[..., Any], place: Path, clockwork: Celeriac) -> None:
    beat = start("-A", "clockwork", "beat", "--json-logs", "-f", "beat.log", "-l", "debug", "-s", "file", "-n", "b@%h")
    eventually("a line", lambda: (place / "beat.log").exists() and "tick" in (place / "beat.log").read_text())
    beat.send_signal(signal.SIGTERM)
    code, _, err = finish(beat)
    assert code == 0
    assert "--schedule has no effect" in err
    assert "  b@" in err.splitlines()[1]
    said = [json.loads(line) for line in (place / "beat.log").read_text().splitlines()]
    assert {line["logger"] for line in said} >= {"celeriac.beat"}
    assert said[-1]["message"] == "beat: stopped"


def test_an_entry_of_the_store_is_run_by_a_beat_that_is_there_already(
    start: Callable[..., Any], celeriac: Command, place: Path, clockwork: Celeriac
) -> None:
    start("-A", "clockwork", "worker", "-c", "1")
    start("-A", "clockwork", "beat")
    eventually("a beat", lambda: clockwork.schedules.beats())
    run = celeriac("-A", "clockwork", "schedule", "pause", "tick")
    assert run.code == 0, run
    run = celeriac("-A", "clockwork", "schedule", "add", "other", "clockwork.tick", "--every", "0.3s")
    assert (run.code, run.err) == (0, ""), run
    before = len(ticks(place))
    wait_for_ticks(place, before + 3)
    listed = celeriac("-A", "clockwork", "schedule", "list", "--json").json
    states = {entry["name"]: (entry["state"], entry["runs"] > 0) for entry in listed["entries"]}
    assert states["other"] == ("active", True)
    assert states["tick"][0] == "paused"


# -- inside a worker -----------------------------------------------------------------------------------------------


def beat_pid(app: Celeriac) -> int | None:
    answers = app.control.inspect(timeout=0.5).stats()
    return next((stats["beat"]["pid"] for stats in answers.values()), None)


def test_a_worker_s_beat_is_killed(start: Callable[..., Any], place: Path, clockwork: Celeriac) -> None:
    worker = start("-A", "clockwork", "worker", "-c", "1", "--beat")
    wait_for_ticks(place, 3)
    for _ in range(2):
        first = eventually("its beat", lambda: beat_pid(clockwork))
        os.kill(first, signal.SIGKILL)
        eventually("another one", lambda old=first: beat_pid(clockwork) not in (None, old))
        wait_for_ticks(place, len(ticks(place)) + 3)
    worker.send_signal(signal.SIGTERM)
    code, _, err = finish(worker)
    assert code == 0, err
    assert "beat     yes" in err
    assert err.count("ended with signal 9 (SIGKILL); another one begins") == 2
    assert "for entry 'tick'" in err
    assert not list(clockwork.schedules.beats())[2:], "the last one has taken leave"
    assert {words[0] for words in lines(place / "signals")} == {"beat_embedded_init"}
    start("-A", "clockwork", "worker", "-c", "1")
    drain(place, clockwork)
    assert_each_once(place)


def test_a_worker_s_beat_ends_with_its_supervisor(start: Callable[..., Any], place: Path, clockwork: Celeriac) -> None:
    worker = start("-A", "clockwork", "worker", "-c", "1", "-B")
    wait_for_ticks(place, 1)
    beat = psutil.Process(eventually("its beat", lambda: beat_pid(clockwork)))
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    assert psutil.wait_procs([beat], timeout=10)[1] == [], "it is still there"


def test_a_restart_replaces_the_beat(start: Callable[..., Any], place: Path, clockwork: Celeriac) -> None:
    worker = start("-A", "clockwork", "worker", "-c", "1", "-B")
    wait_for_ticks(place, 1)
    first = eventually("its beat", lambda: beat_pid(clockwork))
    source = (place / "clockwork.py").read_text()
    (place / "clockwork.py").write_text(source + '\napp.add_periodic_task(0.2, tick.s(), name="second")\n')
    worker.send_signal(signal.SIGHUP)
    eventually("another beat", lambda: beat_pid(clockwork) not in (None, first))
    eventually("its entry", lambda: any(beat.entries == 2 for beat in clockwork.schedules.beats()))
    assert not psutil.pid_exists(first) or eventually("the end of the first", lambda: not psutil.pid_exists(first))
    worker.send_signal(signal.SIGTERM)
    assert finish(worker)[0] == 0


def test_a_beat_in_the_worker_s_only_process(start: Callable[..., Any], place: Path, clockwork: Celeriac) -> None:
    worker = start("-A", "clockwork", "worker", "-P", "solo", "-B")
    wait_for_ticks(place, 3)
    worker.send_signal(signal.SIGTERM)
    code, _, err = finish(worker)
    assert code == 0, err
    assert not list(clockwork.schedules.beats())
    [[kind, name]] = lines(place / "signals")
    assert (kind, name.rpartition(":")[2]) == ("beat_embedded_init", str(worker.pid))
    start("-A", "clockwork", "worker", "-c", "1")
    drain(place, clockwork)
    assert_each_once(place)


FLAKY = """
import os
from celeriac import Celeriac


class Flaky(Celeriac):
    made = 0

    def make_beat(self, *, name=None):
        Flaky.made += 1
        if Flaky.made == 2 and not os.path.exists("mended"):  # the first is made to see whether one can be
            with open("failures", "a") as file:
                file.write("x")
            if "solo" in os.environ["HOW"]:
                Flaky.made = 1
            raise RuntimeError("no beat today")
        return super().make_beat(name=name)


app = Flaky("flaky", broker="sqlite:///flaky.db")
"""


@pytest.mark.parametrize("pool", ["processes", "solo"])
def test_a_beat_that_fails_is_tried_again(start: Callable[..., Any], place: Path, pool: str) -> None:
    (place / "flaky.py").write_text(FLAKY)
    worker = start("-A", "flaky", "worker", "-P", pool, "-c", "1", "-B", HOW=pool)
    failures = place / "failures"
    eventually("three failures", lambda: failures.exists() and len(failures.read_text()) >= 3)
    (place / "mended").touch()
    with Celeriac("flaky", broker=f"sqlite:///{place / 'flaky.db'}") as app:
        eventually("a beat", lambda: list(app.schedules.beats()))
    worker.send_signal(signal.SIGTERM)
    code, _, err = finish(worker)
    assert code == 0, err
    assert "the beat failed" in err
    assert "RuntimeError: no beat today" in err


def test_the_banner_shows_each_entry_once_the_soonest_first(place: Path, clockwork: Celeriac) -> None:
    for name, seconds in (("c", 9000), ("d", 9), ("a", 90), ("b", 900)):
        clockwork.add_periodic_task(seconds, clockwork.signature("clockwork.tick"), name=name)
    clockwork.schedules.add("mine", "clockwork.tick", 5)
    shown = banner(clockwork, StuckBeat(0.0), "clockwork").splitlines()
    assert shown[3] == "  entries  4 of the code, 1 of the store"
    assert [line.split()[-1] for line in shown[4:]] == ["mine", "d", "a"]
    assert shown[4].startswith("  next     20")
    assert shown[5].startswith("           20")


# -- pid files -----------------------------------------------------------------------------------------------------


def test_a_pid_file(start: Callable[..., Any], place: Path, clockwork: Celeriac) -> None:
    file = place / "beat.pid"
    file.write_text("1\n")  # somebody lives there, and it is no beat
    beat = start("-A", "clockwork", "beat", "--pidfile", "beat.pid")
    eventually("its id", lambda: file.read_text() == f"{beat.pid}\n")
    code, _, err = finish(start("-A", "clockwork", "beat", "--pidfile", "beat.pid"))
    assert code == 73
    assert f"it runs already, as process {beat.pid}" in err
    assert file.read_text() == f"{beat.pid}\n"
    beat.send_signal(signal.SIGKILL)
    finish(beat)
    assert file.exists()
    second = start("-A", "clockwork", "beat", "--pidfile", "beat.pid")
    eventually("its id", lambda: file.read_text() == f"{second.pid}\n")
    second.send_signal(signal.SIGTERM)
    assert finish(second)[0] == 0
    assert not file.exists()
    code, _, err = finish(start("-A", "clockwork", "beat", "--pidfile", "nowhere/beat.pid"))
    assert code == 2
    assert "nowhere/beat.pid" in err


def test_a_worker_s_pid_file(start: Callable[..., Any], place: Path, clockwork: Celeriac) -> None:
    worker = start("-A", "clockwork", "worker", "-c", "1", "--pidfile", "w.pid")
    eventually("its id", lambda: (place / "w.pid").exists() and (place / "w.pid").read_text() == f"{worker.pid}\n")
    assert finish(start("-A", "clockwork", "worker", "-c", "1", "--pidfile", "w.pid"))[0] == 73
    worker.send_signal(signal.SIGKILL)  # its processes live on for a moment, and do not keep the file
    finish(worker)
    third = start("-A", "clockwork", "worker", "-c", "1", "--pidfile", "w.pid")
    eventually("its id", lambda: (place / "w.pid").read_text() == f"{third.pid}\n")


# -- remote control ------------------------------------------------------------------------------------------------


def test_a_beat_answers_ping_and_nothing_else(
    start: Callable[..., Any], celeriac: Command, clockwork: Celeriac
) -> None:
    start("-A", "clockwork", "beat", "--enable-remote-control", "-n", "celerybeat@here")
    eventually("its answer", lambda: celeriac("-A", "clockwork", "inspect", "ping", "-d", "celerybeat@here").code == 0)
    run = celeriac("-A", "clockwork", "inspect", "active", "-t", "0.5")
    assert run.code == 69, run


def test_status_counts_workers_and_beats_apart(
    start: Callable[..., Any], celeriac: Command, clockwork: Celeriac
) -> None:
    start("-A", "clockwork", "beat", "--enable-remote-control")
    start("-A", "clockwork", "beat", "--enable-remote-control", "-n", "second@here")
    eventually("two answers", lambda: len(clockwork.control.ping(timeout=0.5)) == 2)
    eventually("both to be known as beats", lambda: len(clockwork.schedules.beats()) == 2)
    run = celeriac("-A", "clockwork", "status", "-t", "0.5")
    assert (run.code, run.out) == (69, "2 beats online.\n"), run
    assert "no worker replied" in run.err
    run = celeriac("-A", "clockwork", "status", "-t", "0.5", "--json")
    assert (run.code, run.json) == (69, {}), run
    assert len(celeriac("-A", "clockwork", "inspect", "ping", "-t", "0.5", "--json").json) == 2, "as with Celery"
    start("-A", "clockwork", "worker", "-c", "1", "-n", "w@here")
    eventually("the worker's", lambda: len(clockwork.control.ping(timeout=0.5)) == 3)
    run = celeriac("-A", "clockwork", "status", "-t", "0.5")
    assert (run.code, run.out) == (0, "w@here: OK\n\n1 worker online.\n2 beats online.\n"), run


class StuckBeat:
    name = "beat@stuck"

    def __init__(self, looked_at: float) -> None:
        self.looked_at = looked_at

    def run(self) -> None: ...
    def stop(self) -> None: ...


@pytest.mark.parametrize(("age_s", "answers"), [(0.0, True), (30.0, False), (90.0, True)])
def test_a_beat_that_is_stuck_does_not_answer(clockwork: Celeriac, age_s: float, answers: bool) -> None:
    beat = StuckBeat(clockwork.clock.monotonic() - 60.0)
    answering = Answering(clockwork.control_channel, "celerybeat@h", beat, age_s=age_s)
    other = Answering(clockwork.control_channel, "other@h", beat, age_s=0.0)
    answering.start()
    other.start()
    try:
        for node in (answering, other):
            assert node.listens.wait(10.0)
        eventually("the other", lambda: {"other@h": {"ok": "pong"}} in clockwork.control.ping(timeout=2.0))
        found = clockwork.control.ping(["celerybeat@h"], timeout=2.0)
    finally:
        answering.stop()
        other.stop()
    assert found == ([{"celerybeat@h": {"ok": "pong"}}] if answers else [])


def test_a_broker_that_is_away_is_waited_for(start: Callable[..., Any], place: Path, clockwork: Celeriac) -> None:
    beat = start("-A", "clockwork", "-b", "redis://127.0.0.1:1/0", "beat", "--enable-remote-control", "-f", "log")
    eventually("its complaint", lambda: (place / "log").exists() and "trying again" in (place / "log").read_text())
    beat.send_signal(signal.SIGTERM)
    code, _, err = finish(beat)
    assert code == 0
    assert "entries  not known yet" in err
    assert "destroyed" not in err + (place / "log").read_text(), "remote control has ended in good order"


# -- bad input -----------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[str, str]] = {
    "an impossible date": ("@app.periodic('0 0 31 2 *', name='wrong one')", "31"),
    "a zone that is none": ("@app.periodic('0 7 * * *', name='wrong one', timezone='Europe/Warsow')", "Europe/Warsaw"),
    "a naive datetime": ("@app.periodic(datetime(2999, 1, 1), name='wrong one')", "no instant"),
    "a naive start": ("@app.periodic(5, name='wrong one', start=datetime(2999, 1, 1))", "time zone"),
    "an interval of zero": ("@app.periodic(0, name='wrong one')", "0"),
    "an unknown key": ("@app.periodic(5, name='wrong one', cron='x')", "cron"),
    "a task that is none": (
        "app.conf.beat_schedule = {'wrong one': {'task': 'wrong_shop.nowhere', 'schedule': 5}}\n",
        "wrong_shop.nowhere",
    ),
    "a zone that is none, in settings": (
        "app.conf.beat_schedule = {'wrong one': {'task': 'wrong_shop.work', 'schedule': 5, 'timezone': 'Mars'}}\n",
        "Mars",
    ),
    "two of one name": (
        "app.conf.beat_schedule = {'wrong one': {'task': 'wrong_shop.work', 'schedule': 5}}\n"  # noqa: ISC004
        "@app.periodic(6, name='wrong one')",
        "twice",
    ),
    "two of one name in the code": (
        "@app.periodic(6, name='wrong one')\n@app.task\ndef first() -> None: ...\n@app.periodic(7, name='wrong one')",
        "there already",
    ),
}


CASES = [(mistake, ("beat",)) for mistake in WRONG] + [
    (mistake, command)
    for mistake in ("an interval of zero", "a task that is none")
    for command in (("beat", "--check"), ("worker", "-B", "-c", "1"), ("worker", "-B", "-P", "solo"))
]
"""`@app.periodic` is judged when it is imported, settings are when the beat is made."""


@pytest.mark.parametrize(("mistake", "command"), CASES)
def test_a_wrong_entry_ends_it_before_it_has_begun(place: Path, mistake: str, command: tuple[str, ...]) -> None:
    source, expected = WRONG[mistake]
    (place / "wrong_shop.py").write_text(
        "from datetime import datetime\nfrom celeriac import Celeriac\n\n"
        "app = Celeriac('wrong_shop', broker='sqlite:///wrong.db')\n\n"
        f"{source}\n@app.task(name='wrong_shop.work')\ndef work() -> None: ...\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "celeriac", "-A", "wrong_shop", *command],
        cwd=place, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 78, done.stderr
    assert "celeriac: schedule entry 'wrong one'" in done.stderr
    assert "could not be loaded" not in done.stderr
    assert expected in done.stderr
    assert "celeriac/" not in done.stderr, "no frames of ours"


def test_check_says_how_many_are_right(place: Path, celeriac: Command, clockwork: Celeriac) -> None:
    run = celeriac("-A", "clockwork", "beat", "--check")
    assert (run.code, run.out) == (0, "1 entry, none of them wrong\n"), run


def test_check_looks_at_the_store_too(celeriac: Command, clockwork: Celeriac) -> None:
    spec = b'{"task": "clockwork.gone", "schedule": {"every": 5}}'
    clockwork.schedule_store.put(ScheduleRow(name="old one", spec=spec), expected=0)
    run = celeriac("-A", "clockwork", "beat", "--check")
    assert (run.code, run.out) == (78, "2 entries, 1 of them wrong\n"), run
    assert "schedule entry 'old one'" in run.err
    assert "clockwork.gone" in run.err


def test_a_broker_that_lives_in_one_process(place: Path, celeriac: Command) -> None:
    (place / "lonely_shop.py").write_text("from celeriac import Celeriac\napp = Celeriac('l', broker='memory://l')\n")
    run = celeriac("-A", "lonely_shop", "beat")
    assert run.code == 78, run
    assert run.err.startswith("celeriac: the broker memory://l lives inside one process"), run


def test_multi_passes_the_beat_on(celeriac: Command) -> None:
    assert "worker -n w1@" in (run := celeriac("multi", "show", "w1", "-A", "shop", "-B")).out
    assert run.out.rstrip().endswith("-A shop -B") or " -B" in run.out
