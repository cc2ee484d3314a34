"""A model of a broker whose connections are the leases: random histories, with plain dicts beside them.

The model of `celeriac.testing.conformance` looks at every message after every step, and moves time by hand. Here nobody
knows what is held, a message on its way to a consumer is seen by nobody, and the server keeps the time. What is left
to ask: nothing is lost and nothing invented, nothing is handed out while somebody holds it, counts of deliveries are
exact, a stale consumer is refused, and at the end, everything is there that was put in and not ended.

Chance comes from a seed and not from Hypothesis: when a message arrives is the server's affair, so a history told again
takes another turn.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import LeaseLostError
from celeriac.interfaces import Broker, Consumer
from celeriac.model import Bury, Delivery, Done, Later, Outcome, Outgoing, Release, Settled, new_incarnation
from celeriac.probe import Probe

QUEUES = ("a", "b")
OUTCOMES = ("done", "done with successor", "later", "later delayed", "release", "spent", "bury")
ON_ITS_WAY_S = 2.0


@dataclass
class Task:
    """What is known of a message that has not ended."""

    message: Outgoing
    deliveries: int = 0
    holder: Worker | None = None
    was_out: bool = False


@dataclass(eq=False)
class Worker:
    consumer: Consumer
    queues: tuple[str, ...]
    is_lost: bool = False
    held: dict[str, Delivery] = field(default_factory=dict)
    stale: list[Delivery] = field(default_factory=list)


class ConnectionHistory:
    """One history against a broker on a fresh store; `run` does it.

    Args:
        broker: Closed by the caller.
        cut_all: Has the server close every connection.
        probe: The broker's: tells which messages went back as copies.
        luck: Decides what happens.
    """

    def __init__(self, broker: Broker, cut_all: Callable[[], object], probe: Probe, luck: random.Random) -> None:
        self.loop = asyncio.new_event_loop()
        self.broker, self.cut_all, self.probe, self.luck = broker, cut_all, probe, luck
        self.live: dict[str, Task] = {}
        self.dead: dict[str, Task] = {}
        self.workers: list[Worker] = []
        self.count = 0
        self.acknowledged: Counter[bytes] = Counter()
        """By body, which no two messages share: since the connections were cut last."""
        self.moves = 0
        """How many of those that the probe tells of had begun by then."""
        self.ghosts: Counter[bytes] = Counter()
        """What was acknowledged, and then the connection was cut: whether the server has heard of it, nobody knows. So
        it is with what went back as a copy, which is acknowledged then: the original may be there as well."""
        self.told: list[str] = []
        """What has happened, for the reader of a failure."""

    def run(self, steps: int) -> None:
        """Begin, go so many steps, look whether everything is there."""
        try:
            self.begin()
            for _ in range(steps):
                possible = [rule for rule, is_possible in self.rules() if is_possible]
                rule = self.luck.choice(possible)
                self.told.append(rule.__name__)
                rule()
            self.everything_is_there()
        except AssertionError as exc:
            raise AssertionError(f"{exc}; what had happened: {', '.join(self.told)}") from exc
        finally:
            for worker in self.workers:
                self.wait_for(worker.consumer.close())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def rules(self) -> list[tuple[Callable[[], None], bool]]:
        """What may happen, each with whether it can."""
        return [
            (self.open_one, len(self.living) < 4),
            (self.publish, True),
            (self.publish, True),
            *[(self.claim, bool(self.living))] * 4,
            *[(self.settle, bool(self.holding))] * 4,
            (self.settle_stale, any(worker.stale for worker in self.workers)),
            (self.close, bool(self.holding)),
            (self.cut, bool(self.holding)),
            (self.handle_dead, bool(self.dead)),
        ]

    def wait_for(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def everything_is_there(self) -> None:
        """Give all back, and take it again."""
        for worker in list(self.living):
            self.give_up(worker)
        assert {each.id: each.deliveries for each in self.broker.dead_letters(limit=1000)} == {
            task_id: task.deliveries for task_id, task in self.dead.items()
        }
        drain = self.open_for(QUEUES)
        waits = 0
        while self.live:
            ghosts = self.ghosts.total()
            got = self.claim_for(drain, 100, wait_s=ON_ITS_WAY_S)
            waits = 0 if got or self.ghosts.total() < ghosts else waits + 1
            assert not waits or (ghosts and waits < 5), f"{sorted(self.live)} are lost"
            # one that came back often is handed out alone: nothing else comes before it is settled
            answers = self.wait_for(drain.consumer.settle([Done(delivery=each) for each in got]))
            assert list(answers) == [Settled.OK] * len(got), answers
            for each in got:
                del self.live[each.id]
        assert not self.claim_for(drain, 100, wait_s=0.3), "more came than was put in"

    # -- what is drawn ----------------------------------------------------------------------------------------

    def fresh(self, queue: str, *, priority: int = 0, delay_s: float = 0.0, task_id: str = "") -> Outgoing:
        self.count += 1
        return Outgoing(
            id=task_id or f"task-{self.count}", task="model", queue=queue, headers=b"{}", body=b"%d" % self.count,
            priority=priority, not_before=SYSTEM_CLOCK.time() + delay_s if delay_s else None,
        )  # fmt: skip

    @property
    def living(self) -> list[Worker]:
        return [worker for worker in self.workers if not worker.is_lost]

    @property
    def holding(self) -> list[Worker]:
        return [worker for worker in self.living if worker.held]

    # -- rules --------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self.open_for(("a", "b"))
        self.open_for(("b", "a"))
        self.publish()
        for worker in self.workers:
            self.claim_for(worker, 2, wait_s=0.1)

    def open_one(self) -> None:
        self.open_for(self.luck.choice([("a",), ("b",), ("a", "b")]))

    def open_for(self, queues: tuple[str, ...]) -> Worker:
        consumer = self.wait_for(self.broker.open_consumer(queues, incarnation=new_incarnation(), lease_s=30.0))
        self.workers.append(Worker(consumer, queues))
        return self.workers[-1]

    def publish(self) -> None:
        messages = [
            self.fresh(
                self.luck.choice(QUEUES),
                priority=self.luck.choice([0, 0, 5, 9]),
                delay_s=self.luck.choice([0.0, 0.0, 0.0, 0.05]),
            )
            for _ in range(self.luck.randint(1, 6))
        ]
        self.broker.publish(messages)
        self.live |= {message.id: Task(message) for message in messages}

    def claim(self) -> None:
        worker = self.luck.choice(self.living)
        self.claim_for(worker, self.luck.randint(1, 6), wait_s=self.luck.choice([0.0, 0.0, 0.05]))

    def claim_for(self, worker: Worker, limit: int, *, wait_s: float) -> list[Delivery]:
        got: list[Delivery] = list(self.wait_for(worker.consumer.claim(limit=limit, wait_s=wait_s)))
        now = SYSTEM_CLOCK.time()
        assert len({each.tag for each in got}) == len(got) <= limit
        ours: list[Delivery] = []
        for delivery in got:
            task = self.live.get(delivery.id)
            if self.is_ghost(delivery, task):
                assert delivery.was_out, f"{delivery.id} comes again, and does not say so"
                self.ghosts[delivery.body] -= 1
                self.acknowledged[delivery.body] += 1
                assert list(self.wait_for(worker.consumer.settle([Done(delivery=delivery)]))) == [Settled.OK]
                continue
            assert task is not None, f"{delivery} was handed out, which has ended"
            assert task.holder is None, f"{delivery.id} was handed out while another holds it"
            message = task.message
            assert (delivery.queue, delivery.priority, delivery.body) == (
                message.queue,
                message.priority,
                message.body,
            )
            assert delivery.queue in worker.queues
            assert message.not_before is None or message.not_before <= now, f"{delivery.id} came early"
            assert delivery.deliveries == task.deliveries + 1, f"the count of {delivery.id} is wrong"
            assert delivery.was_out or delivery.deliveries > 1 or not task.was_out, f"{delivery.id} has been out"
            task.holder = worker
            worker.held[delivery.id] = delivery
            ours.append(delivery)
        return ours

    def is_ghost(self, delivery: Delivery, task: Task | None) -> bool:
        """Whether it has ended, or is held, and the server did not hear of it."""
        if self.ghosts[delivery.body] <= 0:
            return False
        if task is None or task.holder is not None or task.message.body != delivery.body:
            return True
        return task.deliveries + 1 != delivery.deliveries

    def settle(self) -> None:
        worker = self.luck.choice(self.holding)
        outcomes, expected = [], []
        for kind in self.luck.choices(OUTCOMES, k=self.luck.randint(1, 4)):
            if worker.stale and self.luck.random() < 0.25:
                outcomes.append(self.outcome(kind, self.luck.choice(worker.stale)))
                expected.append(Settled.LEASE_LOST)
            elif worker.held:
                delivery = worker.held.pop(self.luck.choice(sorted(worker.held)))
                worker.stale.append(delivery)
                outcomes.append(self.outcome(kind, delivery))
                expected.append(Settled.OK)
                self.told.append(f"{type(outcomes[-1]).__name__} {delivery.id}")
        answers = list(self.wait_for(worker.consumer.settle(outcomes)))
        assert answers == expected
        for outcome, answer in zip(outcomes, answers, strict=True):
            if answer is Settled.OK:
                self.apply(outcome)

    def outcome(self, kind: str, delivery: Delivery) -> Outcome:
        if kind in ("done", "done with successor"):
            following = (self.fresh(QUEUES[self.count % 2]),) if kind != "done" else ()
            return Done(delivery=delivery, successors=following)
        if kind in ("release", "spent"):
            return Release(delivery=delivery, spent=kind == "spent")
        if kind == "bury":
            return Bury(delivery=delivery, reason="model")
        delay_s = 0.05 if kind == "later delayed" else 0.0
        again = self.fresh(delivery.queue, priority=delivery.priority, task_id=delivery.id, delay_s=delay_s)
        return Later(delivery=delivery, message=again)

    def apply(self, outcome: Outcome) -> None:
        task_id = outcome.delivery.id
        task = self.live[task_id]
        task.holder = None
        if not isinstance(outcome, Release) or outcome.spent:
            self.acknowledged[task.message.body] += 1
        if isinstance(outcome, Release):
            task.deliveries += outcome.spent
            return
        del self.live[task_id]
        if isinstance(outcome, Later):
            self.live[task_id] = Task(outcome.message)
            return
        if isinstance(outcome, Bury):
            task.deliveries += 1
            self.dead[task_id] = task
        self.live |= {message.id: Task(message) for message in outcome.successors}

    def settle_stale(self) -> None:
        worker = self.luck.choice([each for each in self.workers if each.stale])
        outcome = self.outcome(self.luck.choice(OUTCOMES), self.luck.choice(worker.stale))
        assert list(self.wait_for(worker.consumer.settle([outcome]))) == [Settled.LEASE_LOST]

    def close(self) -> None:
        self.give_up(self.luck.choice(self.holding))

    def give_up(self, worker: Worker) -> None:
        self.wait_for(worker.consumer.close())
        self.lose(worker, was_out=False)

    def lose(self, worker: Worker, *, was_out: bool) -> None:
        worker.is_lost = True
        for task_id, delivery in worker.held.items():
            task = self.live[task_id]
            task.holder = None
            task.was_out |= was_out
            worker.stale.append(delivery)
        worker.held.clear()

    def cut(self) -> None:
        """The server closes every connection; all that was held is up for others again, and knows of it."""
        self.cut_all()
        for worker in list(self.living):
            try:
                while True:
                    self.wait_for(worker.consumer.beat())
                    self.wait_for(asyncio.sleep(0.005))
            except LeaseLostError:
                self.lose(worker, was_out=True)
        moving = self.probe.events("moving")
        self.acknowledged.update(parcel.body for parcel in moving[self.moves :])
        self.moves = len(moving)
        self.ghosts += self.acknowledged
        self.acknowledged.clear()

    def handle_dead(self) -> None:
        task_id = self.luck.choice(sorted(self.dead))
        (letter,) = self.broker.dead_letters(ids=[task_id])
        task = self.dead.pop(task_id)
        assert (letter.queue, letter.body, letter.deliveries) == (
            task.message.queue,
            task.message.body,
            task.deliveries,
        )
        if self.luck.random() < 0.5:
            assert self.broker.drop_dead([task_id]) == 1
            return
        assert self.broker.revive([task_id]) == 1
        self.live[task_id] = Task(task.message)
