"""Log lines, masks and the banner."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac.masking import masked
from celeriac.worker import logging as worker_logging
from celeriac.worker.logging import banner, configure, get_task_logger
from celeriac.worker.runtime import Manifest, WorkerOptions


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root, tasks = logging.getLogger(), logging.getLogger("celeriac.task")
    before = root.level, list(root.handlers), tasks.level, logging.getLogger("asyncio").level
    yield
    logging.captureWarnings(False)
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    tasks.setLevel(before[2])
    logging.getLogger("asyncio").setLevel(before[3])
    worker_logging._handler = None


def options(**more: object) -> WorkerOptions:
    return WorkerOptions(**{"node": "w@host", "queues": ("q", "slow"), **more})  # type: ignore[arg-type]


def test_a_line_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure(options())
    logging.getLogger("celeriac.task").info("%s[%s] succeeded in %s", "shop.add", "abc", "12 ms")
    get_task_logger("shop.tasks").warning("forged\r2026-01-01 00:00:00 line\x1b[31m")
    plain, forged = stream.getvalue().splitlines()
    assert plain.endswith("INFO    shop.add[abc] succeeded in 12 ms")
    assert "shop.tasks: forged\\x0d2026-01-01 00:00:00 line\\x1b[31m" in forged
    assert "\x1b" not in stream.getvalue()


def test_colours_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure(options(log_color=True))
    logging.getLogger("celeriac.worker").error("bad")
    assert "\x1b[31m" in stream.getvalue()


def test_json_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure(options(log_json=True))
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("shop").exception("two\nlines", extra={"order": 7})
    [line] = stream.getvalue().splitlines()
    found = json.loads(line)
    assert (found["level"], found["logger"], found["message"]) == ("ERROR", "shop", "two\nlines")
    assert found["extra"] == {"order": 7}
    assert "ValueError: why" in found["exception"]


def test_levels_files_and_silent_tasks(tmp_path: Path) -> None:
    path = tmp_path / "log"
    configure(options(log_file=str(path), log_level="debug", log_tasks=False))
    logging.getLogger("celeriac.task").info("not wanted")
    logging.getLogger("celeriac.task").error("wanted")
    logging.getLogger("shop").debug("detail")
    handler = worker_logging._handler
    assert handler is not None
    handler.stream.close()
    lines = path.read_text().splitlines()
    assert [line.split()[-1] for line in lines] == ["wanted", "detail"]


def test_a_closed_stream_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure(options())
    stream.close()
    logging.getLogger("shop").warning("nobody hears")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@host:6379/0", "redis://user:***@host:6379/0"),
        ("amqp://:p%40ss@host//", "amqp://:***@host//"),
        ("sqlite:////var/lib/q.db", "sqlite:////var/lib/q.db"),
        ("https://host/?token=abc&x=1", "https://host/?token=***&x=1"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_the_banner_names_what_matters() -> None:
    manifest = Manifest(
        app="shop",
        options=options(processes=2, threads=4),
        tasks=(),
        broker_url="redis://user:secret@host/0",
        result_url=None,
    )
    text = banner(manifest, "1.2.3")
    assert "celeriac 1.2.3  w@host" in text
    assert "secret" not in text
    assert "2 x 4 threads" in text
    assert "q, slow" in text
    assert "was the module with the tasks imported?" in text
