"""What is wrong with a command line is said in one paragraph, with exit code 2, and never with a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celeriac import __version__
from celeriac.cli.root import _COMMANDS, root

Command = Callable[..., Any]

MISTAKES = {
    "no such module": (("-A", "shpo", "queues"), "no module 'shpo'"),
    "a module without an application": (("-A", "json", "queues"), "has no Celeriac application"),
    "an attribute that is none": (("-A", "json:dumps", "queues"), "'json:dumps' is a function"),
    "no such attribute": (("-A", "shop:ap", "queues"), "did you mean 'app'?"),
    "a URL without a scheme": (("-b", "shop.db", "queues"), "has no scheme"),
    "an unknown scheme": (("-b", "redsi://x", "queues"), "did you mean redis://?"),
    "a broker inside one process": (("-b", "memory://", "queues"), "lives inside one process"),
    "neither application nor broker": (("queues",), "no application and no broker"),
    "a worker without an application": (("worker",), "a worker needs an application"),
    "a beat without an application": (("beat",), "a beat needs an application"),
    "a beat in the background": (("-A", "shop", "beat", "--detach"), "stays in the foreground"),
    "a schedule without an application": (("schedule", "list"), "belongs to an application"),
    "no schedule": (("-A", "shop", "schedule", "add", "x", "shop.add"), "say when"),
    "two schedules": (
        ("-A", "shop", "schedule", "add", "x", "shop.add", "--every", "5", "--cron", "* * * * *"),
        "one of",
    ),
    "no duration": (("-A", "shop", "schedule", "add", "x", "shop.add", "--every", "1h30"), "is no duration"),
    "half a place on earth": (("-A", "shop", "schedule", "add", "x", "shop.add", "--solar", "sunset,52"), "LONGITUDE"),
    "an unknown option": (("-A", "shop", "worker", "--concurency", "3"), "--concurrency"),
    "an unknown command": (("wroker",), "did you mean 'worker'?"),
    "an unknown command below": (("dead", "rety"), "did you mean 'retry'?"),
    "a pool that is none": (("-A", "shop", "worker", "-P", "forks"), "'forks' is not one of"),
    "no processes": (("-A", "shop", "worker", "-c", "0"), "neither a number from 1 nor 'auto'"),
    "a level that is none": (("-A", "shop", "worker", "-l", "LOUD"), "'LOUD' is not one of"),
    "arguments that are not JSON": (("-A", "shop", "call", "shop.add", "-a", "1, 2"), "is not JSON"),
    "arguments that are no array": (("-A", "shop", "call", "shop.add", "-a", "{}"), "is not a JSON array"),
    "keywords that are no object": (("-A", "shop", "call", "shop.add", "-k", "[]"), "is not a JSON object"),
    "arguments that do not fit": (("-A", "shop", "call", "shop.add", "-a", "[1]"), "'b'"),
    "a task that is none": (("-A", "shop", "call", "shop.ad"), "did you mean 'shop.add'?"),
    "a moment that is none": (("-A", "shop", "call", "shop.add", "--eta", "soon"), "is no moment"),
    "a priority out of range": (("-A", "shop", "call", "shop.add", "--priority", "10"), "10"),
    "a question that is none": (("-A", "shop", "inspect", "actve"), "'actve' is not one of"),
    "ids for a question without": (("-A", "shop", "inspect", "ping", "x"), "takes no further arguments"),
    "no ids for one with": (("-A", "shop", "inspect", "query_task"), "needs the ids"),
    "a signal that is none": (("-A", "shop", "revoke", "x", "--signal", "STOPP"), "is no signal"),
    "ids and --all": (("-A", "shop", "dead", "retry", "x", "--all"), "or --all"),
    "neither ids nor --all": (("-A", "shop", "dead", "drop"), "or --all"),
    "no queue left": (("-A", "shop", "purge", "-X", "celery"), "no queue is left"),
    "a setting that is none": (("settings", "worker_cocurrency"), "did you mean 'worker_concurrency'?"),
    "a directory that is none": (("--workdir", "nowhere", "-A", "shop", "queues"), "'nowhere' does not exist"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_explained(celeriac: Command, mistake: str) -> None:
    args, expected = MISTAKES[mistake]
    run = celeriac(*args)
    assert run.code == 2, run
    assert expected in run.err, run
    assert run.exception is None
    assert "Traceback" not in run.err
    assert run.out == ""


def test_a_setting_that_is_wrong(celeriac: Command) -> None:
    run = celeriac("-A", "shop", "queues", env={"CELERIAC_TASK_DEFALT_QUEUE": "x"})
    assert run.code == 2
    assert "CELERIAC_TASK_DEFAULT_QUEUE" in run.err


def test_a_module_that_fails_to_import_says_where(celeriac: Command, place: Path) -> None:
    (place / "broken_shop.py").write_text("import json\n1 / 0\n")
    run = celeriac("-A", "broken_shop", "queues")
    assert run.code == 2
    assert "broken_shop.py:2" in run.err
    assert "ZeroDivisionError" in run.err


def test_a_file_that_is_no_database(celeriac: Command, place: Path) -> None:
    (place / "shop.db").write_text("this is a text, and a long one, " * 100)
    run = celeriac("-A", "shop", "queues")
    assert run.code == 2
    assert str(place / "shop.db") in run.err
    assert "Traceback" not in run.err


def test_a_reader_that_leaves_is_no_error(place: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "celeriac", "settings"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) in (0, 1)


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_has_help_with_examples(celeriac: Command, name: str) -> None:
    run = celeriac(name, "--help")
    assert run.code == 0, run
    assert f"Usage: celeriac {name}" in run.out
    assert "celeriac --help" in run.out or "Commands:" in run.out


def test_help_names_every_command_in_its_own_words(celeriac: Command) -> None:
    run = celeriac("--help")
    assert run.code == 0
    for name, text in _COMMANDS.items():
        assert f"  {name} " in run.out
        assert text in run.out
    assert set(root.list_commands(None)) == set(_COMMANDS)  # type: ignore[arg-type]


def test_global_options_stand_on_either_side(celeriac: Command) -> None:
    before = celeriac("-A", "shop", "-q", "queues", "--json")
    behind = celeriac("queues", "--json", "-A", "shop", "-q")
    assert (before.code, behind.code) == (0, 0), (before, behind)
    assert before.json == behind.json


def test_the_application_may_come_from_the_environment(celeriac: Command) -> None:
    assert celeriac("queues", "--json", env={"CELERIAC_APP": "shop"}).code == 0
    assert celeriac("-A", "shop", "queues", "--json", env={"CELERIAC_APP": "nothing"}).code == 0


def test_workdir_is_where_the_application_is_found(
    celeriac: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = place / "elsewhere"
    other.mkdir()
    monkeypatch.chdir(other)
    run = celeriac("--workdir", str(place), "-A", "shop", "queues", "--json")
    assert run.code == 0, run
    assert (place / "shop.db").exists()
    assert not list(other.iterdir())


def test_version(celeriac: Command) -> None:
    assert celeriac("--version").out.split() == ["celeriac", __version__]


@pytest.mark.slow
def test_help_costs_little(place: Path) -> None:
    def cost() -> float:
        before = os.times()
        subprocess.run([sys.executable, "-m", "celeriac", "--help"], check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        return (after.children_user - before.children_user) + (after.children_system - before.children_system)

    assert min(cost() for _ in range(3)) <= 0.25


def test_help_imports_neither_the_application_room_nor_rich(place: Path) -> None:
    code = (
        "import sys\nfrom celeriac.cli import main\nsys.argv = ['celeriac', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "bad = [name for name in sys.modules if name.startswith(('celeriac.app', 'rich', 'msgspec'))]\n"
        "sys.exit(repr(bad) if bad else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
