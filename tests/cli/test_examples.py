"""The examples do what they say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
EXPECTED = {
    "hello": ([], "4\n"),
    "orders": (["-Q", "celery,payments"], "order 7: 12.95 paid at attempt 3\n3 items packed\n"),
    "bakery": (
        ["--beat", "-c", "1"],
        (
            "books: on the last day of every month at 18:00, Europe/Warsaw\n"
            "ovens: every second\n"
            "rolls: Monday to Saturday at 04:00, Europe/Warsaw\n"
            "cakes are ready\n"
        ),
    ),
    "fetch": (["-c", "1", "--async-slots", "1000"], "1000 pages in "),
}


def test_every_example_is_run() -> None:
    assert {file.stem for file in EXAMPLES.glob("*.py")} == set(EXPECTED)


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_an_example(tmp_path: Path, name: str) -> None:
    options, expected = EXPECTED[name]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES)}
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celeriac", "-A", name, "worker", *options],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            done = subprocess.run(
                [sys.executable, str(EXAMPLES / f"{name}.py")],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            worker.send_signal(signal.SIGTERM)
            code = worker.wait(30)
    said = (tmp_path / "worker.log").read_text()
    assert done.returncode == 0, done.stderr + said
    assert done.stdout.startswith(expected), said
    assert code == 0, said
