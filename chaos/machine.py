"""What a run was taken on."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
from importlib.metadata import version
from typing import TYPE_CHECKING

from benchmarks.environments import UnavailableError
from benchmarks.machine import facts as about

if TYPE_CHECKING:
    from pathlib import Path


def facts(folder: Path) -> dict[str, str]:
    """About this machine and what is installed there; `folder` is where histories and SQLite's files lie."""
    found = about("sqlite", folder, folder)
    return {
        **{name: found[name] for name in ("processor", "memory", "system", "load at the start", "python", "celeriac")},
        "SQLite": f"{sqlite3.sqlite_version}, on {found['database on']}",
        "Redis": _redis(),
        "RabbitMQ": _rabbit(),
    }


def _redis() -> str:
    program = shutil.which("redis-server")
    if program is None:
        return "none"
    words = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    server = next((word.removeprefix("v=") for word in words.split() if word.startswith("v=")), "unknown")
    return f"{server}, redis-py {version('redis')}"


def _rabbit() -> str:
    from servers.binaries import rabbit_scripts

    try:
        scripts = rabbit_scripts().resolve()
    except UnavailableError as exc:
        return f"none: {exc}"
    found = re.search(r"rabbitmq_server-([\w.]+)", f"{scripts} {' '.join(map(str, scripts.parent.glob('lib/*')))}")
    return found[1] if found else "unknown"
