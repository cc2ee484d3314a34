"""RabbitMQ restarts, dies, hangs, throws everybody out, is short of memory: workers and producers go on."""

from __future__ import annotations

import time

import pytest
from fleet import PATIENCE_S, TIMEOUT_S, pause
from rabbit_fleet import HEARTBEAT_S, impatient

from celeriac.errors import BackPressureError, StorageError
from servers import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(180)]


def test_without_a_fault(faulty, start_rabbit_fleet, luck) -> None:
    fleet = start_rabbit_fleet(faulty.url)
    fleet.start()
    with fleet.producing(luck=luck):
        fleet.wait_ended(150)
    fleet.wait_all()
    assert fleet.check() == 0


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_with_messages_in_flight(faulty, start_rabbit_fleet, luck, how) -> None:
    fleet = start_rabbit_fleet(faulty.url)
    fleet.start()
    with fleet.cut(), fleet.producing(luck=luck):
        fleet.wait_ended(60 + luck.randrange(30))
        began = time.monotonic()
        faulty.stop() if how == "stop" else faulty.kill()
        pause(luck.uniform(0.0, 1.0))
        faulty.start()
        back_s = fleet.wait_works()
        print(f"down for {time.monotonic() - began - back_s:.1f} s, back after {back_s:.2f} s more")
    fleet.wait_all()
    fleet.check()


def test_an_operator_closes_every_connection_again_and_again(faulty, start_rabbit_fleet, luck) -> None:
    fleet = start_rabbit_fleet(faulty.url)
    fleet.start()
    with fleet.cut(), fleet.producing(luck=luck):
        for _ in range(5):
            fleet.wait_ended(len(fleet.ended()) + luck.randrange(5, 25))
            assert faulty.close_connections() > 2
        fleet.wait_works()
    fleet.wait_all()
    doubles = fleet.check()
    print(f"{doubles} of {len(fleet.history.acknowledged)} tasks ran again")


def test_a_server_that_hangs(faulty, start_rabbit_fleet, luck) -> None:
    fleet = start_rabbit_fleet(impatient(faulty.url))
    worker = fleet.start()
    with fleet.cut(), fleet.producing(luck=luck):
        fleet.wait_ended(40)
        faulty.freeze()
        pause(2 * HEARTBEAT_S + 1.5)
        faulty.thaw()
        fleet.wait_works()
    fleet.wait_all()
    fleet.check()
    assert fleet.history.slowest_s <= TIMEOUT_S + 0.5
    assert "is replaced" not in worker.log


def test_a_memory_alarm(faulty, start_rabbit_fleet, luck) -> None:
    """Producers hear of it in time; nothing is lost; all goes on when it is over."""
    fleet = start_rabbit_fleet(faulty.url)
    fleet.start()
    app = fleet.app()
    with fleet.producing(app, luck=luck):
        fleet.wait_ended(40)
        faulty.set_alarm()
        began = time.monotonic()
        with pytest.raises(BackPressureError):
            fleet.app().send_task("work")
        assert time.monotonic() - began <= TIMEOUT_S + 0.5
        pause(1.0)
        faulty.clear_alarm()
        fleet.wait_works()
    fleet.wait_all()
    # the probe that was refused may be on the server all the same, in a buffer
    fleet.history.unknown |= set(fleet.runs()) - fleet.history.acknowledged
    fleet.check()


def test_a_worker_starts_under_a_memory_alarm(faulty, start_rabbit_fleet) -> None:
    fleet = start_rabbit_fleet(faulty.url)
    app = fleet.app()
    sent = {fleet.send(app) for _ in range(20)}
    faulty.set_alarm()
    worker = fleet.start(ready=False)
    pause(2.0)
    assert worker.program.is_running, worker.log
    faulty.clear_alarm()
    fleet.wait(lambda: sent <= fleet.ended(), "the queue to be drained", 15)
    fleet.wait_all()
    assert fleet.check() == 0


def test_a_queue_is_deleted_under_the_consumers(faulty, start_rabbit_fleet, luck) -> None:
    """What was in it is gone; the queue is made again, and what is sent from now on runs.

    All but perhaps the first few: a queue that is there again before the server has told its consumers of the end has
    consumers that get nothing, and that is seen by what lies in it. RabbitMQ 3.10 may close the connection (541) of who
    makes the queue while it still deletes it.
    """
    fleet = start_rabbit_fleet(faulty.url)
    worker = fleet.start()
    app = fleet.app()
    fleet.wait_works(app=app)
    with fleet.producing(app, luck=luck):
        fleet.wait_ended(40)
        for name, priority in (("celery", 0), ("celery", 0), ("celery.p9", 9)):
            with fleet.cut():
                faulty.delete_queue(name)
                began = time.monotonic()
                sent: set[str] = set()
                while not sent & fleet.ended():
                    assert time.monotonic() - began < PATIENCE_S, f"nothing of {name} runs\n{fleet.logs()}"
                    sent.add(fleet.send(app, priority=priority))
                    pause(0.02)
            fleet.wait_ended(len(fleet.ended()) + 20)
            pause(1.0)  # each deletion is mended before the next
    if "541 INTERNAL_ERROR" not in worker.log:
        fleet.cut_off.clear()  # then no connection is lost, and nothing runs again
    fleet.check(lossy=True)


def test_the_vhost_is_removed_and_made_again(faulty, start_rabbit_fleet, luck) -> None:
    fleet = start_rabbit_fleet(faulty.url)
    worker = fleet.start()
    with fleet.producing(luck=luck):
        fleet.wait_ended(40)
    fleet.wait_all()
    faulty.delete_vhost("/")
    began = time.monotonic()
    with pytest.raises(StorageError, match="vhost"):
        fleet.app().send_task("work")
    assert time.monotonic() - began <= TIMEOUT_S + 0.5
    pause(1.5)
    assert worker.program.is_running, worker.log
    faulty.vhost("/")
    fleet.wait_works()
    with fleet.producing(luck=luck):
        fleet.wait_ended(len(fleet.ended()) + 40)
    fleet.wait_all()
    assert fleet.check() == 0


def test_a_wrong_password_is_said_at_once(faulty, start_rabbit_fleet) -> None:
    fleet = start_rabbit_fleet(faulty.url.replace("guest:guest", "guest:s3same"))
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"(?s)amqp://guest:\*\*\*@.*password") as caught:
        fleet.app().send_task("work")
    assert time.monotonic() - began < TIMEOUT_S
    assert "s3same" not in str(caught.value)
    worker = fleet.start(ready=False)
    code = worker.program.wait(15)
    assert code == 78, worker.log
    assert "password" in worker.log, worker.log
    assert "s3same" not in worker.log, "a password in the log"
    assert "Traceback" not in worker.log, worker.log


def test_idle_workers_keep_quiet(faulty, start_rabbit_fleet) -> None:
    """Their connections live by heartbeats and nothing else."""
    fleet = start_rabbit_fleet(impatient(faulty.url))
    fleet.start()
    fleet.wait_works()
    wait_until(lambda: faulty.connections() > 0, "connections")
    pause(2 * HEARTBEAT_S)  # some are opened when they are first needed
    before = faulty.connections()
    pause(3 * HEARTBEAT_S)
    assert faulty.connections() == before
    fleet.wait_works()
    assert fleet.check() == 0
