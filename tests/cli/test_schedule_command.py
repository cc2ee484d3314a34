"""`celeriac schedule`: what it shows, what it changes, and what it says of mistakes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from rich.cells import cell_len

from celeriac import Celeriac
from celeriac.cli.moments import duration
from celeriac.model import BeatInfo, Outgoing, ScheduleRow, Tick

Command = Callable[..., Any]

TIMED = """
from celeriac import Celeriac, crontab, every

app = Celeriac("timed_shop", broker="sqlite:///shop.db", timezone="Europe/Warsaw")


@app.periodic(crontab(hour=7, minute=30), name="nightly", description="the books", args=("eu",))
@app.task
def report(region: str) -> str:
    return region


@app.periodic(every(minutes=5), name="poll", enabled=False)
@app.task
def poll() -> None:
    pass
"""


@pytest.fixture
def schedule(celeriac: Command, place: Path) -> Command:
    """Runs `celeriac -A timed_shop schedule …`."""
    (place / "timed_shop.py").write_text(TIMED)
    return lambda *args: celeriac("-A", "timed_shop", "schedule", *args)


@pytest.fixture
def timed(place: Path) -> Iterator[Celeriac]:
    """Another process's view of that store."""
    with Celeriac("timed_shop", broker=f"sqlite:///{place / 'shop.db'}") as made:
        yield made


def rows(run: Any) -> dict[str, list[str]]:
    """A table by its first column, in words."""
    return {words[0]: words for line in run.out.splitlines() if len(words := line.split()) > 3}


def test_entries_of_the_code_are_listed(schedule: Command) -> None:
    run = schedule("list")
    assert run.code == 0, run
    assert "code" in rows(run)["nightly"]
    assert "every day at 07:30, Europe/Warsaw" in run.out
    assert "disabled" in rows(run)["poll"]
    assert "no beat is there" in run.err
    listed = schedule("list", "--json").json
    assert [entry["name"] for entry in listed["entries"]] == ["nightly", "poll"]
    assert listed["beats"] == []
    nightly = listed["entries"][0]
    assert (nightly["origin"], nightly["state"], nightly["runs"]) == ("code", "active", 0)
    assert (datetime.fromisoformat(nightly["next_at"]).hour, nightly["description"]) == (7, "the books")


def test_beats_that_are_there_are_listed(schedule: Command, timed: Celeriac) -> None:
    info = BeatInfo(name="beat@web1:4711", host="web1", pid=4711, started_at=1.0, looked_at=2.0)
    timed.schedule_store.hail(info, ttl_s=60.0)
    run = schedule("list")
    assert "1 beat: beat@web1:4711 (up " in run.out
    assert "no beat" not in run.err
    [beat] = schedule("list", "--json").json["beats"]
    assert (beat["name"], beat["pid"]) == ("beat@web1:4711", 4711)
    assert (beat["started_at"], beat["looked_at"]) == ("1970-01-01T00:00:01+00:00", "1970-01-01T00:00:02+00:00")


def on_a_terminal(columns: int, *args: str) -> str:
    """What `celeriac` writes on a terminal of so many columns, without the codes of its colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, "-m", "celeriac", *args], env=environment,
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        os.close(theirs)
        written = b""
        while True:
            try:
                more = os.read(ours, 65_536)
            except OSError:  # so a terminal says that nobody writes any more
                break
            if not more:
                break
            written += more
        assert process.wait(30.0) == 0
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;]*m", "", written.decode()).replace("\r\n", "\n")


@pytest.mark.processes
@pytest.mark.parametrize("columns", [80, 100, 160])
def test_a_list_can_be_read_on_a_terminal_of_any_width(schedule: Command, timed: Celeriac, columns: int) -> None:
    def look() -> list[str]:
        shown = on_a_terminal(columns, "-A", "timed_shop", "schedule", "list").splitlines()
        assert max(map(cell_len, shown)) <= columns
        return shown

    heading, _, nightly, *_ = look()
    assert heading.split() == ["name", "origin", "state", "when", "next"], "what is empty in all rows is left out"
    assert re.search(r" in (\d+ h|\d+ min|\d+ s|\d+ h \d+ min|\d+ min \d+ s)(,|$)", nightly.rstrip()), nightly
    assert bool(re.search(r", [-0-9 ]*07:30:00", nightly)) == (columns > 80), nightly

    long, wide = "n" * 40, "報告書を毎朝送る"
    assert schedule("add", long, "timed_shop.poll", "--every", "1h", "--by", "zoë").code == 0
    assert schedule("add", wide, "timed_shop.poll", "--cron", "0 8 1-7 * mon-sat", "--by", "ann").code == 0
    assert schedule("pause", "nightly", "--by", "ann").code == 0
    shown = look()
    text = " ".join(" ".join(shown).split())
    assert long in text
    assert wide in text
    assert re.search(r"paused by ann, \d+ m?s ago", text)
    assert re.search(r"in 59 min \d+ s, [-0-9 ]*\d\d:\d\d:\d\d ", text)
    if columns == 160:
        assert shown[0].split()[:3] == ["name", "origin", "state"]
    else:
        assert f"{long} active, store every hour next in 59 min" in text


def test_all_that_is_known_of_an_entry_is_shown(schedule: Command, timed: Celeriac) -> None:
    assert 'args:           ["eu"]\n' in (run := schedule("show", "nightly")).out, run
    assert 'schedule:       {"crontab": "30 7 * * *"}\n' in run.out
    assert "description:    the books\n" in run.out
    assert re.search(r"next_at: +[-0-9]{10} 07:30:00[+]0[12]:00 \(in ", run.out), run
    now = round(timed.clock.time() * 1_000_000)
    tick = Tick(name="nightly", queue="celery", after=0, at=now, message=None, skipped=2, note="missed")
    assert timed.schedule_store.tick([tick])[0].verdict == "passed"
    out = schedule("show", "nightly").out
    assert "note:           missed\n" in out
    message = Outgoing(id="0f6a", task="timed_shop.report", queue="celery", body=b"[]", headers=b"{}")
    tick = Tick(name="nightly", queue="celery", after=now, at=now + 1, message=message)
    assert timed.schedule_store.tick([tick])[0].verdict == "fired"
    out = schedule("show", "nightly").out
    assert "last_task_id:   0f6a\n" in out
    assert "note:" not in out


def test_an_entry_that_is_in_the_store_too_is_told_of(schedule: Command, timed: Celeriac, celeriac: Command) -> None:
    spec = b'{"task": "timed_shop.poll", "schedule": {"every": 5}}'
    timed.schedule_store.put(ScheduleRow(name="nightly", spec=spec), expected=0)
    run = schedule("list")
    assert "every day at 07:30, Europe/Warsaw" in run.out
    assert "celeriac: schedule entry 'nightly' is in the store, too; the code's runs. Remove" in run.err
    found = celeriac("-A", "timed_shop", "doctor", "--json").json["findings"]
    assert [each["level"] for each in found if each["check"] == "schedule"] == ["wrong", "note"]
    assert celeriac("-A", "timed_shop", "beat", "--check").code == 78


def test_an_entry_s_life(schedule: Command, timed: Celeriac) -> None:
    run = schedule(
        "add", "late", "timed_shop.report", "--cron", "0 23 * * fri", "--timezone", "Asia/Tokyo", "--args", '["jp"]',
        "--queue", "slow", "--priority", "7", "--expires", "1h", "--catch-up", "all", "--catch-up-limit", "3",
        "--overlap", "skip", "--jitter", "30s", "--max-lateness", "2h", "--description", "for Tokyo", "--by", "ann",
    )  # fmt: skip
    assert run.code == 0, run
    assert "added late: every Friday at 23:00, Asia/Tokyo; next " in run.out
    shown = schedule("show", "late", "--json").json
    assert (shown["origin"], shown["changed_by"], shown["change"]) == ("store", "ann", "added")
    assert len(shown["coming"]) == 5
    assert shown["spec"]["options"] == {"queue": "slow", "priority": 7, "expires": 3600.0}
    assert {key: shown["spec"][key] for key in ("catch_up", "catch_up_limit", "overlap", "jitter", "max_lateness")} == {
        "catch_up": "all", "catch_up_limit": 3, "overlap": "skip", "jitter": 30.0, "max_lateness": 7200.0,
    }  # fmt: skip

    run = schedule("pause", "late", "nightly", "--by", "bob")
    assert run.out == "paused late\npaused nightly\n"
    listed = {entry["name"]: entry for entry in schedule("list", "--json").json["entries"]}
    assert {name: entry["state"] for name, entry in listed.items()} == {
        "late": "paused",
        "nightly": "paused",
        "poll": "disabled",
    }
    assert "paused by bob" in schedule("list").out
    assert schedule("next").out == "nothing is due\n"
    assert schedule("resume", "late", "nightly").code == 0
    assert [each["name"] for each in schedule("next", "--json").json] != []

    sent = schedule("run", "late")
    assert sent.code == 0, sent
    [message] = timed.broker.peek(ids=(sent.out.strip(),), limit=1)
    assert (message.task, message.queue) == ("timed_shop.report", "slow")

    assert schedule("remove", "late").out == "removed late\n"
    run = schedule("show", "late")
    assert (run.code, run.out) == (1, "")
    assert "there is no schedule entry 'late'" in run.err


def test_an_entry_is_changed(schedule: Command) -> None:
    assert schedule("add", "e", "timed_shop.report", "--every", "10m", "-a", '["eu"]', "-Q", "slow").code == 0
    run = schedule("update", "e", "--cron", "0 9 * * *", "--priority", "3", "--overlap", "skip", "--by", "bob")
    assert run.code == 0, run
    assert "changed e: every day at 09:00, Europe/Warsaw; next " in run.out
    shown = schedule("show", "e", "--json").json
    assert (shown["change"], shown["changed_by"]) == ("changed", "bob")
    assert shown["spec"]["options"] == {"queue": "slow", "priority": 3}
    assert (shown["spec"]["args"], shown["spec"]["overlap"]) == (["eu"], "skip")
    assert "say what is to change" in schedule("update", "e").err
    run = schedule("update", "e", "--args", "[1, 2, 3]")
    assert run.code == 2
    assert "schedule entry 'e': " in run.err
    assert "cannot be changed here" in schedule("update", "nightly", "--every", "1m").err


def test_the_doctor_looks_at_the_schedule(schedule: Command, celeriac: Command, timed: Celeriac) -> None:
    assert schedule("add", "x", "timed_shop.poll", "--every", "5").code == 0

    def look() -> tuple[str, str]:
        found = celeriac("-A", "timed_shop", "doctor", "--json").json["findings"]
        [mine] = [each for each in found if each["check"] == "schedule"]
        return mine["level"], mine["found"]

    assert look() == ("note", "3 entries, 2 active, 0 beats")
    info = BeatInfo(name="b", host="h", pid=1, started_at=1.0, looked_at=2.0)
    timed.schedule_store.hail(info, ttl_s=60.0)
    assert look() == ("ok", "3 entries, 2 active, 1 beat")


def test_what_is_due_until_a_moment(schedule: Command) -> None:
    now = datetime.now()  # noqa: DTZ005 - as people write it
    until = (now + timedelta(days=3)).replace(hour=12, minute=0, second=0, microsecond=0)
    run = schedule("preview", "nightly", "--until", until.isoformat())
    assert run.code == 0, run
    assert f"{until.isoformat()} is read as a time in Europe/Warsaw: " in run.err
    found = schedule("preview", "--until", until.isoformat(), "--json").json
    assert len(found) in (3, 4)
    assert {each["name"] for each in found} == {"nightly"}
    run = schedule("preview", "nightly", "--until", until.isoformat(), "-n", "2")
    assert "the first 2; more with --limit" in run.err


def test_each_way_to_say_when(schedule: Command) -> None:
    for name, options, words in (
        ("a", ("--every", "1h30m"), "every 1 hour and 30 minutes"),
        ("b", ("--cron", "*/5 * * * *"), "every 5 minutes"),
        ("c", ("--at", "2999-12-01T10:00"), "once on 2999-12-01 at 10:00"),
        ("d", ("--rrule", "DTSTART:20260106T090000 FREQ=WEEKLY;INTERVAL=2;BYDAY=TU"), "Tuesday"),
        ("e", ("--solar", "sunset, 52.2, 21.0"), "sunset"),
    ):
        run = schedule("add", name, "timed_shop.poll", *options, "--json")
        assert run.code == 0, run
        assert words in run.json["when"], run
        assert run.json["next_at"] is not None
    assert len(schedule("list", "--json").json["entries"]) == 7


MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "an impossible date": (("timed_shop.poll", "--cron", "0 0 31 2 *"), "31"),
    "a zone that is none": (("timed_shop.poll", "--cron", "* * * * *", "--timezone", "Europe/Warsow"), "Europe/Warsaw"),
    "the same with a moment": (
        ("timed_shop.poll", "--at", "2999-01-01T00:00", "--timezone", "Europe/Warsow"),
        "Europe/Warsaw",
    ),
    "an interval of zero": (("timed_shop.poll", "--every", "0"), "0"),
    "a task that is none": (("timed_shop.pol", "--every", "5"), "timed_shop.pol"),
    "arguments that do not fit": (("timed_shop.report", "--every", "5"), "region"),
    "what is over": (("timed_shop.poll", "--at", "2001-01-01T00:00Z"), "never be due"),
    "an end before its start": (
        ("timed_shop.poll", "--every", "5", "--start", "2999-01-02T00:00Z", "--end", "2999-01-01T00:00Z"),
        "is not after",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_the_entry(schedule: Command, mistake: str) -> None:
    args, expected = MISTAKES[mistake]
    run = schedule("add", "wrong one", *args)
    assert run.code == 2, run
    assert expected in run.err, run
    assert "'wrong one'" in run.err, run
    assert "Traceback" not in run.err
    assert len(schedule("list", "--json").json["entries"]) == 2, "nothing was added"


def test_names_that_are_taken_or_of_the_code(schedule: Command) -> None:
    assert schedule("add", "x", "timed_shop.poll", "--every", "5").code == 0
    run = schedule("add", "x", "timed_shop.poll", "--every", "6")
    assert (run.code, "'x' is in the store already" in run.err) == (2, True), run
    run = schedule("add", "nightly", "timed_shop.poll", "--every", "6")
    assert (run.code, "'nightly' is in the code already" in run.err) == (2, True), run
    run = schedule("remove", "nightly", "x")
    assert (run.code, run.out) == (1, "removed x\n"), "one that cannot be removed does not stop the others"
    assert "'nightly' is in the code" in run.err
    for action in ("pause", "resume", "run", "show", "preview"):
        run = schedule(action, "nihgtly")
        assert (run.code, "did you mean 'nightly'?" in run.err) == (1, True), run


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0), ("1.5", 1.5), ("10s", 10.0), ("5m", 300.0), ("1h30m", 5400.0), ("2d", 172_800.0),
        ("1w", 604_800.0), ("500ms", 0.5), ("1h 30min", 5400.0), ("0", 0.0),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert duration(click.Context(click.Command("x")), click.Option(["--every"]), text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1h30", "5x", "-5", "h", "1 2"])
def test_no_durations(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no duration"):
        duration(click.Context(click.Command("x")), click.Option(["--every"]), text)
