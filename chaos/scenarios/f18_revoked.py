"""F18: tasks are revoked while workers die and the server is killed; none starts after that was acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celeriac.model import new_task_id
from chaos.history import Blame
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from chaos.stage import Stage

BATCH = 10


def run(stage: Stage) -> None:
    """Of each batch: some wait, some are delayed, some run, one has not been published yet."""
    fleet, nemesis, luck, producer = stage.fleet, stage.nemesis, stage.luck, stage.producer
    fleet.start_worker()
    fleet.start_worker(pool=("-c", "2", "--threads", "2"))
    rounds = max(6, round(50 * stage.share))
    kills = set(luck.sample(range(1, rounds), max(1, round(rounds / 10))))
    restarts = {rounds // 2} if stage.engine.name in SERVERS else set()
    later: list[tuple[str, tuple[float]]] = []
    for number in range(rounds):
        ids = [new_task_id() for _ in range(2 * BATCH)]
        tasks = [(task_id, "work", (round(luck.uniform(0.0, 0.06), 4),)) for task_id in ids]
        luck.shuffle(tasks)
        later += [(task_id, args) for task_id, _, args in tasks[:2]]
        while producer.send_all(tasks[2:12]) != "ok":
            pass
        for task_id, task, args in tasks[12:]:
            while producer.send(task, *args, task_id=task_id, countdown=luck.uniform(0.2, 4.0)) != "ok":
                pass
        if number in kills:
            nemesis.kill(luck.choice(fleet.workers))
        chosen = [task_id for task_id, _, _ in tasks[:1]] + luck.sample([task[0] for task in tasks[2:]], BATCH - 1)
        if number in restarts:
            with nemesis.fault("server-killed", Blame(cuts=True)):
                stage.engine.kill()
                producer.try_revoke(chosen)
                stage.engine.start()
        producer.revoke(chosen)
        if number in kills:
            fleet.start_worker()  # one that was not there
    for task_id, args in later:  # half of these were revoked before anybody knew them
        while producer.send("work", *args, task_id=task_id) != "ok":
            pass


SERVERS = ("redis", "rabbitmq")

SCENARIO = Scenario(
    key="F18",
    title="revoking while workers and the server are killed",
    run=run,
    repetitions={"sqlite": 5, "redis": 6, "rabbitmq": 6},
    seconds={"sqlite": 20, "redis": 25, "rabbitmq": 35},
)
