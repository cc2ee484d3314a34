"""By how much a process grows while it does something."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celeriac.errors import CodecError


def growth_mib(work: Callable[[], Any]) -> float:
    """By how much a fresh copy of this process grows at most while it does this, and no longer."""
    gc.collect()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            gc.disable()
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
            before = _status("VmRSS")
            try:
                work()
            except CodecError:
                pass
            os.write(writing, b"%d" % (_status("VmHWM") - before))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    assert said, "it died"
    return int(said) / 1024


def _status(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])
