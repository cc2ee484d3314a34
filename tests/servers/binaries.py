"""Programs that the tests start: found on the PATH, or installed where that is possible."""

from __future__ import annotations

import shutil

from benchmarks.environments import debian_program

_PACKAGES = {"redis-server": "redis-server", "openssl": "openssl", "npm": "npm"}
"""By program: the Debian package that has it, for what is installed when it is missing."""


def redis_kinds() -> tuple[str, ...]:
    """The programs that tests of the Redis engine run on: Redis always, Valkey where it is installed."""
    return ("redis-server", "valkey-server") if shutil.which("valkey-server") else ("redis-server",)


def program(name: str) -> str:
    """The path of a program; UnavailableError where there is none and none can be installed."""
    return debian_program(name, _PACKAGES[name]) if name in _PACKAGES else shutil.which(name) or name
