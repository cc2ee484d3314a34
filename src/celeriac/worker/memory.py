"""How much memory this process holds."""

from __future__ import annotations

import os
import sys


def resident_kib() -> int:
    """Resident set size in KiB; on systems without /proc the largest it ever was."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - on the way of every batch
            return int(file.read().split()[1]) * (os.sysconf("SC_PAGE_SIZE") // 1024)
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // 1024 if sys.platform == "darwin" else peak
