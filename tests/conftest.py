"""Fixtures that every room's tests share, and the rule that a skipped test is a failed one in CI."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

import pytest

from celeriac.storage import memory
from celeriac.testing import ManualClock

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

sys.path.append(
    str(Path(__file__).parents[1])
)  # `benchmarks` stands beside `src`, and has what environments are built by

pytest_plugins = ("servers.fixtures",)

DOES_NOT_APPLY = ("the engine's traits say", "the platform has no")
"""Reasons of skips that no installation could mend."""


_kept: WeakSet[memory.MemorySpace] = WeakSet()
"""Spaces that have survived a collection: a module of tests has an application in memory."""


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Thousands of tests have been read, which no collection need look through again: a second of each, otherwise."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_memory_of_others() -> None:
    """What adapters in memory share lives as long as they do, and adapters in a cycle live until they are collected:
    by a test that uses the same name, in an order in which nobody has run them before.
    """
    if any(space not in _kept for space in memory._spaces.values()):
        gc.collect()
        _kept.update(memory._spaces.values())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def missed(reporter: TerminalReporter) -> list[str]:
    """Tests that could have run and did not, each with its reason."""
    found = []
    for report in reporter.stats.get("skipped", ()):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not reason.startswith(DOES_NOT_APPLY):
            found.append(f"{report.nodeid}: {reason}")
    return found


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    if tests := missed(terminalreporter):
        terminalreporter.section("not tested on this machine")
        for test in tests:
            terminalreporter.write_line(test)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("TESTS_FORBID_SKIPS") and reporter is not None and missed(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
