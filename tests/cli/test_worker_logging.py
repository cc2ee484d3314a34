"""Who sets up a worker's logging: celeriac, the application's receivers, or the application alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from celeriac import Celeriac

pytestmark = [pytest.mark.processes, pytest.mark.slow]

APP = """
import logging, sys
from celeriac import Celeriac, signals

app = Celeriac("talk", broker="sqlite:///shop.db", worker_hijack_root_logger={hijack})

def own(text):
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(text + " %(message)s"))
    logging.getLogger("talk").addHandler(handler)
    logging.getLogger("talk").setLevel("INFO")

{extra}

@app.task
def speak(word):
    logging.getLogger("talk").info(word)
"""


def run(place: Path, *, hijack: bool, extra: str) -> list[str]:
    """What a worker of the application writes while it runs one task."""
    (place / "talk.py").write_text(APP.format(hijack=hijack, extra=extra))
    worker = subprocess.Popen(
        [sys.executable, "-m", "celeriac", "-A", "talk", "worker", "-c", "1"],
        cwd=place,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        app = Celeriac("talk", broker=f"sqlite:///{place}/shop.db")
        app.send_task("talk.speak", ["hello"]).get(timeout=30)
        app.close()
    finally:
        worker.send_signal(signal.SIGTERM)
        _, err = worker.communicate(timeout=30)
    return [line for line in err.splitlines() if line.endswith("hello")]


def test_celeriac_sets_up_logging(tmp_path: Path) -> None:
    (line,) = run(tmp_path, hijack=True, extra="logging.getLogger('talk').setLevel('INFO')")
    assert "INFO" in line
    assert "talk.speak[" in line


def test_a_receiver_of_setup_logging_does_it_instead(tmp_path: Path) -> None:
    extra = "signals.setup_logging.connect(lambda loglevel, **_: own(f'mine {loglevel}'))"
    assert run(tmp_path, hijack=True, extra=extra) == ["mine 20 hello"]


def test_a_receiver_of_after_setup_logger_adds_to_it(tmp_path: Path) -> None:
    extra = "signals.after_setup_logger.connect(lambda logger, **_: own(logger.name))"
    lines = run(tmp_path, hijack=True, extra=extra)
    assert len(lines) == 2
    assert "root hello" in lines


def test_without_hijacking_the_application_does_it(tmp_path: Path) -> None:
    assert run(tmp_path, hijack=False, extra="own('app')") == ["app hello"]
