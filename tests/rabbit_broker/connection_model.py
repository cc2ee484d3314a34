"""A model of a broker whose connections are the leases: random histories, with plain dicts beside them.

The model of `celeriac.testing.conformance` looks at every message after every step, and moves time by hand. Here nobody
knows what is held, a message on its way to a consumer is seen by nobody, and the server keeps the time. What is left
to ask: nothing is lost and nothing invented, nothing is handed out while somebody holds it, counts of deliveries are
exact, a stale consumer is refused, and at the end, everything is there that was put in and not ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import LeaseLostError
from celeriac.interfaces import Broker, Consumer
from celeriac.model import Bury, Delivery, Done, Later, Outcome, Outgoing, Release, Settled, new_incarnation

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


class ConnectionMachine(RuleBasedStateMachine):
    """The machine. Subclasses say how to open a broker on a fresh store, and how its server closes all connections."""

    open_store: Callable[[], AbstractContextManager[tuple[Broker, Callable[[], None]]]]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.exits = ExitStack()
        self.broker, self.cut_all = self.exits.enter_context(type(self).open_store())
        self.live: dict[str, Task] = {}
        self.dead: dict[str, Task] = {}
        self.workers: list[Worker] = []
        self.count = 0

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def teardown(self) -> None:
        try:
            self.everything_is_there()
        finally:
            for worker in self.workers:
                self.run(worker.consumer.close())
            self.exits.close()
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def everything_is_there(self) -> None:
        """Give all back, and take it again."""
        for worker in list(self.living):
            self.give_up(worker)
        assert {each.id: each.deliveries for each in self.broker.dead_letters(limit=1000)} == {
            task_id: task.deliveries for task_id, task in self.dead.items()
        }
        drain = self.open_for(QUEUES)
        while len(drain.held) < len(self.live):
            got = self.claim_for(drain, 100, wait_s=ON_ITS_WAY_S)
            missing = set(self.live) - set(drain.held)
            assert got, f"{sorted(missing)} are lost"
        assert not self.run(drain.consumer.claim(limit=100, wait_s=0.3)), "more came than was put in"

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

    @initialize()
    def begin(self) -> None:
        self.open_consumer(("a", "b"))
        self.open_consumer(("b", "a"))
        self.publish([(queue, priority, 0.0) for queue in QUEUES for priority in (0, 0, 5)])
        for worker in self.workers:
            self.claim_for(worker, 2, wait_s=ON_ITS_WAY_S)

    @precondition(lambda self: len(self.living) < 4)
    @rule(queues=st.sampled_from([("a",), ("b",), ("a", "b")]))
    def open_consumer(self, queues: tuple[str, ...]) -> None:
        self.open_for(queues)

    def open_for(self, queues: tuple[str, ...]) -> Worker:
        consumer = self.run(self.broker.open_consumer(queues, incarnation=new_incarnation(), lease_s=30.0))
        self.workers.append(Worker(consumer, queues))
        return self.workers[-1]

    @rule(
        drawn=st.lists(
            st.tuples(st.sampled_from(QUEUES), st.sampled_from([0, 0, 5, 9]), st.sampled_from([0.0, 0.0, 0.0, 0.05])),
            min_size=1,
            max_size=6,
        )
    )
    def publish(self, drawn: list[tuple[str, int, float]]) -> None:
        messages = [self.fresh(queue, priority=priority, delay_s=delay_s) for queue, priority, delay_s in drawn]
        self.broker.publish(messages)
        self.live |= {message.id: Task(message) for message in messages}

    @precondition(lambda self: bool(self.living))
    @rule(data=st.data(), limit=st.integers(1, 6), wait_s=st.sampled_from([0.0, 0.0, 0.05]))
    def claim(self, data: st.DataObject, limit: int, wait_s: float) -> None:
        self.claim_for(data.draw(st.sampled_from(self.living)), limit, wait_s=wait_s)

    def claim_for(self, worker: Worker, limit: int, *, wait_s: float) -> list[Delivery]:
        got: list[Delivery] = list(self.run(worker.consumer.claim(limit=limit, wait_s=wait_s)))
        now = SYSTEM_CLOCK.time()
        assert len({each.id for each in got}) == len(got) <= limit
        for delivery in got:
            task = self.live.get(delivery.id)
            assert task is not None, f"{delivery.id} was handed out, which has ended"
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
            assert delivery.was_out or not task.was_out, f"{delivery.id} has been out, and does not say so"
            task.holder = worker
            worker.held[delivery.id] = delivery
        return got

    @precondition(lambda self: bool(self.holding))
    @rule(data=st.data(), kinds=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=4))
    def settle(self, data: st.DataObject, kinds: list[str]) -> None:
        worker = data.draw(st.sampled_from(self.holding))
        outcomes, expected = [], []
        for kind in kinds:
            if worker.stale and data.draw(st.integers(0, 3)) == 0:
                outcomes.append(self.outcome(kind, data.draw(st.sampled_from(worker.stale))))
                expected.append(Settled.LEASE_LOST)
            elif worker.held:
                delivery = worker.held.pop(data.draw(st.sampled_from(sorted(worker.held))))
                worker.stale.append(delivery)
                outcomes.append(self.outcome(kind, delivery))
                expected.append(Settled.OK)
        answers = list(self.run(worker.consumer.settle(outcomes)))
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

    @precondition(lambda self: any(worker.stale for worker in self.workers))
    @rule(data=st.data(), kind=st.sampled_from(OUTCOMES))
    def settle_stale(self, data: st.DataObject, kind: str) -> None:
        worker = data.draw(st.sampled_from([each for each in self.workers if each.stale]))
        outcome = self.outcome(kind, data.draw(st.sampled_from(worker.stale)))
        assert list(self.run(worker.consumer.settle([outcome]))) == [Settled.LEASE_LOST]

    @precondition(lambda self: bool(self.holding))
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        self.give_up(data.draw(st.sampled_from(self.holding)))

    def give_up(self, worker: Worker) -> None:
        self.run(worker.consumer.close())
        self.lose(worker, was_out=False)

    def lose(self, worker: Worker, *, was_out: bool) -> None:
        worker.is_lost = True
        for task_id, delivery in worker.held.items():
            task = self.live[task_id]
            task.holder = None
            task.was_out |= was_out
            worker.stale.append(delivery)
        worker.held.clear()

    @precondition(lambda self: bool(self.holding))
    @rule()
    def cut(self) -> None:
        """The server closes every connection; all that was held is up for others again, and knows of it."""
        self.cut_all()
        for worker in list(self.living):
            try:
                while True:
                    self.run(worker.consumer.beat())
                    self.run(asyncio.sleep(0.005))
            except LeaseLostError:
                self.lose(worker, was_out=True)

    @precondition(lambda self: bool(self.dead))
    @rule(data=st.data(), revive=st.booleans())
    def handle_dead(self, data: st.DataObject, revive: bool) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.dead)))
        (letter,) = self.broker.dead_letters(ids=[task_id])
        task = self.dead.pop(task_id)
        assert (letter.queue, letter.body, letter.deliveries) == (
            task.message.queue,
            task.message.body,
            task.deliveries,
        )
        if not revive:
            assert self.broker.drop_dead([task_id]) == 1
            return
        assert self.broker.revive([task_id]) == 1
        self.live[task_id] = Task(task.message)
