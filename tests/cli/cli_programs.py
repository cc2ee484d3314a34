"""Programs that a test has started: waiting for what they do, and for their end."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

from celeriac.clock import SYSTEM_CLOCK


def eventually(what: str, condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """The first true value of `condition`."""
    deadline = SYSTEM_CLOCK.monotonic() + timeout_s
    while not (value := condition()):
        assert SYSTEM_CLOCK.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        SYSTEM_CLOCK.pause(0.01)
    return value


def finish(process: subprocess.Popen[str], timeout_s: float = 60.0) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err
