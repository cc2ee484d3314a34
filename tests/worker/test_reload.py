"""Autoreload: a changed source file brings fresh processes."""

from __future__ import annotations

import sys

import pytest
from workshop import Bench, wait_until

from celeriac.errors import ConfigError
from celeriac.worker.reload import require_watchfiles


@pytest.mark.processes
def test_a_changed_file_restarts_the_processes(bench: Bench) -> None:
    pytest.importorskip("watchfiles")
    source = bench.folder / "source"
    source.mkdir()
    module = source / "tasks.py"
    module.write_text("x = 1\n")
    worker = bench.start(processes=1, autoreload=True, modules=[str(module)])

    def changed() -> bool:
        module.write_text(module.read_text() + "#\n")  # until the watcher, which says not when it is up, sees one
        return bench.count("process", "start") >= 2

    wait_until(changed, "a fresh process")
    assert "changed: tasks.py" in worker.log
    assert bench.result(bench.send("work", "a"))["status"] == "SUCCESS"


def test_a_missing_extra_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(ConfigError, match=r"celeriac\[reload\]"):
        require_watchfiles()
