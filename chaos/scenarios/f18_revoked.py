"""F18: tasks are revoked while workers die and the server is killed; none starts after that was acknowledged. Some run
and are terminated. Whoever watches stands still, and is killed: nobody notices.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from celeriac.model import new_task_id
from chaos.history import Blame
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from chaos.fleet import Member
    from chaos.stage import Stage

BATCH = 10
LATEST_S = 4.0
"""What is delayed is due within so long."""
LONG = "long"
"""Queue of the tasks that are terminated, and of a worker of processes: nothing ends a thread."""


def run(stage: Stage) -> None:
    fleet, nemesis = stage.fleet, stage.nemesis
    fleet.start_worker("-E")
    fleet.start_worker("-E", pool=("-c", "2", "--threads", "2"))
    spared = fleet.start_worker("-E", "-Q", LONG)
    monitor = fleet.start_monitor()
    rounds = max(6, round(50 * stage.share))
    kills = set(stage.luck.sample(range(1, rounds), max(1, round(rounds / 10))))
    later: list[tuple[str, tuple[float]]] = []
    with nemesis.fault("monitor-stopped", Blame()):
        monitor.signal(signal.SIGSTOP)
        for number in range(rounds // 2):
            later += revoke_some(stage, spared, is_kill=number in kills)
    with nemesis.fault("monitor-killed", Blame()):
        monitor.program.kill()
        for number in range(rounds // 2, rounds):
            is_restart = number == rounds // 2 and stage.engine.name in SERVERS
            later += revoke_some(stage, spared, is_kill=number in kills, is_restart=is_restart)
            if number % 5 == 0:
                terminate(stage)
    for task_id, args in later:  # half of these were revoked before anybody knew them
        while stage.producer.send("work", *args, task_id=task_id) != "ok":
            pass
    stage.pause(LATEST_S)  # what is revoked is over, and yet its message goes when its time comes


def revoke_some(
    stage: Stage, spared: Member, *, is_kill: bool, is_restart: bool = False
) -> list[tuple[str, tuple[float]]]:
    """Of a batch: some wait, some are delayed, some run, one has not been published yet. Those not yet published."""
    fleet, nemesis, luck, producer = stage.fleet, stage.nemesis, stage.luck, stage.producer
    ids = [new_task_id() for _ in range(2 * BATCH)]
    tasks = [(task_id, "work", (round(luck.uniform(0.0, 0.06), 4),)) for task_id in ids]
    luck.shuffle(tasks)
    while producer.send_all(tasks[2:12]) != "ok":
        pass
    for task_id, task, args in tasks[12:]:
        while producer.send(task, *args, task_id=task_id, countdown=luck.uniform(0.2, LATEST_S)) != "ok":
            pass
    if is_kill:
        nemesis.kill(luck.choice([one for one in fleet.workers if one is not spared]))
    chosen = [task_id for task_id, _, _ in tasks[:1]] + luck.sample([task[0] for task in tasks[2:]], BATCH - 1)
    if is_restart:
        with nemesis.fault("server-killed", Blame(cuts=True)):
            stage.engine.kill()
            producer.try_revoke(chosen)
            stage.engine.start()
    producer.revoke(chosen)
    if is_kill:
        fleet.start_worker("-E")  # one that was not there
    return [(task_id, args) for task_id, _, args in tasks[:2]]


def terminate(stage: Stage) -> None:
    """Revoke a task that has just begun, and end it."""
    task_id = new_task_id()
    while stage.producer.send("work", 2.0, task_id=task_id, queue=LONG) != "ok":
        pass

    def has_begun() -> bool:
        stage.standing.look()
        return task_id in stage.standing.running

    stage.fleet.wait(has_begun, "the task to begin")
    stage.producer.revoke([task_id], terminate=True)


SERVERS = ("redis", "rabbitmq")

SCENARIO = Scenario(
    key="F18",
    title="revoking while workers and the server are killed",
    run=run,
    repetitions={"sqlite": 5, "redis": 6, "rabbitmq": 6},
    seconds={"sqlite": 20, "redis": 25, "rabbitmq": 35},
)
