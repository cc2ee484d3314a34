"""What the doctor says of real servers."""

from __future__ import annotations

import pytest

from celeriac.brokers.redis.health import Health
from celeriac.cli.checkup_redis import lines
from servers import wait_until

FIT = Health(
    product="Redis", version="8.2.2", mode="standalone", role="master", memory_bytes=1 << 20, maxmemory_bytes=0,
    eviction="noeviction", appends=True, fsync="everysec", saves="", write_failed=False, replicas=0, latency_ms=0.1,
    slowest_ms=1.0, clock_ahead_s=0.0,
)  # fmt: skip


def said(health: Health) -> dict[str, tuple[str, str, str]]:
    """By check: level, what was found, advice."""
    return {check: rest for check, *rest in lines(health)}


@pytest.mark.parametrize(
    ("persistence", "settings", "expected"),
    [
        ("always", {}, {"persistence": ("ok", "appendfsync always", ""), "eviction": ("ok", "maxmemory none", "")}),
        ("everysec", {}, {"persistence": ("ok", "a crash of the server nothing", "")}),
        ("everysec", {"appendfsync": "no"}, {"persistence": ("note", "appendfsync no", "appendfsync everysec")}),
        ("none", {}, {"persistence": ("wrong", "a restart of the server loses every task", "appendonly yes")}),
        ("none", {"save": "60 1"}, {"persistence": ("wrong", "snapshots only (60 1)", "appendonly yes")}),
        (
            "none",
            {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"},
            {"eviction": ("wrong", "allkeys-lru", "noeviction")},
        ),
        ("none", {"maxmemory-policy": "volatile-ttl"}, {"eviction": ("note", "volatile-ttl", "noeviction")}),
    ],
)
def test_what_is_said_of_a_server(start_redis, open_broker, persistence, settings, expected) -> None:
    server = start_redis(persistence=persistence, settings=settings)
    health = open_broker(server.url).check()
    found = said(health)
    assert found["redis"][1].startswith(f"{health.product} {health.version}, standalone, master")
    assert found["latency"][1].startswith("median ")
    assert "server clock" not in found
    for check, (level, what, advice) in expected.items():
        assert found[check][0] == level, found
        assert what in found[check][1]
        assert advice in found[check][2]


def test_a_replica_and_a_failed_write_are_wrong(start_redis, open_broker) -> None:
    master = start_redis()
    replica = start_redis(replica_of=master)
    master.wait_for_replicas(1)
    found = said(open_broker(replica.url).check())
    assert found["redis"][:2] == ["wrong", "it is a slave"]
    master.data.rmdir()
    master.cli().bgsave()
    broker = open_broker(master.url)
    wait_until(lambda: broker.check().write_failed, "a failed snapshot")
    assert said(broker.check())["persistence"][0] == "wrong"
    assert broker.check().replicas == 1


def test_a_server_that_forbids_to_be_asked(redis_server, open_broker) -> None:
    """As managed ones do."""
    redis_server.cli().execute_command("ACL", "SETUSER", "shop", "on", ">pw", "~*", "&*", "+@all", "-config")
    health = open_broker(redis_server.url.replace("redis://", "redis://shop:pw@")).check()
    assert (health.fsync, health.saves) == (None, None)
    assert said(health)["persistence"][0] == "note"
    redis_server.cli().execute_command("ACL", "DELUSER", "shop")


def test_versions_clocks_and_distance() -> None:
    assert all(level == "ok" for level, *_ in said(FIT).values())

    def but(**changes: object) -> dict[str, tuple[str, str, str]]:
        return said(Health(**{**{name: getattr(FIT, name) for name in FIT.__struct_fields__}, **changes}))

    assert but(version="6.0.16")["redis"][0] == "wrong"
    for version in ("6.2.19", "7.2.10", "8.0.3", "7.0.15"):
        assert "CVE" in but(version=version)["redis"][2], version
    for version in ("6.2.20", "7.2.11", "8.0.4", "8.4.0"):
        assert but(version=version)["redis"][0] == "ok", version
    assert but(product="Valkey", version="8.1.0")["redis"][0] == "ok"
    assert but(latency_ms=9.0)["latency"][0] == "note"
    assert but(clock_ahead_s=9.0)["server clock"][1].startswith("9 s ahead of")
    assert but(clock_ahead_s=-9.0)["server clock"][1].startswith("9 s behind")
