"""Programs that the tests start: found on the PATH, or installed where that is possible."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.environments import UnavailableError, debian_program

_PACKAGES = {
    "redis-server": "redis-server",
    "rabbitmq-server": "rabbitmq-server",
    "openssl": "openssl",
    "npm": "npm",
}
"""By program: the Debian package that has it, for what is installed when it is missing."""


def redis_kinds() -> tuple[str, ...]:
    """The programs that tests of the Redis engine run on: Redis always, Valkey where it is installed."""
    return ("redis-server", "valkey-server") if shutil.which("valkey-server") else ("redis-server",)


def program(name: str) -> str:
    """The path of a program; UnavailableError where there is none and none can be installed."""
    return debian_program(name, _PACKAGES[name]) if name in _PACKAGES else shutil.which(name) or name


def rabbit_scripts() -> Path:
    """Where `rabbitmq-server` and `rabbitmqctl` are as their makers ship them.

    Debian's own in /usr/sbin change to the user `rabbitmq`, or refuse; these run as whoever calls them.
    """
    debian = Path("/usr/lib/rabbitmq/bin")
    if (debian / "rabbitmq-server").exists():
        return debian
    try:
        found = Path(program("rabbitmq-server"))
    except UnavailableError:
        # its package fails where the service that it brings cannot be started; what it unpacked is whole
        if not (debian / "rabbitmq-server").exists():
            raise
        return debian
    return debian if (debian / "rabbitmq-server").exists() else found.resolve().parent
