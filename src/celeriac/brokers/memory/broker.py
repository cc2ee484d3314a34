"""The memory broker: a thin, locked door to the `Queues` of a space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celeriac.brokers.memory.consumer import MemoryConsumer
from celeriac.brokers.memory.queues import PRIORITIES, Holder, Queues
from celeriac.brokers.memory.schedules import MemorySchedules
from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import EnqueueRejectedError
from celeriac.interfaces import BrokerTraits
from celeriac.probe import Probe
from celeriac.storage.memory import open_space

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.model import (
        Cancellation,
        Cancelled,
        DeadLetter,
        Incarnation,
        Outgoing,
        Peeked,
        QueueDepth,
        TaskId,
    )

_TRAITS = BrokerTraits(
    name="memory",
    native_delay=True,
    priorities=PRIORITIES,
    max_body=64 * 1024 * 1024,
    max_batch=1000,
    lease_kind="incarnation",
    ordering="fifo",
    time_precision_s=0.001,
    durable=False,
    cross_process=False,
    stores_results=True,
    cancel=True,
    notifications=True,
    limits=True,
    unique=True,
    schedules=True,
)


class MemoryBroker:
    """A broker whose queues live in this process; safe to use from any number of threads and event loops.

    Args:
        url: `memory://name` shares its queues with every adapter of the same URL in this process, for as long as one
            of them lives; a forked child gets a copy of its own.
        clock: Decides when delayed messages are due and when leases run out.
        probe: Is told `published`, `claimed`, `settled`, `gave back` with a count, `waiting` with the incarnation.

    Raises:
        ConfigError: The URL is no memory URL.
    """

    def __init__(self, url: str = "memory://", *, clock: Clock = SYSTEM_CLOCK, probe: Probe = Probe.INERT) -> None:
        self._url = url
        self._space = open_space(url)
        self._queues = self._space.part(Queues)
        self._clock = clock
        self._probe = probe

    @property
    def traits(self) -> BrokerTraits:
        return _TRAITS

    @property
    def url(self) -> str:
        return self._url

    def publish(self, messages: Sequence[Outgoing], /) -> Mapping[TaskId, TaskId]:
        _refuse_large(messages)
        dropped: dict[TaskId, TaskId] = {}
        with self._space.lock:
            added = self._queues.publish(messages, self._clock.time(), self._space.results, dropped)
        self._probe.signal("published", added)
        return dropped

    async def apublish(self, messages: Sequence[Outgoing], /) -> Mapping[TaskId, TaskId]:
        return self.publish(messages)

    async def open_consumer(
        self, queues: Sequence[str], /, *, incarnation: Incarnation, lease_s: float, name: str = ""
    ) -> MemoryConsumer:
        holder = Holder(incarnation, queues, lease_s, name)
        with self._space.lock:
            if incarnation in self._queues.holders:
                raise ValueError(f"incarnation {incarnation} consumes already; make a new one for each consumer")
            self._queues.holders[incarnation] = holder
            self._queues.renew(incarnation, self._clock.monotonic())
        return MemoryConsumer(self._space, holder, self._clock, self._probe)

    async def beat(self, incarnations: Collection[Incarnation], /) -> frozenset[Incarnation]:
        tick = self._clock.monotonic()
        with self._space.lock:
            return frozenset(each for each in incarnations if not self._queues.renew(each, tick))

    async def abandon(self, incarnation: Incarnation, /, *, running: Collection[TaskId]) -> int:
        with self._space.lock:
            holder = self._queues.holders.get(incarnation)
            returned = 0 if holder is None else self._queues.end(holder, running, self._clock.time())
        self._probe.signal("gave back", returned)
        return returned

    async def reap(self, /, *, limit: int) -> int:
        tick, now = self._clock.monotonic(), self._clock.time()
        with self._space.lock:
            returned = sum(self._queues.end(holder, None, now) for holder in self._queues.expired(limit, tick))
            self._queues.forget_idle(now)
        self._probe.signal("gave back", returned)
        return returned

    def depth(self, queues: Sequence[str] | None = None, /) -> Mapping[str, QueueDepth]:
        with self._space.lock:
            return self._queues.depth(queues, self._clock.time())

    def peek(
        self, queue: str | None = None, /, *, state: str | None = None, ids: Collection[TaskId] = (), limit: int = 100
    ) -> Sequence[Peeked]:
        with self._space.lock:
            return self._queues.peek(queue, state, ids, limit, self._clock.time())

    def purge(self, queues: Sequence[str], /) -> int:
        with self._space.lock:
            return self._queues.purge(queues, self._clock.time())

    def cancel(self, cancellations: Sequence[Cancellation], /) -> Sequence[Cancelled]:
        with self._space.lock:
            return self._queues.cancel(cancellations, self._clock.time(), self._space.results)

    def dead_letters(
        self, queue: str | None = None, /, *, ids: Collection[TaskId] = (), limit: int = 100
    ) -> Sequence[DeadLetter]:
        with self._space.lock:
            return self._queues.dead_letters(queue, ids, limit)

    def revive(self, ids: Sequence[TaskId], /) -> int:
        with self._space.lock:
            return self._queues.revive(ids, self._clock.time())

    def drop_dead(self, ids: Sequence[TaskId], /) -> int:
        with self._space.lock:
            return self._queues.drop_dead(ids)

    def schedules(self, scope: str, /) -> MemorySchedules:
        return MemorySchedules(
            self._url,
            self._space,
            self._queues,
            scope,
            self._clock,
            lambda count: self._probe.signal("published", count),
            _refuse_large,
        )

    def close(self) -> None:
        """Nothing is open; what is queued stays for as long as an adapter of this URL lives."""


def _refuse_large(messages: Sequence[Outgoing]) -> None:
    most = _TRAITS.max_body
    for message in messages:
        size = len(message.body) + len(message.headers)
        if size > most:
            raise EnqueueRejectedError(
                f"cannot publish {message.task!r} ({message.id}) to queue {message.queue!r}: headers and body have "
                f"{size} bytes, at most {most} are taken; none of the {len(messages)} messages of this call was stored",
                task_ids=tuple(each.id for each in messages),
            )
