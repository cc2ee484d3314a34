"""Processes and workers that die on RabbitMQ, where nothing can be adopted: what they ran is judged by the notes."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from fleet import PATIENCE_S, pause

from servers import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(120)]

AGAIN_S = 2.0
"""What a dead worker ran starts again within so long: the server notices at once, and notes get a quarter second."""


def send(fleet: Any, app: Any, task: str, *args: Any, **options: Any) -> Any:
    """Publish a task that may have any end."""
    sent = app.send_task(task, args, **options)
    fleet.history.unknown.add(sent.id)
    return sent


def runs_of(fleet: Any, sent: Any) -> list[Any]:
    return fleet.runs().get(sent.id, [])  # type: ignore[no-any-return]


def ending(sent: Any) -> tuple[str, str]:
    """The state a task ends in, and its error."""
    error = sent.get(timeout=20, propagate=False)
    return sent.state, f"{type(error).__name__}: {error}"


def test_whole_workers_are_killed(rabbit_url, start_rabbit_fleet, luck) -> None:
    fleet = start_rabbit_fleet(rabbit_url)
    survivor, victim = fleet.start(), fleet.start()
    with fleet.producing(luck=luck):
        for _ in range(4):
            fleet.wait_ended(len(fleet.ended()) + luck.randrange(20, 60))
            pause(luck.uniform(0.0, 0.05))
            fleet.kill(victim)
            victim = fleet.start()
        fleet.kill(survivor)
        fleet.wait_works()
    fleet.wait_all()
    doubles = fleet.check()
    print(f"{doubles} of {len(fleet.history.acknowledged)} tasks ran again")


def test_what_a_killed_worker_ran_starts_again_at_once(rabbit_url, start_rabbit_fleet) -> None:
    fleet = start_rabbit_fleet(rabbit_url)
    victim = fleet.start()
    gate = fleet.folder / "gate"
    sent = {fleet.send(fleet.app(), str(gate), task="until") for _ in range(2)}
    fleet.wait(lambda: sent <= set(fleet.runs()), "both to run", 10)
    fleet.start()
    fleet.kill(victim)
    began = time.monotonic()
    fleet.wait(lambda: all(len(fleet.runs()[one]) == 2 for one in sent), "both to run again", 10)
    assert max(fleet.runs()[one][1].started for one in sent) - began <= AGAIN_S
    gate.touch()
    fleet.wait_all()
    assert fleet.check() == 2


def test_single_processes_are_killed(rabbit_url, start_rabbit_fleet, luck) -> None:
    fleet = start_rabbit_fleet(rabbit_url, task_max_deliveries=50)
    worker = fleet.start()
    with fleet.producing(luck=luck):
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
    print(f"{doubles} of {len(fleet.history.acknowledged)} tasks ran again")


def test_the_supervisor_alone_is_killed(rabbit_url, start_rabbit_fleet, luck) -> None:
    """Its processes finish what they run, settle it over their own connections, and leave."""
    fleet = start_rabbit_fleet(rabbit_url)
    fleet.start()
    victim = fleet.start()
    with fleet.producing(luck=luck):
        fleet.wait_ended(60)
        victim.program.signal(signal.SIGKILL)
        fleet.wait_ended(len(fleet.ended()) + 60)
        fleet.wait_works()
    fleet.wait_all()
    assert fleet.check() == 0


@pytest.mark.parametrize(("number", "text"), [(9, "signal 9 (SIGKILL)"), (11, "signal 11 (SIGSEGV)"), (-3, "code 3")])
def test_poison_is_buried_and_harms_no_neighbour(rabbit_url, start_rabbit_fleet, number, text) -> None:
    fleet = start_rabbit_fleet(rabbit_url, task_max_deliveries=3)
    worker = fleet.start()
    app = fleet.app()
    poison = send(fleet, app, "die", number)
    neighbours = [app.send_task("work", (0.01,)) for _ in range(40)]
    fleet.history.acknowledged.update(one.id for one in neighbours)
    state, error = ending(poison)
    assert (state, error.partition(":")[0]) == ("FAILURE", "WorkerLostError")
    assert all(one.get(timeout=20) for one in neighbours)
    pids = [run.pid for run in runs_of(fleet, poison)]
    assert len(pids) == 3
    wait_until(lambda: app.broker.dead_letters(), "the dead letter", 10)
    [dead] = app.broker.dead_letters()
    assert (dead.id, dead.task, dead.queue, dead.deliveries) == (poison.id, "die", "celery", 3)
    assert dead.reason == f"its worker process was lost 3 times, last by {dead.reason.rpartition('by ')[2]}"
    assert text in dead.reason
    for pid in pids:
        assert f"process {pid}, " in dead.detail
    assert dead.detail.count(text) >= 3
    # that it will run again is said by the one that dies of it, and may be lost with that one
    assert worker.log.count(f"while it ran die[{poison.id}]") == 3
    fleet.killed.update(pids)  # what had ended in the moment before, and was not settled
    fleet.wait_all()
    assert fleet.check() - 1 <= 3


@pytest.mark.parametrize("task", ["until", "once"])
def test_a_hard_limit_ends_one_task(rabbit_url, start_rabbit_fleet, task) -> None:
    fleet = start_rabbit_fleet(rabbit_url)
    fleet.start()
    app = fleet.app()
    late = send(fleet, app, task, "never", time_limit=0.7)
    behind = [app.send_task("work", (0.01,)) for _ in range(20)]
    state, error = ending(late)
    assert (state, error.partition(":")[0]) == ("FAILURE", "TimeLimitExceeded")
    assert all(one.get(timeout=20) for one in behind)
    assert len(runs_of(fleet, late)) == 1
    assert app.broker.dead_letters() == []


@pytest.mark.parametrize("task", ["until", "once", "awork"])
def test_terminate(rabbit_url, start_rabbit_fleet, task) -> None:
    fleet = start_rabbit_fleet(rabbit_url)
    fleet.start()
    app = fleet.app()
    sent = send(fleet, app, task, 30.0 if task == "awork" else "never")
    wait_until(lambda: runs_of(fleet, sent), "it to run", 10)
    began = time.monotonic()
    sent.revoke(terminate=True)
    state, _ = ending(sent)
    assert state == "REVOKED"
    assert time.monotonic() - began < 8.0
    assert app.send_task("work").get(timeout=10)
    assert [run.ended for run in runs_of(fleet, sent)] == [None]


@pytest.mark.parametrize(
    ("when", "settings"), [("at its start", {}), ("later", {}), ("later", {"result_backend": "rpc://"})]
)
def test_what_may_not_run_twice_fails_with_its_process(rabbit_url, start_rabbit_fleet, when, settings) -> None:
    fleet = start_rabbit_fleet(rabbit_url, **settings)
    fleet.start()
    app = fleet.app()
    sent = send(fleet, app, "once", "never")
    wait_until(lambda: runs_of(fleet, sent), "it to run", 10)
    if when == "later":
        pause(0.5)
    os.kill(runs_of(fleet, sent)[0].pid, signal.SIGKILL)
    state, error = ending(sent)
    assert (state, error.partition(":")[0]) == ("FAILURE", "WorkerLostError")
    assert "SIGKILL" in error
    assert app.send_task("work").get(timeout=10)
    assert len(runs_of(fleet, sent)) == 1


def test_what_may_not_run_twice_outlives_its_connection(faulty, start_rabbit_fleet) -> None:
    fleet = start_rabbit_fleet(faulty.url)
    worker = fleet.start()
    app = fleet.app()
    gate = fleet.folder / "gate"
    once, often = (send(fleet, app, task, str(gate)) for task in ("once", "until"))
    wait_until(lambda: runs_of(fleet, once) and runs_of(fleet, often), "both to run", 10)
    pause(0.5)
    assert faulty.close_connections() > 2
    wait_until(lambda: worker.log.count("the lease was lost") >= 2, "its processes to notice", PATIENCE_S)
    gate.touch()
    assert [one.get(timeout=20) for one in (once, often)] == [runs_of(fleet, one)[0].pid for one in (once, often)]
    assert app.send_task("work").get(timeout=10)
    assert len(runs_of(fleet, once)) == 1


def test_orders_come_over_the_next_connection(faulty, start_rabbit_fleet) -> None:
    fleet = start_rabbit_fleet(faulty.url)
    fleet.start()
    app = fleet.app()
    once = send(fleet, app, "once", "never")
    wait_until(lambda: runs_of(fleet, once), "it to run", 10)
    pause(0.5)
    faulty.close_connections()
    once.revoke(terminate=True)
    assert ending(once)[0] == "REVOKED"
    assert app.send_task("work").get(timeout=10)
    assert [run.ended for run in runs_of(fleet, once)] == [None]


def test_a_cold_shutdown(rabbit_url, start_rabbit_fleet) -> None:
    fleet = start_rabbit_fleet(rabbit_url)
    first = fleet.start()
    app = fleet.app()
    gate = fleet.folder / "gate"
    once, often = (send(fleet, app, task, str(gate)) for task in ("once", "until"))
    wait_until(lambda: runs_of(fleet, once) and runs_of(fleet, often), "both to run", 10)
    pause(0.5)
    first.program.signal(signal.SIGQUIT)
    assert ending(once) == ("FAILURE", ending(once)[1])
    assert "ended by its worker" in ending(once)[1]
    second = fleet.start()
    gate.touch()
    assert often.get(timeout=20) in second.pids
    assert (len(runs_of(fleet, once)), len(runs_of(fleet, often))) == (1, 2)


def test_a_worker_that_leaves_gives_back_what_waits(rabbit_url, start_rabbit_fleet) -> None:
    """And whoever may not run twice is not taken for one that was lost."""
    fleet = start_rabbit_fleet(rabbit_url, task_max_deliveries=1)
    first = fleet.start("-c", "1")
    app = fleet.app()
    gate = fleet.folder / "gate"
    assert all(one.get(timeout=20) for one in [app.send_task("work") for _ in range(200)])
    held = send(fleet, app, "until", str(gate))
    wait_until(lambda: runs_of(fleet, held), "it to run", 10)
    waiting = [send(fleet, app, "once", str(gate)) for _ in range(20)]
    pause(0.1)
    first.program.signal(signal.SIGTERM)
    gate.touch()
    fleet.start()
    assert all(one.get(timeout=20) for one in [held, *waiting])
    assert all(len(runs_of(fleet, one)) == 1 for one in [held, *waiting])
