"""Names of workers."""

from __future__ import annotations

import os
import socket
from functools import cache
from typing import Any

__all__ = [
    "anon_nodename",
    "default_nodename",
    "gethostname",
    "host_format",
    "node_format",
    "nodename",
    "nodesplit",
    "worker_direct",
]

gethostname = cache(socket.gethostname)


def worker_direct(hostname: Any) -> Any:
    """The queue of one worker only."""
    from celeriac.app.queues import worker_direct as queue_of

    return queue_of(hostname) if isinstance(hostname, str) else hostname


def nodename(name: str, hostname: str) -> str:
    return f"{name}@{hostname}"


def anon_nodename(hostname: str | None = None, prefix: str = "gen") -> str:
    """The name of a process that is no worker."""
    return nodename(f"{prefix}{os.getpid()}", hostname or gethostname())


def nodesplit(name: str) -> tuple[str | None, str]:
    """Name and host."""
    before, at, after = name.partition("@")
    return (before, after) if at else (None, before)


def default_nodename(hostname: str | None) -> str:
    name, host = nodesplit(hostname or "")
    return nodename(name or "celery", host or gethostname())


def node_format(s: str, name: str, **extra: Any) -> str:
    """Fill in `%n`, `%h` and `%d`."""
    short, host = nodesplit(name)
    return host_format(s, host, short or "celery", **extra)


def host_format(s: str, host: str | None = None, name: str | None = None, **extra: Any) -> str:
    host = host or gethostname()
    first, _, domain = host.partition(".")
    keys = {"h": host, "n": name or first, "d": domain, "i": "", "I": "", "p": f"{name}@{host}", "%": "%", **extra}
    out, index = "", 0
    while index < len(s):
        if s[index] == "%" and index + 1 < len(s):
            out += str(keys.get(s[index + 1], s[index : index + 2]))
            index += 2
        else:
            out += s[index]
            index += 1
    return out
