"""Another server becomes the master, or a part of a cluster is away: everybody finds the way by himself."""

from __future__ import annotations

import pytest
from fleet import LEASE_S, pause

from servers import RedisCluster, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.slow]


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_fail_over(start_sentinels, start_fleet, luck, how) -> None:
    setup = start_sentinels(password="s3cret")
    fleet = start_fleet(setup.url)
    fleet.start()
    with fleet.cut():
        with fleet.producing(luck=luck):
            fleet.wait_ended(80)
        # Replicas hear of a write a moment after its producer has: what is sent now and here cannot be lost.
        for _ in range(30):
            fleet.send(fleet.app(), luck.uniform(0.1, 0.3))
        setup.servers[0].wait_for_replicas(1)
        old = setup.fail_over(how)
        with fleet.producing(luck=luck):
            fleet.wait_works()
            # A master that was frozen still thinks that it is one, and then becomes a copy that refuses writes.
            old.start() if how == "kill" else old.thaw()
            setup.wait_for_replica(old)
            fleet.wait_works()
    fleet.wait_all()
    fleet.check()


def test_a_master_is_made_a_replica_under_its_clients(start_sentinels, start_fleet, luck) -> None:
    """A fail-over in good order: connections stay, and get READONLY."""
    setup = start_sentinels(sentinels=1)
    fleet = start_fleet(setup.url)
    fleet.start()
    old = setup.master
    with fleet.cut(), fleet.producing(luck=luck):
        fleet.wait_ended(60)
        setup.sentinels[0].cli().execute_command("SENTINEL", "FAILOVER", setup.service)
        wait_until(lambda: setup.master is not old, "another master")
        setup.wait_for_replica(old)
        fleet.wait_works()
    fleet.wait_ended(len(fleet.ended()))
    fleet.check(lossy=True)  # what the old master took last, no replica may have heard of


def test_a_node_of_a_cluster_hangs(redis_kind, start_fleet, luck) -> None:
    with RedisCluster(binary=redis_kind) as cluster:
        fleet = start_fleet(cluster.url)
        app = fleet.app()
        queues = [f"q{number}" for number in range(6)]
        fleet.start("-Q", ",".join(queues))
        with fleet.cut(), fleet.producing(app, luck=luck, queue="q0"), fleet.producing(luck=luck, queue="q1"):
            fleet.wait_ended(60)
            victim = luck.choice(cluster.servers)
            victim.freeze()
            pause(2 * LEASE_S)
            victim.thaw()
            cluster.wait_until_ready()
            for queue in queues:
                fleet.wait_works(queue=queue)
        fleet.wait_all()
        fleet.check()


def test_a_slot_moves_to_another_node(redis_kind, start_fleet, luck) -> None:
    with RedisCluster(binary=redis_kind) as cluster:
        fleet = start_fleet(cluster.url)
        fleet.start("-Q", "q0,q1")
        with fleet.producing(luck=luck, queue="q0"):
            fleet.wait_ended(60)
            _move(cluster, "q0")
            fleet.wait_works(queue="q0")
        fleet.wait_all()
        assert fleet.check() == 0


def _move(cluster: RedisCluster, tag: str) -> None:
    """Move a hash slot with all its keys, as `redis-cli --cluster reshard` does."""
    slot = int(cluster.servers[0].cli().execute_command("CLUSTER", "KEYSLOT", f"{{{tag}}}"))
    ids = [server.cli().execute_command("CLUSTER", "MYID") for server in cluster.servers]
    source = next(
        server for server in cluster.servers if server.cli().execute_command("CLUSTER", "COUNTKEYSINSLOT", slot)
    )
    target = next(server for server in cluster.servers if server is not source)
    source_id, target_id = (ids[cluster.servers.index(server)] for server in (source, target))
    target.cli().execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    source.cli().execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    while keys := source.cli().execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
        source.cli().execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    for server in (target, source, *cluster.servers):
        server.cli().execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
