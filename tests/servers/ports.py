"""Ports that stay ours while a server is down and comes back."""

from __future__ import annotations

import fcntl
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

_FIRST, _LAST = 12_000, 22_000
_BUS = 10_000
"""A cluster node listens on its port plus this as well."""

_claimed: dict[int, IO[str]] = {}


def claim_port() -> int:
    """A port of the loopback that no other test process takes until this one ends, with port + 10,000.

    Below the kernel's range for outgoing connections: in that range another connection may take the port of a server
    that is down, and a client that tries it again and again in the end connects to itself.
    """
    places = Path(tempfile.gettempdir()) / "celeriac-ports"
    places.mkdir(exist_ok=True)
    for _ in range(1000):
        port = random.randrange(_FIRST, _LAST)
        if port in _claimed:
            continue
        claim = (places / str(port)).open("w")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            claim.close()
            continue
        if _is_free(port) and _is_free(port + _BUS):
            _claimed[port] = claim
            return port
        claim.close()
    raise RuntimeError(f"no free port between {_FIRST} and {_LAST} of 127.0.0.1 in 1000 tries")


def release_port(port: int) -> None:
    """Give a claimed port back."""
    if claim := _claimed.pop(port, None):
        claim.close()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
