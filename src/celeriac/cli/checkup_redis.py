"""The doctor's words about a Redis server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from celeriac.cli.screen import size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celeriac.brokers.redis.health import Health

Line = tuple[str, str, str, str]
"""Check, level, what was found, advice."""

_SLOW_MS: Final = 5.0
_CLOCK_SLACK_S: Final = 5.0


def lines(health: Health) -> Iterator[Line]:
    """What to say, worst things included."""
    from celeriac.brokers.redis.health import OLDEST

    found = f"{health.product} {health.version}, {health.mode}, {health.role}, {size(health.memory_bytes)} used"
    if health.numbers < OLDEST:
        yield "redis", "wrong", found, "6.2 or newer is needed: upgrade the server"
    elif health.has_script_holes:
        yield (
            "redis",
            "note",
            found,
            "scripts can break out of it (CVE-2025-49844) unless its packager mended that: upgrade, let nobody else in",
        )
    else:
        yield "redis", "ok", found, ""
    if health.role not in ("master", "?"):
        yield "redis", "wrong", f"it is a {health.role}", "give the master's address, or a sentinel:// URL"
    yield _eviction(health)
    yield _persistence(health)
    if health.write_failed:
        yield "persistence", "wrong", "the last write to disk failed", "is the disk full? See the server's log"
    found = f"median {health.latency_ms:.2f} ms, slowest {health.slowest_ms:.2f} ms"
    if health.latency_ms > _SLOW_MS:
        yield "latency", "note", found, "each call waits that long: run workers and server in one network"
    else:
        yield "latency", "ok", found, ""
    if abs(health.clock_ahead_s) > _CLOCK_SLACK_S:
        where = "ahead of" if health.clock_ahead_s > 0 else "behind"
        yield (
            "server clock",
            "wrong",
            f"{abs(health.clock_ahead_s):.0f} s {where} this host's",
            "delayed tasks are due by the server's clock: set both, and keep them set (NTP)",
        )


def _eviction(health: Health) -> Line:
    limit = size(health.maxmemory_bytes) if health.maxmemory_bytes else "none"
    found = f"maxmemory {limit}, maxmemory-policy {health.eviction}"
    if health.eviction in ("noeviction", "?"):
        return "eviction", "ok", found, ""
    return (
        "eviction",
        "wrong" if health.maxmemory_bytes else "note",
        found,
        "when memory is short the server deletes tasks without a word: CONFIG SET maxmemory-policy noeviction",
    )


def _persistence(health: Health) -> Line:
    if health.appends:
        fsync = health.fsync or "unknown"
        found = f"append-only file, appendfsync {fsync}"
        if fsync == "always":
            return "persistence", "ok", f"{found}: a power cut loses nothing", ""
        if fsync == "everysec":
            return "persistence", "ok", f"{found}: a power cut loses a second or two, a crash of the server nothing", ""
        return "persistence", "note", found, "a power cut may lose half a minute: CONFIG SET appendfsync everysec"
    if health.saves is None:
        return (
            "persistence",
            "note",
            "no append-only file",
            "what was queued since the last snapshot dies with the server",
        )
    if health.saves:
        return (
            "persistence",
            "wrong",
            f"snapshots only ({health.saves})",
            "a crash loses everything since the last one: CONFIG SET appendonly yes",
        )
    return (
        "persistence",
        "wrong",
        "none: a restart of the server loses every task",
        "CONFIG SET appendonly yes, and the same in redis.conf",
    )
