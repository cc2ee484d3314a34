"""The server restarts, dies, hangs, forgets, is full: workers and producers go on by themselves."""

from __future__ import annotations

import re
import time

import pytest
from fleet import LEASE_S, pause

from servers import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.slow]


def test_without_a_fault(start_redis, start_fleet, luck) -> None:
    server = start_redis()
    fleet = start_fleet(server.url)
    fleet.start()
    with fleet.producing(luck=luck), fleet.producing_for_celery(server.url):
        fleet.wait_ended(200)
    fleet.wait_all()
    assert fleet.check() == 0


@pytest.mark.parametrize(("how", "persistence"), [("stop", "everysec"), ("kill", "everysec"), ("kill", "always")])
def test_a_restart_with_its_data_loses_nothing(start_redis, start_fleet, luck, how, persistence) -> None:
    server = start_redis(persistence=persistence)
    fleet = start_fleet(server.url)
    fleet.start()
    with fleet.producing(luck=luck), fleet.producing_for_celery(server.url):
        for round_ in range(1, 3):
            fleet.wait_ended(len(fleet.ended()) + 60 + luck.randrange(30))
            server.stop() if how == "stop" else server.kill()
            if round_ == 2:
                pause(0.5)
            server.start()
            fleet.wait_works()
    fleet.wait_all()
    fleet.check()  # shorter than a lease: nobody has lost one


def test_a_restart_without_its_data(start_redis, start_fleet, luck) -> None:
    server = start_redis()
    fleet = start_fleet(server.url)
    fleet.start()
    with fleet.cut(), fleet.producing(luck=luck):
        fleet.wait_ended(60)
        server.restart(how="kill", keep_data=False)
        fleet.wait_works()
    before = len(fleet.ended())
    with fleet.producing(luck=luck):
        fleet.wait_ended(before + 60)
    fleet.check(lossy=True)


def test_an_outage_longer_than_leases_and_backoff(start_redis, start_fleet, luck) -> None:
    server = start_redis(persistence="everysec")
    fleet = start_fleet(server.url)
    fleet.start()
    with fleet.cut(), fleet.producing(luck=luck):
        fleet.wait_ended(60)
        server.stop()
        pause(4 * LEASE_S)
        server.start()
        fleet.wait_works()
    fleet.wait_all()
    fleet.check()


def test_a_pause_of_all_clients(start_redis, start_fleet, luck) -> None:
    server = start_redis()
    fleet = start_fleet(server.url)
    fleet.start()
    with fleet.producing(luck=luck), fleet.producing_for_celery(server.url):
        fleet.wait_ended(60)
        server.pause_clients(1.2)
        fleet.wait_works()
    fleet.wait_all()
    assert fleet.check() == 0


def test_a_server_that_hangs(start_redis, start_fleet, luck) -> None:
    server = start_redis()
    # a call may take longer than a lease: a process that waits for an answer has not stopped working
    fleet = start_fleet(server.url, task_publish_timeout=5.0)
    fleet.start()
    with fleet.cut(), fleet.producing(luck=luck):
        fleet.wait_ended(60)
        server.freeze()
        pause(3 * LEASE_S)
        server.thaw()
        fleet.wait_works()
    fleet.wait_all()
    fleet.check()
    assert "is replaced" not in fleet.logs()


def test_every_connection_is_killed_again_and_again(start_redis, start_fleet, luck) -> None:
    server = start_redis()
    fleet = start_fleet(server.url)
    fleet.start()
    with fleet.producing(luck=luck):
        for _ in range(12):
            fleet.wait_ended(len(fleet.ended()) + luck.randrange(5, 25))
            assert server.cut_clients() > 0
        fleet.wait_works()
    fleet.wait_all()
    assert fleet.check() == 0


def test_scripts_are_flushed_while_busy(start_redis, start_fleet, luck) -> None:
    server = start_redis()
    fleet = start_fleet(server.url)
    fleet.start()
    with fleet.producing(luck=luck):
        for _ in range(15):
            fleet.wait_ended(len(fleet.ended()) + luck.randrange(1, 15))
            server.cli().script_flush()
    fleet.wait_all()
    assert fleet.check() == 0
    assert "NOSCRIPT" not in fleet.logs()


def test_a_full_server(start_redis, start_fleet, luck) -> None:
    server = start_redis()
    fleet = start_fleet(server.url)
    app = fleet.app()
    gate = fleet.folder / "gate"
    fleet.start()
    held = [fleet.send(app, str(gate), task="until") for _ in range(2)]
    delayed = [fleet.send(app, countdown=luck.uniform(0.5, 2.0)) for _ in range(20)]
    fleet.wait(lambda: set(held) <= set(fleet.runs()), "two tasks to run", 10)
    for _ in range(50):
        fleet.send(app)
    server.refuse_writes()
    began = time.monotonic()
    with fleet.producing(app, luck=luck):
        fleet.wait(lambda: len(fleet.history.rejected) > 5, "refusals", 10)
        gate.touch()
        # what frees memory goes on: leases are renewed, what is there is claimed, run and settled
        fleet.wait(lambda: {*held, *delayed} <= fleet.ended(), "delayed and held tasks to end on a full server", 10)
        pause(max(0.0, 2 * LEASE_S - (time.monotonic() - began)))
        server.accept_writes()
        fleet.wait_works()
    fleet.wait_all()
    assert fleet.check() == 0


def test_a_worker_starts_on_a_full_server(start_redis, start_fleet) -> None:
    server = start_redis()
    fleet = start_fleet(server.url)
    app = fleet.app()
    sent = {fleet.send(app) for _ in range(20)}
    server.refuse_writes()
    fleet.start()
    fleet.wait(lambda: sent <= fleet.ended(), "the queue to be drained", 10)
    server.accept_writes()
    fleet.wait_works()
    fleet.wait_all()
    assert fleet.check() == 0


def test_a_server_that_cannot_write_to_its_disk(start_redis, start_fleet, luck) -> None:
    """MISCONF: it takes no writes while its last snapshot has failed. That passes."""
    server = start_redis(settings={"stop-writes-on-bgsave-error": "yes"})
    fleet = start_fleet(server.url)
    fleet.start()
    with fleet.cut(), fleet.producing(luck=luck):
        fleet.wait_ended(40)
        server.cli().config_set("save", "3600 1")
        server.data.rmdir()
        server.cli().bgsave()
        wait_until(lambda: server.cli().info("persistence")["rdb_last_bgsave_status"] == "err", "a failed snapshot")
        pause(1.0)
        server.cli().config_set("stop-writes-on-bgsave-error", "no")
        fleet.wait_works()
    fleet.wait_all()
    fleet.check()


def test_a_wrong_password_is_said_at_once(start_redis, start_fleet) -> None:
    server = start_redis(password="right")
    fleet = start_fleet(server.url.replace("right", "wrong"))
    began = time.monotonic()
    with pytest.raises(Exception, match=r"(?s)publish to redis://:\*\*\*@.*password") as caught:
        fleet.app().send_task("work")
    assert type(caught.value).__name__ == "StorageError"
    assert time.monotonic() - began < 4.0, "no second try"
    worker = fleet.start(ready=False)
    code = worker.program.wait(15)
    assert code == 78, worker.log
    assert re.search(r"password", worker.log), worker.log
    assert "wrong" not in worker.log.replace("WRONGPASS", ""), "a password in the log"
    assert "Traceback" not in worker.log, worker.log


def test_a_password_that_changes_under_a_worker(start_redis, start_fleet) -> None:
    """It says so, keeps what has ended, and goes on when it is let in again."""
    server = start_redis()
    fleet = start_fleet(server.url)
    app = fleet.app()
    gate = fleet.folder / "gate"
    worker = fleet.start()
    held = {fleet.send(app, str(gate), task="until") for _ in range(2)}
    fleet.wait(lambda: held <= set(fleet.runs()), "two tasks to run", 10)
    admin = server.cli()
    with fleet.cut():
        admin.config_set("requirepass", "changed")
        assert server.cut_clients() > 3
        gate.touch()
        fleet.wait(lambda: held <= fleet.ended(), "both to end", 10)
        fleet.wait(lambda: "check user and password" in worker.log, "the worker to say it", 10)
        fleet.wait(lambda: "cannot settle" in worker.log, "outcomes to wait", 10)
        admin.config_set("requirepass", "")
        fleet.wait_works()
    fleet.wait_all()
    if fleet.check():  # it took longer than a lease: then the tasks ran again, and that is all
        assert "lease" in worker.log
