"""What the figures were taken on."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.bench import Engine


def facts(engine: Engine, store: Path, record: Path) -> dict[str, str]:
    """About this machine; `store` and `record` are the directories of what is stored and of the record of runs."""
    import celeriac

    if engine == "sqlite":
        ours = {"sqlite": sqlite3.sqlite_version, "database on": file_system(store)}
    elif engine == "rabbitmq":
        ours = {"pamqp": version("pamqp"), "messages on": file_system(store)}
    else:
        ours = {"redis-py": f"{version('redis')} with hiredis {version('hiredis')}"}

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "processor": f"{_processor()}, {_cores()} cores usable",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "celeriac": celeriac.__version__,
        **ours,
        "record on": file_system(record),
        "load at the start": f"{load:.2f}",
    }


def described(all_facts: Mapping[str, str]) -> list[str]:
    """One line per fact."""
    width = max(map(len, all_facts))
    return [f"{name:<{width}}  {value}" for name, value in all_facts.items()]


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def file_system(directory: Path) -> str:
    """The type of the file system that holds `directory`."""
    here = directory.resolve()
    found, depth = "unknown", -1
    for part in psutil.disk_partitions(all=True):
        mount = Path(part.mountpoint)
        if (mount == here or mount in here.parents) and len(mount.parts) > depth:
            found, depth = part.fstype, len(mount.parts)
    return found
