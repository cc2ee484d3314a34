"""F13: one slot, a long queue, and very many delayed messages: workers do not grow, and claims stay quick.

Not on RabbitMQ, where each delayed message goes down a ladder of queues: nobody should delay very many there, and the
docs say so.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from celeriac.clock import SYSTEM_CLOCK
from celeriac.model import Release, new_incarnation, new_task_id
from chaos.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.stage import Stage

READY, DELAYED, MOST_DELAYED = 20_000, 100_000, 1_000_000
CLAIM_P99_S = 0.05
_BATCH = 1000
_LATER_S = 6 * 3600.0
_ROUNDS, _CLAIMS = 3, 200


def run(stage: Stage) -> None:
    fleet = stage.fleet
    share = min(1.0, stage.share)
    delayed = MOST_DELAYED if stage.share > 1 else round(DELAYED * share)
    publish_delayed(stage, delayed)
    slow = fleet.start_worker(pool=("-c", "1", "--async-slots", "1"))
    for _ in range(max(1, round(READY * share) // _BATCH)):
        stage.producer.send_all([(new_task_id(), "awork", (0.01,)) for _ in range(_BATCH)])
    # Others of this machine can only make it slower: of several rounds, the quickest is what the engine does
    rounds = [sorted(asyncio.run(time_claims(stage))) for _ in range(_ROUNDS)]
    took_s = min(rounds, key=lambda each: each[int(len(each) * 0.99)])
    p99_s = took_s[int(len(took_s) * 0.99)]
    stage.figure("claims timed", sum(map(len, rounds)))
    stage.figure("claim p50 ms", round(took_s[len(took_s) // 2] * 1000, 2))
    stage.figure("claim p99 ms", round(p99_s * 1000, 2))
    stage.pause(5.0)
    if not slow.is_running:
        raise AssertionError(f"the slow worker has ended:\n{slow.log[-2000:]}")
    for _ in range(2):
        fleet.start_worker(pool=("-c", "1", "--async-slots", "200"))
    fleet.wait(lambda: not any(one.ready + one.held for one in stage.app.broker.depth().values()), "all to run", 120.0)
    if (left := stage.app.broker.depth()["celery"].delayed) != delayed:
        raise AssertionError(f"{delayed:,} messages are due in six hours, and {left:,} are left of them")
    stage.app.broker.purge(["celery"])
    if p99_s > CLAIM_P99_S:
        raise AssertionError(f"99 of 100 claims took up to {p99_s * 1000:.1f} ms, not 50")


def publish_delayed(stage: Stage, count: int) -> None:
    """They are not due in the campaign's time, and not of its history."""
    build, publish = stage.app.submitter.build, stage.app.broker.publish
    began = time.monotonic()
    for first in range(0, count, _BATCH):
        publish(
            [
                build("awork", (0.0,), {}, queue="celery", countdown=_LATER_S + number)
                for number in range(first, min(first + _BATCH, count))
            ]
        )
    stage.figure("delayed messages", count)
    stage.figure("delayed messages published per s", round(count / (time.monotonic() - began)))


async def time_claims(stage: Stage) -> Sequence[float]:
    """How long it takes to be handed one message, while all the others lie there; it goes back."""
    broker = stage.app.broker
    took_s = []
    consumer = await broker.open_consumer(["celery"], incarnation=new_incarnation(), lease_s=60.0, name="claims@chaos")
    try:
        while len(took_s) < _CLAIMS:
            began = SYSTEM_CLOCK.monotonic()
            found = await consumer.claim(limit=1, wait_s=1.0)
            if found:
                took_s.append(SYSTEM_CLOCK.monotonic() - began)
            await consumer.settle([Release(delivery=one) for one in found])
    finally:
        await consumer.close()
    return took_s


SCENARIO = Scenario(
    key="F13",
    title="one slot, 20,000 ready and 100,000 delayed messages",
    run=run,
    repetitions={"sqlite": 1, "redis": 1},
    seconds={"sqlite": 35, "redis": 35},
)
