"""What a Redis server says of itself: is it fit to keep tasks?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import BrokerError, StorageError

if TYPE_CHECKING:
    from celeriac.storage.redis import Deployment

OLDEST: Final = (6, 2)
"""The first version with `LPOP count` and `SET … PXAT`."""
_SCRIPT_FIXES: Final[dict[tuple[int, ...], int]] = {(6, 2): 20, (7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2}
"""Per line of Redis, the first release in which scripts cannot break out (CVE-2025-49844, -46817, -46818)."""
_PINGS: Final = 20


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """A server's answers, for the doctor."""

    product: str
    """`Redis` or `Valkey`."""
    version: str
    mode: str
    """`standalone`, `sentinel` or `cluster`."""
    role: str
    memory_bytes: int
    maxmemory_bytes: int
    """0: as much as there is."""
    eviction: str
    """`maxmemory-policy`; anything but `noeviction` deletes tasks when memory is short."""
    appends: bool
    """Whether the append-only file is on."""
    fsync: str | None
    """`always`, `everysec` or `no`; None where the server does not let itself be asked."""
    saves: str | None
    """When it writes snapshots, in its own words; '' never; None as above."""
    write_failed: bool
    """The last snapshot or append failed."""
    replicas: int
    latency_ms: float
    """The median of some round trips."""
    slowest_ms: float
    clock_ahead_s: float
    """How far the server's clock is ahead of this host's."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version, to compare."""
        return version_of(self.version)

    @property
    def has_script_holes(self) -> bool:
        """Whether this release is known to let a script run code of its choice."""
        if self.product != "Redis":
            return False
        fixed = _SCRIPT_FIXES.get(self.numbers[:2])
        patch = self.numbers[2] if len(self.numbers) > 2 else 0
        return self.numbers[:2] < (8, 2) and (fixed is None or patch < fixed)


def version_of(text: str) -> tuple[int, ...]:
    """`7.0.15` as numbers."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def read_info(deployment: Deployment) -> dict[str, str]:
    """The server's INFO as pairs; Valkey's own version stands beside the one of Redis it claims."""
    raw: bytes = deployment.call("ask", "INFO")
    lines = (line.partition(":") for line in raw.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def require_version(deployment: Deployment) -> dict[str, str]:
    """The server's INFO.

    Raises:
        StorageError: It is too old.
    """
    info = read_info(deployment)
    found = info.get("redis_version", "")
    if found and version_of(found) < OLDEST:
        raise StorageError(
            f"{deployment.url} is Redis {found}; celeriac needs 6.2 or newer: it lacks commands that the scripts use"
        )
    return info


def examine(deployment: Deployment) -> Health:
    """Ask one server all of it. Raises as `Deployment.run`."""
    info = read_info(deployment)
    times = []
    for _ in range(_PINGS):
        began = SYSTEM_CLOCK.monotonic()
        deployment.call("ask", "PING")
        times.append((SYSTEM_CLOCK.monotonic() - began) * 1000.0)
    seconds, micros = deployment.call("ask", "TIME")
    ahead_s = int(seconds) + int(micros) / 1e6 - SYSTEM_CLOCK.time()
    times.sort()
    return Health(
        product="Valkey" if "valkey_version" in info else "Redis",
        version=info.get("valkey_version") or info.get("redis_version", "?"),
        mode=info.get("redis_mode", "standalone"),
        role=info.get("role", "?"),
        memory_bytes=int(info.get("used_memory", 0)),
        maxmemory_bytes=int(info.get("maxmemory", 0)),
        eviction=info.get("maxmemory_policy", "?"),
        appends=info.get("aof_enabled") == "1",
        fsync=_config(deployment, "appendfsync"),
        saves=_config(deployment, "save"),
        write_failed=info.get("rdb_last_bgsave_status") == "err" or info.get("aof_last_write_status") == "err",
        replicas=int(info.get("connected_slaves", 0)),
        latency_ms=times[_PINGS // 2],
        slowest_ms=times[-1],
        clock_ahead_s=ahead_s,
    )


def _config(deployment: Deployment, name: str) -> str | None:
    try:
        found: list[Any] = deployment.call("ask", "CONFIG", "GET", name)
    except BrokerError:
        return None  # managed servers often forbid it
    return found[1].decode() if len(found) > 1 else None
