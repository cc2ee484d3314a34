"""Workers that are killed, stopped and cut off while producers of both kinds publish."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter

import pytest
from fleet import LEASE_S, PATIENCE_S, pause

pytestmark = [pytest.mark.processes, pytest.mark.slow]

RECOVERY_S = LEASE_S + 0.5 + 1.0 + 1.0
"""A lease, a look of the reaper, a poll of the claim, and a second (reliability.md, section 2.0)."""


def test_whole_workers_are_killed(start_redis, start_fleet, luck) -> None:
    server = start_redis()
    fleet = start_fleet(server.url)
    survivor, victim = fleet.start(), fleet.start()
    with fleet.producing(luck=luck), fleet.producing_for_celery(server.url):
        for _ in range(4):
            fleet.wait_ended(len(fleet.ended()) + luck.randrange(20, 60))
            pause(luck.uniform(0.0, 0.05))
            fleet.kill(victim)
            victim = fleet.start()
        victim, survivor = survivor, victim
        fleet.kill(victim)
        fleet.wait_works()
    fleet.wait_all()
    doubles = fleet.check()
    print(f"{doubles} of {len(fleet.history.acknowledged)} tasks ran again")


def test_what_a_killed_worker_ran_starts_again_in_time(start_redis, start_fleet) -> None:
    server = start_redis()
    fleet = start_fleet(server.url)
    victim = fleet.start()
    gate = fleet.folder / "gate"
    sent = {fleet.send(fleet.app(), str(gate), task="until") for _ in range(2)}
    fleet.wait(lambda: sent <= set(fleet.runs()), "both to run", 10)
    fleet.start()
    fleet.kill(victim)
    began = time.monotonic()
    fleet.wait(lambda: all(len(fleet.runs()[one]) == 2 for one in sent), "both to run again", RECOVERY_S + 1.0)
    latest = max(fleet.runs()[one][1].started for one in sent)
    assert latest - began <= RECOVERY_S
    gate.touch()
    fleet.wait_all()
    assert fleet.check() == 2


def test_single_processes_are_killed(start_redis, start_fleet, luck) -> None:
    server = start_redis()
    fleet = start_fleet(server.url, task_max_deliveries=50)
    worker = fleet.start()
    with fleet.producing(luck=luck), fleet.producing_for_celery(server.url):
        for _ in range(8):
            fleet.wait_ended(len(fleet.ended()) + luck.randrange(10, 40))
            running = {run.pid for mine in fleet.runs().values() for run in mine} & set(worker.pids)
            pause(luck.uniform(0.0, 0.03))
            if not running:
                continue
            pid = luck.choice(sorted(running))
            fleet.killed.add(pid)
            os.kill(pid, signal.SIGKILL)
            fleet.wait(lambda pid=pid: f"process {pid} ended with signal 9" in worker.log, "the supervisor to see", 5)
        fleet.wait_works()
    fleet.wait_all()
    doubles = fleet.check()
    # a process runs one `def` task at a time, and whatever async ones came beside it
    print(f"{doubles} of {len(fleet.history.acknowledged)} tasks ran again")


def test_the_supervisor_alone_is_killed(start_redis, start_fleet, luck) -> None:
    """Its processes finish what they run, settle it under their own leases, and leave."""
    server = start_redis()
    fleet = start_fleet(server.url)
    fleet.start()
    victim = fleet.start()
    with fleet.producing(luck=luck):
        fleet.wait_ended(60)
        victim.program.signal(signal.SIGKILL)
        fleet.wait_ended(len(fleet.ended()) + 60)
        fleet.wait_works()
    fleet.wait_all()
    assert fleet.check() == 0


def test_a_worker_that_was_stopped_for_three_leases_settles_nothing(start_redis, start_fleet) -> None:
    server = start_redis()
    fleet = start_fleet(server.url)
    app = fleet.app()
    gate = fleet.folder / "gate"
    first = fleet.start()
    sent = [app.send_task("until", (str(gate),)) for _ in range(2)]
    fleet.history.acknowledged.update(one.id for one in sent)
    ids = {one.id for one in sent}
    fleet.wait(lambda: ids <= set(fleet.runs()), "both to run", 10)
    for pid in first.pids:
        os.kill(pid, signal.SIGSTOP)
    stopped = set(first.pids)
    second = fleet.start()
    fleet.wait(
        lambda: all(len(fleet.runs()[one]) == 2 for one in ids), "both to run elsewhere", RECOVERY_S + 3 * LEASE_S
    )
    pause(LEASE_S)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    awake = time.monotonic()
    fleet.wait(lambda: "lease was lost" in first.log, "the stopped worker to notice", PATIENCE_S)
    gate.touch()
    results = [one.get(timeout=10) for one in sent]
    assert set(results) <= set(second.pids), "a result of a worker that had lost its lease"
    fleet.wait(lambda: all(run.ended for one in ids for run in fleet.runs()[one]), "the stale runs to end", 10)
    assert [one.get(timeout=10) for one in sent] == results
    # it goes on under another incarnation, and started nothing before it had one
    second.program.close()
    fleet.wait_works()
    assert not [run for one in ids for run in fleet.runs()[one] if run.started > awake]
    fleet.killed |= stopped
    fleet.wait_all()
    assert fleet.check() == 2


@pytest.mark.parametrize("celery_env", ["newest"], indirect=True)
def test_workers_are_killed_while_celery_publishes(celery, redis_server, start_fleet, luck) -> None:
    fleet = start_fleet(redis_server.url)
    fleet.start()
    victim = fleet.start()
    shell = celery.shell()
    count = 0
    with fleet.producing(luck=luck):
        for _ in range(3):
            ids = shell("[record.delay(str(n)).id for n in range(k)]", k=80)
            count += len(ids)
            fleet.history.acknowledged.update(ids)
            fleet.wait_ended(len(fleet.ended()) + luck.randrange(10, 60))
            fleet.kill(victim)
            victim = fleet.start()
    fleet.wait_all()
    fleet.check()


def test_fifty_clients_lose_the_server_together(start_redis, start_proxy, start_fleet, luck) -> None:
    """They are back in time, and not all in the same moment."""
    server = start_redis()
    proxy = start_proxy(*server.address)
    fleet = start_fleet(server.url_at(proxy.port))
    for _ in range(2):
        fleet.start("-c", "8")
    direct = fleet.app(server.url)
    with fleet.producing(direct, luck=luck):
        fleet.wait_ended(50)
        fleet.wait(lambda: proxy.connections >= 50, "fifty connections", 10)
        proxy.refuse()
        lost = proxy.cut(reset=True)
        pause(LEASE_S * 0.6)
        accepted, began = proxy.accepted, time.monotonic()
        proxy.accept()
        moments: Counter[int] = Counter()
        seen = accepted
        while proxy.connections < 50 and time.monotonic() - began < PATIENCE_S:
            moments[int((time.monotonic() - began) / 0.1)] += proxy.accepted - seen
            seen = proxy.accepted
            pause(0.01)
        assert proxy.connections >= 50, f"{proxy.connections} of {lost} are back after {PATIENCE_S:g} s"
        assert max(moments.values()) <= 35, f"too many in a tenth of a second: {moments}"
        assert seen - accepted <= 2 * lost, "each connects once or twice"
        fleet.wait_works(app=direct)
    fleet.wait_all(app=direct)
    assert fleet.check() == 0


def test_lost_leases_leave_no_connections_behind(start_redis, start_fleet) -> None:
    """Blackholes longer than a lease: each left three connections in every process, open for as long as it lived."""
    server = start_redis()
    fleet = start_fleet(server.url)
    fleet.start()
    app = fleet.app()
    fleet.wait_works(app=app)
    cli = server.cli()

    def clients() -> int:
        return int(cli.info("clients")["connected_clients"])

    most = clients() + 6  # some are opened when they are first needed
    for _ in range(4):
        fleet.wait_all(app=app)  # what has ended and is not settled would run again
        lost = set(cli.hkeys("celeriac:incs"))
        assert lost
        for incarnation in lost:
            asyncio.run(app.broker.abandon(incarnation, running=()))
        fleet.wait_works(app=app)
        fleet.wait(lambda lost=lost: len(set(cli.hkeys("celeriac:incs")) - lost) >= len(lost), "other leases", 20)
    fleet.wait(lambda: clients() <= most, f"at most {most} connections", 10)
    fleet.wait_all(app=app)
    assert fleet.check() == 0
