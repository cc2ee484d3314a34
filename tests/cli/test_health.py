"""Commands about the set-up: doctor, settings, report, shell; and inspect where nobody answers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from celeriac import Celeriac, __version__
from celeriac.codec import read_keys, write_keys

Command = Callable[..., Any]


def found(run: Any, check: str, level: str | None = None) -> list[dict[str, str]]:
    return [each for each in run.json["findings"] if each["check"] == check and level in (None, each["level"])]


def test_a_sound_set_up(celeriac: Command, app: Celeriac) -> None:
    app.broker.depth()
    run = celeriac("-A", "shop", "doctor", "--json")
    assert run.code == 0, run
    assert run.json["wrong"] == 0
    assert "'shop' with 3 tasks" in found(run, "application", "ok")[0]["found"]
    assert "sound" in found(run, "database", "ok")[0]["found"]
    assert found(run, "workers", "note")[0]["found"] == "none replied"
    for check in ("python", "settings", "sqlite", "permissions", "disk space", "limits", "clock", "dead letters"):
        assert found(run, check), check
    text = celeriac("-A", "shop", "doctor")
    assert text.code == 0
    assert "Nothing is wrong." in text.out
    assert "ok" not in [line.split()[0] for line in celeriac("-q", "-A", "shop", "doctor").out.splitlines() if line]


def test_looking_makes_no_file(celeriac: Command, place: Path) -> None:
    before = sorted(place.iterdir())
    assert celeriac("doctor").code == 0
    assert celeriac("-A", "shop", "doctor").code == 0
    assert [each for each in sorted(place.iterdir()) if each.name != "__pycache__"] == before


def test_messages_without_a_worker_are_wrong(celeriac: Command, app: Celeriac) -> None:
    app.send_task("shop.add", (1, 2))
    run = celeriac("-A", "shop", "doctor", "--json")
    assert run.code == 1
    (workers,) = found(run, "workers", "wrong")
    assert "1 messages are ready" in workers["found"]
    assert "worker" in workers["advice"]


async def test_dead_letters_are_noted(celeriac: Command, bury: Any) -> None:
    await bury()
    run = celeriac("-A", "shop", "doctor", "--json")
    assert found(run, "dead letters", "note")[0]["found"] == "1 in celery"


def test_settings_without_effect_are_noted_with_the_reason(celeriac: Command) -> None:
    run = celeriac("-A", "shop", "doctor", "--json", env={"CELERIAC_WORKER_PREFETCH_MULTIPLIER": "4"})
    (note,) = found(run, "settings", "note")
    assert "worker_prefetch_multiplier" in note["found"]
    assert "measured duration" in note["advice"]


def test_settings_that_contradict_each_other_are_wrong(celeriac: Command) -> None:
    env = {"CELERIAC_TASK_TIME_LIMIT": "5", "CELERIAC_TASK_SOFT_TIME_LIMIT": "9"}
    run = celeriac("-A", "shop", "doctor", "--json", env=env)
    assert run.code == 1
    assert "task_soft_time_limit" in found(run, "settings", "wrong")[0]["found"]


def test_an_application_that_cannot_be_imported_is_wrong(celeriac: Command) -> None:
    run = celeriac("-A", "nothing", "doctor")
    assert run.code == 1
    assert "no module 'nothing'" in run.out
    assert "1 thing is wrong" in run.out


def test_a_file_that_is_no_database_is_wrong(celeriac: Command, place: Path) -> None:
    (place / "shop.db").write_text("no database " * 1000)
    run = celeriac("-A", "shop", "doctor", "--json")
    assert run.code == 1
    assert "shop.db" in found(run, "broker", "wrong")[0]["found"]


def test_a_damaged_database_is_wrong(celeriac: Command, app: Celeriac, place: Path) -> None:
    for number in range(200):
        app.send_task("shop.add", (number, "x" * 500))
    app.close()
    file = place / "shop.db"
    content = bytearray(file.read_bytes())
    content[len(content) // 2 :] = b"\x5a" * (len(content) - len(content) // 2)
    file.write_bytes(content)
    run = celeriac("-A", "shop", "doctor", "--json")
    assert run.code == 1
    assert found(run, "database", "wrong"), run


def test_a_database_that_others_may_write_is_wrong(celeriac: Command, app: Celeriac, place: Path) -> None:
    app.broker.depth()
    (place / "shop.db").chmod(0o666)
    run = celeriac("-A", "shop", "doctor", "--json")
    assert run.code == 1
    assert "chmod 600" in found(run, "permissions", "wrong")[0]["advice"]
    (place / "shop.db").chmod(0o644)
    assert found(celeriac("-A", "shop", "doctor", "--json"), "permissions", "note")


def test_a_clock_that_was_set_back_is_wrong(celeriac: Command, app: Celeriac, place: Path) -> None:
    app.broker.depth()
    later = app.clock.time() + 86_400
    os.utime(place / "shop.db", (later, later))
    run = celeriac("-A", "shop", "doctor", "--json")
    assert run.code == 1
    assert "in the future" in found(run, "clock", "wrong")[0]["found"]


def test_settings_say_where_values_come_from(celeriac: Command, place: Path) -> None:
    (place / "pyproject.toml").write_text("[tool.celeriac]\ntask_default_queue = 'jobs'\n")
    env = {"CELERIAC_WORKER_CONCURRENCY": "3"}
    rows = {row["name"]: row for row in celeriac("settings", "--changed", "--json", env=env).json}
    assert rows["task_default_queue"]["value"] == "jobs"
    assert "pyproject.toml" in rows["task_default_queue"]["source"]
    assert rows["worker_concurrency"]["value"] == 3
    assert "CELERIAC_WORKER_CONCURRENCY" in rows["worker_concurrency"]["source"]
    assert len(rows) == 2
    everything = {row["name"]: row for row in celeriac("settings", "--json", env=env).json}
    assert everything["task_acks_late"]["value"] is True
    assert everything["task_acks_late"]["celery_default"] == "false"
    one = celeriac("settings", "task_acks_late").out
    assert "task_acks_late = True" in one
    assert "Celery's default" in one
    some = celeriac("settings", "worker_").out
    assert "worker_concurrency" in some
    assert "task_acks_late" not in some


@pytest.mark.parametrize("command", ["settings", "report"])
def test_passwords_are_never_shown(celeriac: Command, place: Path, command: str) -> None:
    (place / "secret_shop.py").write_text(
        "from celeriac import Celeriac\n"
        "app = Celeriac('s', broker='sqlite:///s.db', broker_transport_options={'password': 'hunter2'})\n"
    )
    for args in ((command,), (command, "--json")):
        run = celeriac("-A", "secret_shop", *args)
        assert run.code == 0, run
        assert "hunter2" not in run.out
        assert "broker_transport_options" in run.out


def test_report_has_versions_even_without_an_application(celeriac: Command) -> None:
    run = celeriac("-A", "nothing", "report", "--json")
    assert run.code == 0, run
    assert run.json["celeriac"] == __version__
    assert "no module 'nothing'" in run.json["application"]
    assert celeriac("-A", "shop", "report", "--json").json["tasks"] == 3


def test_shell_has_the_application_and_its_tasks(celeriac: Command) -> None:
    run = celeriac("-A", "shop", "shell", "--python", stdin="print(app.main, add(2, 3), Retry.__name__)\n")
    assert run.code == 0, run
    assert "shop 5 Retry" in run.out


@pytest.mark.parametrize("args", [("inspect", "ping"), ("status",), ("inspect", "active", "-d", "w1@host")])
def test_exit_code_69_when_no_worker_replies(celeriac: Command, args: tuple[str, ...]) -> None:
    run = celeriac("-A", "shop", *args, "-t", "0.05")
    assert run.code == 69, run
    assert run.out == ""
    assert "no worker" in run.err
    run = celeriac("-A", "shop", *args, "-t", "0.05", "--json")
    assert (run.code, run.json) == (69, {})


@pytest.mark.parametrize(
    ("signing", "how", "level", "words"),
    [
        ("require", "missing", "wrong", "cannot be read"),
        ("require", "readable by all", "wrong", "chmod 600"),
        ("require", "idle", "wrong", "celeriac keys generate"),
        ("off", "sound", "note", "security_signing"),
        ("require", "sound", "ok", "1 keys, 1 active; signing 'require', encryption off"),
    ],
)
def test_the_key_file_is_looked_at(
    celeriac: Command, place: Path, signing: str, how: str, level: str, words: str
) -> None:
    file = place / "keys.json"
    if how != "missing":
        assert celeriac("keys", "generate", str(file)).code == 0
    if how == "idle":
        (key,) = read_keys(file)
        write_keys(file, [msgspec.structs.replace(key, status="verify")])
    if how == "readable by all":
        file.chmod(0o644)
    env = {"CELERIAC_SECURITY_KEY_FILE": str(file), "CELERIAC_SECURITY_SIGNING": signing}
    (finding,) = found(celeriac("-A", "shop", "doctor", "--json", env=env), "keys", level)
    assert words in finding["found"] + finding["advice"]


def test_without_a_key_file_nothing_is_said_of_keys(celeriac: Command) -> None:
    assert not found(celeriac("-A", "shop", "doctor", "--json"), "keys")
