"""How many processors this process may use: its affinity mask, cut by the quota of its control groups."""

from __future__ import annotations

import math
import os
from pathlib import Path


def available_processors(proc: str = "/proc/self/cgroup", groups: str = "/sys/fs/cgroup") -> int:
    """Count them; at least 1. A quota of 1.5 processors counts as 2, so that none of it lies idle.

    Args:
        proc: Where the kernel lists this process's control groups.
        groups: Where the control groups are mounted.
    """
    count = getattr(os, "process_cpu_count", None)  # 3.13; honours PYTHON_CPU_COUNT
    if count is not None:
        usable = count() or 1
    elif hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0)) or 1
    else:
        usable = os.cpu_count() or 1
    quota = _quota(Path(proc), Path(groups))
    return max(1, min(usable, math.ceil(quota))) if quota is not None else usable


def _quota(proc: Path, groups: Path) -> float | None:
    """The smallest quota of this process's group and those above it, in processors; None without one."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return None
    found: list[float] = []
    for line in lines:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            root, read = groups, _quota_v2
        elif "cpu" in controllers.split(","):
            root, read = groups / "cpu", _quota_v1
        else:
            continue
        # Inside a container the path can be the host's and not exist below the mount; then only the mount is left.
        group = root / path.strip("/")
        for folder in (group, *group.parents):
            if (quota := read(folder)) is not None:
                found.append(quota)
            if folder == root:
                break
    return min(found, default=None)


def _quota_v2(folder: Path) -> float | None:
    try:
        most, period = (folder / "cpu.max").read_text().split()
        return None if most == "max" else int(most) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        most = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return most / period if most > 0 and period > 0 else None
