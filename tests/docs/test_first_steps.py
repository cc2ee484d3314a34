"""The README's first steps, taken as written: a file, a worker started by its command, a call, a result."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pages import ROOT, Block, read, words

README = read(ROOT / "README.md")
PATIENCE_S = 30.0

pytestmark = pytest.mark.processes


def _block(wanted: Callable[[Block], bool]) -> Block:
    found = [block for block in README.blocks if wanted(block)]
    assert len(found) == 1, [block.where for block in found]
    return found[0]


def _celeriac(command: str) -> list[str]:
    return [sys.executable, "-m", "celeriac", *words(command)]


def test_the_first_task_by_the_readme(tmp_path: Path) -> None:
    module = _block(lambda block: block.title == "shop.py")
    client = _block(lambda block: block.language == "python" and "from shop import" in block.text)
    commands = [text for _, text in README.commands]
    worker_command = next(text for text in commands if " worker" in text)
    call_command = next(text for text in commands if " call " in text)
    (tmp_path / "shop.py").write_text(module.text)
    (tmp_path / "client.py").write_text(client.text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CELERIAC_")}
    log = tmp_path / "log"
    with log.open("wb") as stream:
        worker = subprocess.Popen(_celeriac(worker_command), cwd=tmp_path, env=environment, stderr=stream)
    try:
        _wait_for(lambda: " ready" in log.read_text() or worker.poll() is not None, log)
        for command in ([sys.executable, "client.py"], _celeriac(call_command)):
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
            )
            assert (done.returncode, done.stdout.strip()) == (0, "5"), f"{shlex.join(command)}\n{done.stderr}"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_S) == 0, log.read_text()
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()


def _wait_for(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the worker was not ready after {PATIENCE_S} s; its log:\n{log.read_text()}")
        time.sleep(0.02)
