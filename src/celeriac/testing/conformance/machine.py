"""A model test: long random histories against an adapter, with plain dicts beside it that say what must come out.

Invariants: nothing is lost and nothing invented; nothing is settled twice; a task is leased to one incarnation at a
time; a stale incarnation is refused, and neither its results nor its successors are ever seen; priorities and order
hold; nothing is handed out early; delivery counts are exact; of a key that is limited, no more are held than may be,
and no fewer are handed out; a join keeps each member once, publishes its release exactly once and only when all have
arrived, and stays closed; what is to be handed out is never dropped.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
import msgspec
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from celeriac.errors import LeaseLostError
from celeriac.model import (
    Admission,
    Arrival,
    Bury,
    Cancellation,
    Cancelled,
    Delivery,
    Done,
    Join,
    Later,
    Outgoing,
    Release,
    Settled,
    Workflow,
    new_incarnation,
)
from celeriac.model.states import is_final, may_follow
from celeriac.testing.clocks import ManualClock
from celeriac.testing.conformance.stage import release_of, result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractContextManager

    from celeriac.interfaces import Broker, Consumer, ResultStore
    from celeriac.model import Incarnation, Outcome, StoredResult

QUEUES = ("a", "b")
LEASE_S = 30.0
TICKS = (1.0, 7.0, 16.0, 31.0)
OUTCOMES = ("done", "done with result", "later", "later delayed", "release", "spent", "bury")
LIMITS = {"one": Admission(key="one", concurrency=1), "two": Admission(key="two", concurrency=2)}
JOINS = ("first", "second")
PLACES = (0, 1, None)
STATES = ("STARTED", "RETRY", "SUCCESS", "FAILURE")


@dataclass
class Task:
    """What the model knows of a live message."""

    message: Outgoing
    place: int | None
    """Its place among those of its queue and priority; None: it has been delayed, and its place is the adapter's."""
    deliveries: int = 0
    holder: Incarnation | None = None

    @property
    def key(self) -> str | None:
        return None if self.message.limit is None else self.message.limit.key


@dataclass
class Gathering:
    """What the model knows of a join. `size` is None while nobody has opened it."""

    size: int | None = None
    members: dict[tuple[int | None, str], bytes] = field(default_factory=dict)
    """Payloads by position and member, in order of arrival."""
    extensions: set[str] = field(default_factory=set)
    is_released: bool = False
    is_closed: bool = False

    @property
    def is_complete(self) -> bool:
        return self.size is not None and len(self.members) >= self.size

    def arrive(self, arrival: Arrival) -> None:
        """Keep it, unless something stands in its place."""
        if not self.is_closed:
            self.members.setdefault((arrival.position, arrival.member), arrival.payload)

    def payloads(self) -> list[bytes] | None:
        """What the store must show."""
        if self.is_closed:
            return None
        placed = sorted(key for key in self.members if key[0] is not None)
        others = [key for key in self.members if key[0] is None]
        return [self.members[key] for key in [*placed, *others]]


@dataclass
class Worker:
    """A consumer and its deliveries. `stale` are those it no longer holds."""

    consumer: Consumer
    queues: tuple[str, ...]
    until: float
    is_lost: bool = False
    held: dict[str, Delivery] = field(default_factory=dict)
    stale: list[Delivery] = field(default_factory=list)


class BrokerMachine(RuleBasedStateMachine):
    """The machine; `check_broker_model` runs it."""

    open_store: Callable[[ManualClock], AbstractContextManager[tuple[Broker, ResultStore | None]]]

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.loop = asyncio.new_event_loop()
        self.exits = ExitStack()
        self.broker, self.results = self.exits.enter_context(type(self).open_store(self.clock))
        self.live: dict[str, Task] = {}
        self.dead: dict[str, Task] = {}
        self.stored: dict[str, StoredResult] = {}
        self.marked: set[str] = set()
        self.handed_out: set[str] = set()
        """Ordered to be handed out rather than dropped."""
        self.joins: dict[str, Gathering] = {}
        self.workers: list[Worker] = []
        self.count = 0

    def teardown(self) -> None:
        try:
            for worker in self.workers:
                self.run(worker.consumer.close())
            self.exits.close()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def run_living(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return self.run(work)
        except LeaseLostError as exc:
            raise AssertionError("a living incarnation was told that its lease is lost") from exc

    # -- what is drawn ----------------------------------------------------------------------------------------

    def fresh(
        self, queue: str, *, priority: int = 0, delay_s: float = 0.0, task_id: str = "", key: str | None = None
    ) -> Outgoing:
        self.count += 1
        return Outgoing(
            id=task_id or f"task-{self.count}",
            task="model",
            queue=queue,
            headers=b"{}",
            body=b"%d" % self.count,
            priority=min(priority, self.broker.traits.priorities - 1),
            not_before=self.clock.time() + delay_s if delay_s and self.broker.traits.native_delay else None,
            limit=LIMITS[key] if key is not None and self.broker.traits.limits else None,
        )

    def next_place(self) -> int:
        self.count += 1
        return self.count

    def is_due(self, task: Task) -> bool:
        return task.message.not_before is None or task.message.not_before <= self.clock.time()

    def is_taken(self, task_id: str) -> bool:
        """Whether `publish` drops this id."""
        result = self.stored.get(task_id)
        return task_id in self.live or task_id in self.dead or (result is not None and is_final(result.state))

    def add(self, message: Outgoing, *, is_placed: bool = True) -> None:
        if not self.is_taken(message.id):
            if message.id in self.handed_out:
                message = msgspec.structs.replace(message, not_before=None)
            is_placed = is_placed and message.not_before is None
            self.live[message.id] = Task(message, self.next_place() if is_placed else None)

    def write(self, result: StoredResult | None) -> None:
        if result is not None and self.results is not None:
            old = self.stored.get(result.id)
            if may_follow(old.state if old else None, result.state):
                self.stored[result.id] = result

    def pick(self, data: st.DataObject, workers: list[Worker]) -> Worker:
        return workers[data.draw(st.integers(0, len(workers) - 1))]

    @property
    def living(self) -> list[Worker]:
        return [worker for worker in self.workers if not worker.is_lost]

    @property
    def holding(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.held]

    # -- rules --------------------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        """A fleet at work: two consumers, each with something in hand, something left for both, and one dead letter."""
        self.open_consumer(("a", "b"))
        self.open_consumer(("b", "a"))
        self.publish([(queue, priority, 0.0, None) for queue in QUEUES for priority in (0, 0, 0, 5)])
        for worker in self.workers:
            self.claim_for(worker, 2)
        if self.results is not None:
            for size, name in enumerate(JOINS, 2):
                if size % 2:
                    self.open_a_join(name, size, again=False)
        worker = self.workers[0]
        _, delivery = worker.held.popitem()
        worker.stale.append(delivery)
        burial = Bury(delivery=delivery, reason="model")
        assert list(self.run(worker.consumer.settle([burial]))) == [Settled.OK]
        self.apply(burial)

    @precondition(lambda self: len(self.living) < 4)
    @rule(queues=st.sampled_from([("a",), ("b",), ("a", "b"), ("b", "a")]))
    def open_consumer(self, queues: tuple[str, ...]) -> None:
        consumer = self.run(self.broker.open_consumer(queues, incarnation=new_incarnation(), lease_s=LEASE_S))
        self.workers.append(Worker(consumer, queues, self.clock.monotonic() + LEASE_S))

    @rule(
        drawn=st.lists(
            st.tuples(
                st.sampled_from(QUEUES),
                st.sampled_from([0, 0, 5, 9]),
                st.sampled_from([0.0, 0.0, 0.0, 10.0]),
                st.sampled_from([None, None, *LIMITS]),
            ),
            min_size=1,
            max_size=6,
        )
    )
    def publish(self, drawn: list[tuple[str, int, float, str | None]]) -> None:
        messages = [
            self.fresh(queue, priority=priority, delay_s=delay_s, key=key) for queue, priority, delay_s, key in drawn
        ]
        self.broker.publish(messages)
        for message in messages:
            self.add(message)

    @precondition(lambda self: self.count > 0)
    @rule(data=st.data())
    def publish_again(self, data: st.DataObject) -> None:
        """After an unknown outcome, say: the id may be live, held, dead, finished, or gone without a result."""
        kinds = [
            known
            for group in (self.live, self.dead, self.stored)
            if (known := sorted(task_id for task_id in group if task_id not in self.marked))
        ]
        if kinds:
            task_id = data.draw(st.sampled_from(data.draw(st.sampled_from(kinds))))
            message = self.fresh(data.draw(st.sampled_from(QUEUES)), task_id=task_id)
            self.broker.publish([message, message])
            self.add(message)

    @precondition(lambda self: bool(self.living))
    @rule(data=st.data(), limit=st.integers(1, 6))
    def claim(self, data: st.DataObject, limit: int) -> None:
        self.claim_for(self.pick(data, self.living), limit)

    def claim_for(self, worker: Worker, limit: int) -> None:
        if self.broker.traits.claims_reap:
            for other in self.living:
                if other is not worker and other.until <= self.clock.monotonic():
                    self.lose(other, running=None)
        asked_at = worker.consumer.cancel_stamp
        got: list[Delivery] = list(self.run_living(worker.consumer.claim(limit=limit, wait_s=0)))
        if any(each.id in self.handed_out for each in got):
            assert worker.consumer.cancel_stamp != asked_at, (
                "something marked was handed out, and the stamp is as before"
            )
        due = {
            task_id: task
            for task_id, task in self.live.items()
            if task.holder is None and task.message.queue in worker.queues and self.is_due(task)
        }
        assert len({each.id for each in got}) == len(got), "a message came twice in one batch"
        for delivery in got:
            task = self.live.get(delivery.id)
            assert task is not None, f"{delivery.id} was handed out, which is not live"
            assert task.holder is None, f"{delivery.id} was handed out while {task.holder} holds it"
            assert delivery.id in due, f"{delivery.id} was handed out early or to a consumer of other queues"
            assert delivery.body == task.message.body
            assert (delivery.queue, delivery.priority) == (task.message.queue, task.message.priority)
            assert delivery.deliveries == task.deliveries + 1, f"{delivery.id}: the count of deliveries is wrong"
            assert delivery.limit_key == task.key
        able = sum(task.key is None for task in due.values()) + sum(
            min(self.room(key), sum(task.key == key for task in due.values())) for key in LIMITS
        )
        assert len(got) == min(limit, able), f"{len(got)} came; {able} may, and the limit is {limit}"
        self.check_order(got, due)
        for delivery in got:
            task = self.live[delivery.id]
            task.holder = worker.consumer.incarnation
            task.deliveries += 1
            worker.held[delivery.id] = delivery

    def room(self, key: str | None) -> int:
        """How many more of a key may be held."""
        if key is None:
            return len(self.live)
        most = LIMITS[key].concurrency or 0
        return most - sum(task.key == key and task.holder is not None for task in self.live.values())

    def check_order(self, got: list[Delivery], due: dict[str, Task]) -> None:
        taken = {each.id for each in got}
        spent = {key: sum(due[task_id].key == key for task_id in taken) for key in LIMITS}
        waiting = [task for task_id, task in due.items() if task_id not in taken]
        # what its limit holds back is passed over, but only when the better ones of its key were taken
        left = [task for task in waiting if task.key is None or self.room(task.key) > spent[task.key]]
        self.check_places(got, due, left)
        for key in LIMITS:
            mine = [each for each in got if due[each.id].key == key]
            self.check_places(mine, due, [task for task in waiting if task.key == key])

    def check_places(self, got: list[Delivery], due: dict[str, Task], left: list[Task]) -> None:
        levels = [due[each.id].message.priority for each in got]
        assert levels == sorted(levels, reverse=True), f"priorities came as {levels}"
        if levels and left:
            assert max(task.message.priority for task in left) <= levels[-1], "one of higher priority was left behind"
        if self.broker.traits.ordering != "fifo":
            return
        lanes: dict[tuple[str, int], list[int]] = {}
        for delivery in got:
            message, place = due[delivery.id].message, due[delivery.id].place
            if place is not None:
                lanes.setdefault((message.queue, message.priority), []).append(place)
        for lane, places in lanes.items():
            assert places == sorted(places), f"{lane} came in the order {places}"
            behind = [
                task.place
                for task in left
                if task.place is not None and (task.message.queue, task.message.priority) == lane
            ]
            assert not behind or min(behind) > places[-1], f"in {lane}, an earlier message was left behind"

    @precondition(lambda self: bool(self.holding))
    @rule(
        data=st.data(), kinds=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=4), state=st.sampled_from(STATES)
    )
    def settle(self, data: st.DataObject, kinds: list[str], state: str) -> None:
        worker = self.pick(data, self.holding)
        outcomes: list[Outcome] = []
        expected: list[Settled] = []
        changes: list[Outcome] = []
        for kind in kinds:
            stale = self.refusable(worker)
            if stale and data.draw(st.integers(0, 3)) == 0:
                outcomes.append(self.outcome(data, kind, data.draw(st.sampled_from(stale)), state))
                expected.append(Settled.LEASE_LOST)
            elif worker.held:
                delivery = worker.held.pop(data.draw(st.sampled_from(sorted(worker.held))))
                worker.stale.append(delivery)
                outcomes.append(self.outcome(data, kind, delivery, state))
                expected.append(Settled.OK)
                changes.append(outcomes[-1])
        answers = list(self.run(worker.consumer.settle(outcomes)))
        assert answers == expected, f"settling answered {answers}, not {expected}"
        for outcome in changes:
            self.apply(outcome)

    def refusable(self, worker: Worker) -> list[Delivery]:
        """Deliveries that this worker no longer holds in any way."""
        mine = worker.consumer.incarnation
        return [each for each in worker.stale if (task := self.live.get(each.id)) is None or task.holder != mine]

    def outcome(self, data: st.DataObject, kind: str, delivery: Delivery, state: str) -> Outcome:
        result = result_of(delivery.id, state, b"%d" % self.next_place())
        following: tuple[Outgoing, ...] = ()
        if data.draw(st.booleans()):
            queue, key = data.draw(st.sampled_from(QUEUES)), data.draw(st.sampled_from([None, *LIMITS]))
            following = (self.fresh(queue, key=key),)
        workflow = self.workflow(data) if kind in ("done", "done with result", "bury") else None
        if kind == "done":
            return Done(delivery=delivery, successors=following, workflow=workflow)
        if kind == "done with result":
            return Done(delivery=delivery, result=result, successors=following, workflow=workflow)
        if kind == "release" or kind == "spent":
            return Release(delivery=delivery, spent=kind == "spent")
        if kind == "bury":
            return Bury(delivery=delivery, reason="model", result=result, successors=following, workflow=workflow)
        again = self.fresh(delivery.queue, task_id=delivery.id, delay_s=10.0 if kind == "later delayed" else 0.0)
        return Later(delivery=delivery, message=again, result=result if data.draw(st.booleans()) else None)

    def workflow(self, data: st.DataObject) -> Workflow | None:
        """What an outcome changes in joins; where it opens one, it comes alone in its batch or as good as."""
        if self.results is None or not data.draw(st.booleans()):
            return None
        names = data.draw(st.lists(st.sampled_from(JOINS), min_size=1, max_size=2))
        joins = tuple(Join(id=name, size=data.draw(st.integers(1, 3))) for name in names if data.draw(st.booleans()))
        return Workflow(
            joins=joins[:1],
            arrivals=tuple(self.arrival(name, data.draw(st.sampled_from(PLACES))) for name in names),
        )

    def arrival(self, join: str, position: int | None) -> Arrival:
        number = self.next_place()
        return Arrival(
            join=join,
            member=f"member-{number % 3}" if position is None else f"member-at-{position}",
            position=position,
            payload=b"%d" % number,
            release=release_of(join, QUEUES[0]),
        )

    def gathering(self, join: str) -> Gathering:
        return self.joins.setdefault(join, Gathering())

    def open_join(self, join: Join) -> None:
        known = self.gathering(join.id)
        if known.size is None and not known.is_closed:
            known.size = join.size

    def carry_out(self, workflow: Workflow) -> None:
        for join in workflow.joins:
            self.open_join(join)
        for arrival in workflow.arrivals:
            known = self.gathering(arrival.join)
            known.arrive(arrival)
        for arrival in workflow.arrivals:
            known = self.gathering(arrival.join)
            if known.is_complete and not known.is_released and not known.is_closed:
                known.is_released = True
                self.add(arrival.release, is_placed=False)  # before or behind other outcomes' successors
        for name in workflow.closed:
            self.gathering(name).is_closed = True

    def apply(self, outcome: Outcome) -> None:
        task_id = outcome.delivery.id
        task = self.live[task_id]
        if isinstance(outcome, Release):
            self.give_back(task, counted=outcome.spent)
            return
        del self.live[task_id]
        if isinstance(outcome, Later):
            message = outcome.message
            if task_id in self.handed_out:
                message = msgspec.structs.replace(message, not_before=None)
            self.live[task_id] = Task(msgspec.structs.replace(message, limit=message.limit or task.message.limit), None)
        else:
            if isinstance(outcome, Bury):
                self.dead[task_id] = task
            for message in outcome.successors:
                self.add(message)
            if outcome.workflow is not None:
                self.carry_out(outcome.workflow)
        self.write(outcome.result)

    def give_back(self, task: Task, *, counted: bool) -> None:
        task.holder = None
        if not counted:
            task.deliveries -= 1

    @precondition(lambda self: any(self.refusable(worker) for worker in self.workers))
    @rule(data=st.data(), kind=st.sampled_from(OUTCOMES), state=st.sampled_from(STATES))
    def settle_stale(self, data: st.DataObject, kind: str, state: str) -> None:
        worker = self.pick(data, [each for each in self.workers if self.refusable(each)])
        # one that another incarnation holds by now tells more than one that is gone
        stale = sorted(self.refusable(worker), key=lambda each: each.id not in self.live)
        outcome = self.outcome(data, kind, stale[0], state)
        (answer,) = self.run(worker.consumer.settle([outcome]))
        assert answer is Settled.LEASE_LOST, f"a stale incarnation settled {stale[0].id}"

    @precondition(lambda self: bool(self.workers))
    @rule(data=st.data(), by_broker=st.booleans())
    def beat(self, data: st.DataObject, by_broker: bool) -> None:
        worker = self.pick(data, self.workers)
        mine = worker.consumer.incarnation
        if by_broker:
            lost = self.run(self.broker.beat([mine]))
            assert lost == (frozenset([mine]) if worker.is_lost else frozenset())
        else:
            try:
                self.run(worker.consumer.beat())
            except LeaseLostError:
                assert worker.is_lost, "a living incarnation was told that its lease is lost"
            else:
                assert not worker.is_lost, "a lost incarnation was told that its lease goes on"
        if not worker.is_lost:
            worker.until = self.clock.monotonic() + LEASE_S

    @rule(seconds=st.sampled_from(TICKS))
    def tick(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from((7.0, 16.0)))
    def tick_and_beat(self, seconds: float) -> None:
        """The ordinary life of a healthy fleet."""
        self.clock.advance(seconds)
        if self.living:
            lost = self.run(self.broker.beat([each.consumer.incarnation for each in self.living]))
            assert not lost
        for worker in self.living:
            worker.until = self.clock.monotonic() + LEASE_S

    @rule()
    def reap(self) -> None:
        overdue = [worker for worker in self.living if worker.until <= self.clock.monotonic()]
        expected = sum(len(worker.held) for worker in overdue)
        returned = self.run(self.broker.reap(limit=100))
        assert returned == expected, f"the reaper gave back {returned}; {expected} were held on leases run out"
        for worker in overdue:
            self.lose(worker, running=None)

    def lose(self, worker: Worker, *, running: list[str] | None) -> None:
        worker.is_lost = True
        for task_id, delivery in worker.held.items():
            self.give_back(self.live[task_id], counted=running is None or task_id in running)
            worker.stale.append(delivery)
        worker.held.clear()

    @precondition(lambda self: bool(self.holding))
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        worker = self.pick(data, self.holding)
        running = [task_id for task_id in sorted(worker.held) if data.draw(st.booleans())]
        returned = self.run(self.broker.abandon(worker.consumer.incarnation, running=running))
        assert returned == len(worker.held)
        self.lose(worker, running=running)

    @precondition(lambda self: bool(self.holding))
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        worker = self.pick(data, self.holding)
        self.run(worker.consumer.close())
        self.lose(worker, running=[])

    @precondition(lambda self: len(self.living) > 1 and bool(self.holding))
    @rule(data=st.data())
    def adopt(self, data: st.DataObject) -> None:
        worker = self.pick(data, self.holding)
        heir = self.pick(data, [each for each in self.living if each is not worker])
        wanted = [task_id for task_id in sorted(self.live) if data.draw(st.booleans())]
        adopted = self.run_living(heir.consumer.adopt(worker.consumer.incarnation, wanted))
        assert sorted(each.id for each in adopted) == [task_id for task_id in wanted if task_id in worker.held]
        for delivery in adopted:
            task = self.live[delivery.id]
            assert delivery.deliveries == task.deliveries
            assert delivery.body == task.message.body
            task.holder = heir.consumer.incarnation
            worker.stale.append(worker.held.pop(delivery.id))
            heir.held[delivery.id] = delivery

    @precondition(lambda self: self.results is not None and bool(self.holding))
    @rule(data=st.data(), name=st.sampled_from(JOINS), places=st.lists(st.sampled_from(PLACES), min_size=1, max_size=3))
    def settle_members(self, data: st.DataObject, name: str, places: list[int | None]) -> None:
        """As the members of a chord end: nothing but results and arrivals."""
        worker = self.pick(data, self.holding)
        outcomes = []
        for place in places:
            if worker.held:
                delivery = worker.held.pop(min(worker.held))
                worker.stale.append(delivery)
                workflow = Workflow(arrivals=(self.arrival(name, place),))
                outcomes.append(Done(delivery=delivery, result=result_of(delivery.id), workflow=workflow))
        assert set(self.run(worker.consumer.settle(outcomes))) == {Settled.OK}
        for outcome in outcomes:
            self.apply(outcome)

    @precondition(lambda self: self.results is not None)
    @rule(name=st.sampled_from(JOINS), size=st.integers(1, 4), again=st.booleans())
    def open_a_join(self, name: str, size: int, again: bool) -> None:
        assert self.results is not None
        known = self.gathering(name)
        if known.size is None and len(known.members) >= size:
            size += 3  # one that is complete when it is opened waits for the next arrival: not what this is about
        self.results.open_joins([Join(id=name, size=size)] * (1 + again))
        self.open_join(Join(id=name, size=size))

    @precondition(lambda self: self.results is not None)
    @rule(name=st.sampled_from(JOINS), place=st.sampled_from(PLACES))
    def arrive_at_the_store(self, name: str, place: int | None) -> None:
        """Where the settlement does not do it; whoever is told so publishes the release."""
        assert self.results is not None
        known = self.gathering(name)
        if known.is_released:
            return  # by a settlement; to be told again would be right, and to publish again wrong, once it has run
        arrival = self.arrival(name, place)
        known.arrive(arrival)
        expected = known.is_complete and not known.is_closed
        assert list(self.results.arrive([arrival])) == [expected]
        if expected:
            self.broker.publish([arrival.release])
            self.add(arrival.release)
            self.run(self.results.aclose_joins([name]))
            known.is_closed = True

    @precondition(lambda self: any(known.size is not None for known in self.joins.values()))
    @rule(data=st.data(), member=st.sampled_from(["x", "y"]))
    def extend_a_join(self, data: st.DataObject, member: str) -> None:
        assert self.results is not None
        name = data.draw(st.sampled_from(sorted(key for key, known in self.joins.items() if known.size is not None)))
        known = self.joins[name]
        if known.is_complete:
            return  # too late: what becomes of it is the engine's affair
        self.results.extend_join(name, member)
        if member not in known.extensions and not known.is_closed:
            known.extensions.add(member)
            known.size = (known.size or 0) + 1

    @precondition(lambda self: bool(self.joins) and bool(self.holding))
    @rule(data=st.data(), by_store=st.booleans())
    def close_a_join(self, data: st.DataObject, by_store: bool) -> None:
        assert self.results is not None
        name = data.draw(st.sampled_from(sorted(self.joins)))
        if by_store:
            self.run(self.results.aclose_joins([name]))
            self.joins[name].is_closed = True
            return
        worker = self.pick(data, self.holding)
        delivery = worker.held.pop(data.draw(st.sampled_from(sorted(worker.held))))
        worker.stale.append(delivery)
        outcome = Done(delivery=delivery, workflow=Workflow(closed=(name,)))
        assert list(self.run(worker.consumer.settle([outcome]))) == [Settled.OK]
        self.apply(outcome)

    def droppable(self) -> list[str]:
        """What waits, and an order removes."""
        return sorted(key for key, task in self.live.items() if task.holder is None and key not in self.handed_out)

    @precondition(lambda self: self.broker.traits.cancel and bool(self.droppable()))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(self.droppable()))
        assert list(self.broker.cancel([Cancellation(id=task_id)])) == [Cancelled.REMOVED]
        del self.live[task_id]
        self.marked.add(task_id)

    @precondition(lambda self: self.broker.traits.cancel and bool(self.live))
    @rule(data=st.data(), later=st.booleans())
    def hand_out(self, data: st.DataObject, later: bool) -> None:
        """It is there afterwards as before, due now, and a later order to drop it changes nothing."""
        task_id = data.draw(st.sampled_from(sorted(self.live)))
        orders = [Cancellation(id=task_id, hand_out=True), *([Cancellation(id=task_id)] if later else [])]
        assert list(self.broker.cancel(orders)) == [Cancelled.MARKED] * len(orders)
        self.marked.add(task_id)
        self.handed_out.add(task_id)
        task = self.live[task_id]
        if task.holder is None and not self.is_due(task):
            task.message = msgspec.structs.replace(task.message, not_before=None)
            task.place = None

    @precondition(lambda self: self.broker.traits.cancel and bool(self.holding))
    @rule(data=st.data())
    def cancel_held(self, data: st.DataObject) -> None:
        """It stays the worker's; what is marked must then end with it, as an adapter may drop it when it comes back."""
        worker = self.pick(data, self.holding)
        task_id = data.draw(st.sampled_from(sorted(worker.held)))
        assert list(self.broker.cancel([Cancellation(id=task_id)])) == [Cancelled.MARKED]
        self.marked.add(task_id)
        assert [each.id for each in self.run(worker.consumer.cancelled([task_id]))] == [task_id]
        delivery = worker.held.pop(task_id)
        worker.stale.append(delivery)
        outcome = Done(delivery=delivery, result=result_of(task_id, "REVOKED"))
        assert list(self.run(worker.consumer.settle([outcome]))) == [Settled.OK]
        self.apply(outcome)

    @precondition(lambda self: bool(self.dead))
    @rule(data=st.data(), revive=st.booleans())
    def handle_dead(self, data: st.DataObject, revive: bool) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.dead)))
        (letter,) = self.broker.dead_letters(ids=[task_id])
        assert letter.deliveries == self.dead[task_id].deliveries
        self.broker.publish([self.fresh(letter.queue, task_id=task_id)])
        self.nothing_is_lost_or_invented()  # that one was dropped
        if not revive or task_id in self.handed_out:  # whether an order outlives this is the engine's affair
            assert self.broker.drop_dead([task_id]) == 1
            del self.dead[task_id]
            return
        assert self.broker.revive([task_id]) == 1
        (shown,) = self.broker.peek(ids=[task_id])
        task = self.dead.pop(task_id)
        message = Outgoing(
            id=task_id,
            task=letter.task,
            queue=letter.queue,
            headers=letter.headers,
            body=letter.body,
            priority=shown.priority,
            limit=task.message.limit,
        )
        self.live[task_id] = Task(message, None)

    # -- invariants ----------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_lost_or_invented(self) -> None:
        peeked = self.broker.peek(limit=10_000)
        shown = {each.id: each for each in peeked}
        assert len(peeked) == len(shown), "an id is there twice"
        assert set(shown) == {*self.live, *self.dead}, "what the broker holds is not what was put in and not ended"
        for task_id, task in self.live.items():
            its = shown[task_id]
            state = "held" if task.holder is not None else "ready" if self.is_due(task) else "delayed"
            assert its.state == state, f"{task_id} is {its.state}, not {state}"
            assert its.holder == task.holder, f"{task_id} is held by {its.holder}, not by {task.holder}"
            assert its.deliveries == task.deliveries, f"{task_id} counts {its.deliveries}, not {task.deliveries}"
            assert its.body == task.message.body
        assert all(shown[task_id].state == "dead" for task_id in self.dead)
        if self.broker.traits.ordering == "fifo":
            lanes: dict[tuple[str, int], list[int]] = {}
            for its in peeked:
                if its.state == "ready" and (place := self.live[its.id].place) is not None:
                    lanes.setdefault((its.queue, its.priority), []).append(place)
            for lane, places in lanes.items():
                assert places == sorted(places), f"in {lane}, the next to run stand in the order {places}"

    @invariant()
    def no_more_are_held_than_may_be(self) -> None:
        for key in LIMITS:
            assert self.room(key) >= 0, f"of {key!r}, more are held than its limit allows"

    @invariant()
    def results_are_those_of_holders(self) -> None:
        if self.results is not None:
            everything = {f"task-{number}" for number in range(1, self.count + 1)} | set(self.stored)
            assert self.results.get(everything) == self.stored, "a result is missing, or one was stored that may not be"

    @invariant()
    def joins_keep_what_arrived(self) -> None:
        if self.results is not None:
            for name, known in self.joins.items():
                shown = self.results.members(name)
                if known.size is not None or known.is_closed:
                    assert (None if shown is None else list(shown)) == known.payloads(), f"the members of {name!r}"


def check_broker_model(
    open_store: Callable[[ManualClock], AbstractContextManager[tuple[Broker, ResultStore | None]]],
    *,
    settings: settings | None = None,
    examples: int = 60,
    steps: int = 50,
) -> None:
    """Run random histories against an adapter.

    Args:
        open_store: Opens a broker, and a result store of the same URL if the engine stores results, on a fresh store
            that keeps the given clock's time.
        settings: Hypothesis settings in place of the default ones.
        examples: How many histories.
        steps: How long each is at most.

    Raises:
        AssertionError: The adapter does not do what the model says; Hypothesis prints the shortest history.
    """
    machine = type("BrokerMachine", (BrokerMachine,), {"open_store": staticmethod(open_store)})
    run_state_machine_as_test(
        machine,
        settings=settings or _default_settings(max_examples=examples, stateful_step_count=steps),
    )


def _default_settings(**chosen: Any) -> settings:
    return settings(deadline=None, suppress_health_check=list(HealthCheck), **chosen)
