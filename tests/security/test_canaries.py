"""A canary in arguments, URLs, settings and keys is in nothing that is written or shown, by real processes."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from guarded_shop import keys_in

from celeriac.codec import read_keys
from servers import Program, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.slow]

CANARY = "canary7f3a"
HERE = Path(__file__).parent


class Place:
    """Real processes of the application on one engine, and all that they said."""

    def __init__(self, folder: Path, broker: str, *, signed: bool, sealed: bool) -> None:
        self.folder = folder
        self.keys = keys_in(folder)
        self.log = folder / "worker.log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CELERIAC_")},
            "PYTHONPATH": str(HERE),
            "CANARY": CANARY,
            "CELERIAC_BROKER_URL": broker,
            "CELERIAC_TASK_UNKNOWN_WAIT": "0",
            **({"CELERIAC_SECURITY_SIGNING": "require"} if signed else {}),
            **({"CELERIAC_SECURITY_ENCRYPTION": "true"} if sealed else {}),
            **({"CELERIAC_SECURITY_KEY_FILE": str(self.keys)} if signed or sealed else {}),
        }

    def command(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "celeriac", "-A", "secretive_app", *words],
            env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    def worker(self, *words: str) -> Program:
        command = [sys.executable, "-m", "celeriac", "-A", "secretive_app", "worker", "-l", "DEBUG", "-c", "2", *words]
        return Program(command, log=self.log, environment=self.environment, directory=self.folder)

    def said(self) -> str:
        return self.log.read_text()


@pytest.fixture(params=["plain", "signed", "sealed"])
def secretive(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(
        tmp_path, f"sqlite:///{tmp_path}/q.db", signed=request.param != "plain", sealed=request.param == "sealed"
    )


@pytest.fixture
def send(secretive: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    for name, value in secretive.environment.items():
        monkeypatch.setenv(name, value)
    from celeriac import Celeriac

    with Celeriac("client", task_default_queue="work") as app:
        yield lambda name, *args, **options: app.send_task(name, args, **options)


URL = f"postgresql://shop:{CANARY}@db.example/shop"


def test_no_canary_in_what_workers_and_commands_say(secretive: Place, send: Callable[..., Any]) -> None:
    go = secretive.folder / "go"
    with secretive.worker("-E") as worker:
        held = send("hold", CANARY, str(go))
        kept = send("keep", CANARY, queue="work", headers={"tenant": "a"})
        assert kept.get(timeout=30) == len(CANARY)
        for name in ("connect", "again"):
            with contextlib.suppress(ConnectionError):
                send(name, URL).get(timeout=30)
        with contextlib.suppress(Exception):
            send("slow", CANARY, link_error={"task": "told"}).get(timeout=30)
        with contextlib.suppress(Exception):
            send("wrong", CANARY).get(timeout=30)
        send("nobody-knows", CANARY)
        dead = send("die", CANARY)
        wait_until(lambda: "nobody-knows" in secretive.command("dead", "list"), "the dead letter", 30)
        waiting = send("keep", CANARY, countdown=600)
        shown = {
            " ".join(words): secretive.command(*words)
            for words in (
                ("inspect", "stats"), ("inspect", "conf"), ("inspect", "report"), ("status",), ("settings",),
                ("settings", "--all"), ("report",), ("queues",), ("dead", "list"), ("doctor",),
                ("inspect", "registered"),
            )
        }  # fmt: skip
        if "SECURITY_ENCRYPTION" in " ".join(secretive.environment):
            shown |= {
                words: secretive.command(*words.split())
                for words in (
                    "inspect active", "inspect scheduled", f"inspect query_task {held.id} {waiting.id}",
                    f"dead show {dead.id}",
                )
            }  # fmt: skip
            assert "[encrypted]" in secretive.command("inspect", "active", "--json")
        wait_until(lambda: "was lost" in secretive.said() or "lost its worker" in secretive.said(), "the crash", 30)
        go.touch()
        held.get(timeout=30)
        worker.signal(15)
        worker.wait(30)
    secrets = [key.secret for key in read_keys(secretive.keys) if key.secret]
    for what, text in [*shown.items(), ("the log", secretive.said())]:
        for secret in (CANARY, *secrets):
            found = [line for line in text.splitlines() if secret in line]
            assert not found, f"{what}: {found[:3]}"
    assert "cannot reach postgresql://shop:***@db.example/shop" in secretive.said()


def test_a_broker_that_is_not_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password is in the URL that errors and logs are about."""
    for scheme in ("redis", "amqp"):
        place = Place(tmp_path, f"{scheme}://user:{CANARY}@127.0.0.1:9/0", signed=False, sealed=False)
        said = "".join(
            place.command(*words) for words in (("status",), ("queues",), ("settings",), ("report",), ("doctor",))
        )
        with place.worker():
            wait_until(lambda place=place: "127.0.0.1:9" in place.said(), "the complaint", 30)
        said += place.said()
        assert CANARY not in said
        assert "user:***@127.0.0.1:9" in said


def test_control_characters_forge_no_line(secretive: Place, send: Callable[..., Any]) -> None:
    forged = "x\n2026-01-01 00:00:00.000 CRITICAL forged \x1b[31mred\r\x00\u2028end"
    with secretive.worker() as worker:
        with contextlib.suppress(LookupError):
            send("forge", forged).get(timeout=30)
        worker.signal(15)
        worker.wait(30)
    said = secretive.said()
    assert "CRITICAL forged" in said
    assert not re.search(r"^2026-01-01", said, re.MULTILINE)
    assert "\u2028" not in said
    assert "\x1b[31m" not in said
    assert "\x00" not in said
