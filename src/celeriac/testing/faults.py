"""A broker that fails on purpose: before a call took effect, or after it did and only the answer was lost.

The second kind is the one that finds bugs: what was committed must survive being done again.
"""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import msgspec

from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import BrokerUnavailableError, EnqueueUnknownError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.interfaces import Broker, BrokerTraits, Consumer, ScheduleStore
    from celeriac.model import (
        BeatInfo,
        Cancellation,
        Cancelled,
        DeadLetter,
        Delivery,
        Incarnation,
        Mark,
        Outcome,
        Outgoing,
        Peeked,
        QueueDepth,
        ScheduleNews,
        ScheduleRow,
        Settled,
        TaskId,
        Tick,
        Ticked,
    )

ResultT = TypeVar("ResultT")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to one call."""

    when: Literal["before", "after", "never"] = "before"
    """`before`: it fails and nothing took effect. `after`: it took effect and its answer is lost. `never`: it works."""
    error: BaseException | None = None
    """What is raised; None: BrokerUnavailableError, or EnqueueUnknownError for a publish that took effect."""
    delay_s: float = 0.0
    """How long the call hangs first, on the faulty broker's clock."""


class Plan(Protocol):
    """Decides what happens to each call. Called from many threads."""

    def next(self, method: str, /) -> Fault | None:
        """The fault of this call of `method`, or None.

        A `Broker`'s is called by its name, a `Consumer`'s `consumer.<name>`, a `ScheduleStore`'s `schedules.<name>`.
        """


class Script:
    """An explicit plan: the next calls of a method meet these faults in turn, later ones none.

    ::

        Script({"publish": [Fault(when="after")], "consumer.settle": [None, Fault()]})

    Args:
        faults: For each method its faults in order; None lets a call pass.
    """

    def __init__(self, faults: Mapping[str, Iterable[Fault | None]]) -> None:
        self._lock = threading.Lock()
        self._faults = {method: list(planned) for method, planned in faults.items()}

    def next(self, method: str, /) -> Fault | None:
        with self._lock:
            planned = self._faults.get(method)
            return planned.pop(0) if planned else None

    @property
    def is_spent(self) -> bool:
        """Whether every fault was met; a test that ends with some left has not tested them."""
        with self._lock:
            return not any(self._faults.values())


class SeededPlan:
    """A random plan that is the same for the same seed and the same order of calls.

    Args:
        seed: Any integer.
        rate: The share of calls that fail, 0 to 1; half of them before and half after they took effect.
        methods: Only these fail; None: all that change or read the broker.
        max_delay_s: Calls that fail hang up to this long first.
    """

    def __init__(
        self, seed: int, *, rate: float, methods: Collection[str] | None = None, max_delay_s: float = 0.0
    ) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)  # noqa: S311  # the seed is the point; it protects nothing
        self._rate = rate
        self._methods = methods
        self._max_delay_s = max_delay_s

    def next(self, method: str, /) -> Fault | None:
        if self._methods is not None and method not in self._methods:
            return None
        with self._lock:
            if self._random.random() >= self._rate:
                return None
            when: Literal["before", "after"] = "before" if self._random.random() < 0.5 else "after"
            return Fault(when=when, delay_s=self._random.uniform(0.0, self._max_delay_s))


class _Gate:
    """Sends calls through the plan."""

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self._plan = plan
        self._clock = clock

    def call(self, method: str, function: Callable[[], ResultT], messages: Sequence[Outgoing] = ()) -> ResultT:
        fault = self._plan.next(method)
        if fault is None:
            return function()
        if fault.delay_s:
            self._clock.pause(fault.delay_s)
        if fault.when == "before":
            raise _error_of(fault, method, messages)
        result = function()
        if fault.when == "after":
            raise _error_of(fault, method, messages)
        return result

    async def acall(
        self, method: str, function: Callable[[], Awaitable[ResultT]], messages: Sequence[Outgoing] = ()
    ) -> ResultT:
        fault = self._plan.next(method)
        if fault is None:
            return await function()
        if fault.delay_s:
            await self._clock.sleep(fault.delay_s)
        if fault.when == "before":
            raise _error_of(fault, method, messages)
        result = await function()
        if fault.when == "after":
            raise _error_of(fault, method, messages)
        return result


def _error_of(fault: Fault, method: str, messages: Sequence[Outgoing]) -> BaseException:
    if fault.error is not None:
        return fault.error
    if fault.when == "before":
        return BrokerUnavailableError(f"planned fault: {method} failed before it took effect")
    text = f"planned fault: {method} took effect, and its answer was lost"
    if messages:
        return EnqueueUnknownError(text, task_ids=tuple(message.id for message in messages))
    return BrokerUnavailableError(text)


class FaultyBroker:
    """Wraps a broker; its calls, and those of the consumers and schedules it opens, fail as the plan says.

    `traits`, `url`, `schedules`, `close` and a consumer's `interrupt` and stamps never fail. A consumer whose `close`
    fails before it took effect stays open, as if its process had been cut off: reaping it is the test's affair.

    Args:
        broker: The broker that does the work.
        plan: Which call fails, and how.
        clock: What delayed calls sleep on.
    """

    def __init__(self, broker: Broker, plan: Plan, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._broker = broker
        self._gate = _Gate(plan, clock)

    @property
    def traits(self) -> BrokerTraits:
        return self._broker.traits

    @property
    def url(self) -> str:
        return self._broker.url

    def publish(self, messages: Sequence[Outgoing], /) -> Mapping[TaskId, TaskId]:
        return self._gate.call("publish", lambda: self._broker.publish(messages), messages)

    async def apublish(self, messages: Sequence[Outgoing], /) -> Mapping[TaskId, TaskId]:
        return await self._gate.acall("apublish", lambda: self._broker.apublish(messages), messages)

    async def open_consumer(
        self, queues: Sequence[str], /, *, incarnation: Incarnation, lease_s: float, name: str = ""
    ) -> FaultyConsumer:
        consumer = await self._gate.acall(
            "open_consumer",
            lambda: self._broker.open_consumer(queues, incarnation=incarnation, lease_s=lease_s, name=name),
        )
        return FaultyConsumer(consumer, self._gate)

    async def beat(self, incarnations: Collection[Incarnation], /) -> frozenset[Incarnation]:
        return await self._gate.acall("beat", lambda: self._broker.beat(incarnations))

    async def abandon(self, incarnation: Incarnation, /, *, running: Collection[TaskId]) -> int:
        return await self._gate.acall("abandon", lambda: self._broker.abandon(incarnation, running=running))

    async def reap(self, /, *, limit: int) -> int:
        return await self._gate.acall("reap", lambda: self._broker.reap(limit=limit))

    def depth(self, queues: Sequence[str] | None = None, /) -> Mapping[str, QueueDepth]:
        return self._gate.call("depth", lambda: self._broker.depth(queues))

    def peek(
        self, queue: str | None = None, /, *, state: str | None = None, ids: Collection[TaskId] = (), limit: int = 100
    ) -> Sequence[Peeked]:
        return self._gate.call("peek", lambda: self._broker.peek(queue, state=state, ids=ids, limit=limit))

    def purge(self, queues: Sequence[str], /) -> int:
        return self._gate.call("purge", lambda: self._broker.purge(queues))

    def cancel(self, cancellations: Sequence[Cancellation], /) -> Sequence[Cancelled]:
        return self._gate.call("cancel", lambda: self._broker.cancel(cancellations))

    def dead_letters(
        self, queue: str | None = None, /, *, ids: Collection[TaskId] = (), limit: int = 100
    ) -> Sequence[DeadLetter]:
        return self._gate.call("dead_letters", lambda: self._broker.dead_letters(queue, ids=ids, limit=limit))

    def revive(self, ids: Sequence[TaskId], /) -> int:
        return self._gate.call("revive", lambda: self._broker.revive(ids))

    def drop_dead(self, ids: Sequence[TaskId], /) -> int:
        return self._gate.call("drop_dead", lambda: self._broker.drop_dead(ids))

    def schedules(self, scope: str, /) -> FaultySchedules:
        return FaultySchedules(self._broker.schedules(scope), self._gate)

    def close(self) -> None:
        self._broker.close()


class FaultyConsumer:
    """A consumer of a `FaultyBroker`."""

    def __init__(self, consumer: Consumer, gate: _Gate) -> None:
        self._consumer = consumer
        self._gate = gate

    @property
    def incarnation(self) -> Incarnation:
        return self._consumer.incarnation

    @property
    def cancel_stamp(self) -> int:
        return self._consumer.cancel_stamp

    async def claim(self, /, *, limit: int, wait_s: float) -> Sequence[Delivery]:
        return await self._gate.acall("consumer.claim", lambda: self._consumer.claim(limit=limit, wait_s=wait_s))

    async def settle(self, outcomes: Sequence[Outcome], /) -> Sequence[Settled]:
        return await self._gate.acall("consumer.settle", lambda: self._consumer.settle(outcomes))

    async def adopt(self, incarnation: Incarnation, ids: Collection[TaskId], /) -> Sequence[Delivery]:
        return await self._gate.acall("consumer.adopt", lambda: self._consumer.adopt(incarnation, ids))

    async def cancelled(self, ids: Collection[TaskId], /) -> Sequence[Cancellation]:
        return await self._gate.acall("consumer.cancelled", lambda: self._consumer.cancelled(ids))

    def interrupt(self) -> None:
        self._consumer.interrupt()

    async def beat(self) -> None:
        await self._gate.acall("consumer.beat", self._consumer.beat)

    async def close(self) -> None:
        await self._gate.acall("consumer.close", self._consumer.close)


class FaultySchedules:
    """The schedules of a `FaultyBroker`."""

    def __init__(self, schedules: ScheduleStore, gate: _Gate) -> None:
        self._schedules = schedules
        self._gate = gate

    @property
    def url(self) -> str:
        return self._schedules.url

    def look(self, revision: int = 0, /) -> ScheduleNews:
        return self._gate.call("schedules.look", lambda: self._schedules.look(revision))

    def marks(self, entries: Sequence[tuple[str, str]], /) -> Sequence[Mark | None]:
        return self._gate.call("schedules.marks", lambda: self._schedules.marks(entries))

    def tick(self, ticks: Sequence[Tick], /) -> Sequence[Ticked]:
        return self._gate.call("schedules.tick", lambda: self._schedules.tick(ticks))

    def put(self, row: ScheduleRow, /, *, expected: int) -> ScheduleRow:
        return self._gate.call("schedules.put", lambda: self._schedules.put(row, expected=expected))

    def forget(self, names: Sequence[tuple[str, str]], /) -> int:
        return self._gate.call("schedules.forget", lambda: self._schedules.forget(names))

    def hail(self, beat: BeatInfo, /, *, ttl_s: float) -> None:
        self._gate.call("schedules.hail", lambda: self._schedules.hail(beat, ttl_s=ttl_s))

    def beats(self) -> Sequence[BeatInfo]:
        return self._gate.call("schedules.beats", self._schedules.beats)

    def close(self) -> None:
        self._schedules.close()
