"""Broker, schedules and result store as processes of a world see them: those in memory, at the end of a network.

`Planted` has bugs of brokers that a checker has to find.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.brokers.memory import MemoryBroker
from celeriac.errors import BrokerUnavailableError
from celeriac.model import new_task_id
from chaos.simulator.loop import PROCESS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from celeriac.brokers.memory.consumer import MemoryConsumer
    from celeriac.interfaces import BrokerTraits
    from celeriac.model import Delivery, Incarnation, Outcome, Outgoing, Settled, TaskId, Tick, Ticked
    from celeriac.results.memory import MemoryResultStore
    from chaos.simulator.world import World


_TRAITS = MemoryBroker("memory://traits").traits


class ModelBroker:
    """One for all processes; whose call it is, the context says. `world` is the one of the moment."""

    world: World

    @property
    def _inner(self) -> MemoryBroker:
        return self.world.broker

    @property
    def traits(self) -> BrokerTraits:
        return _TRAITS

    @property
    def url(self) -> str:
        return "memory://model"

    def publish(self, messages: Sequence[Outgoing], /) -> Mapping[TaskId, TaskId]:
        if self.world.bug == "retry-without-id":
            messages = self.world.rename_known(messages)
        return self.world.network.call("publish", lambda: self._inner.publish(messages), messages)

    async def apublish(self, messages: Sequence[Outgoing], /) -> Mapping[TaskId, TaskId]:
        return await self.world.network.acall("publish", lambda: self._inner.publish(messages), messages)

    async def open_consumer(
        self, queues: Sequence[str], /, *, incarnation: Incarnation, lease_s: float, name: str = ""
    ) -> ModelConsumer:
        opening = _Once(
            lambda: _done(self._inner.open_consumer(queues, incarnation=incarnation, lease_s=lease_s, name=name))
        )
        inner = await self.world.network.acall("open", opening)
        return ModelConsumer(self.world, inner)

    async def beat(self, incarnations: Collection[Incarnation], /) -> frozenset[Incarnation]:
        def beat() -> frozenset[Incarnation]:
            if self.world.bug == "beats-ignored":
                holders = self.world.queues.holders
                return frozenset(each for each in incarnations if each not in holders)
            return _done(self._inner.beat(incarnations))

        return await self.world.network.acall("beat", beat)

    async def abandon(self, incarnation: Incarnation, /, *, running: Collection[TaskId]) -> int:
        return await self.world.network.acall(
            "abandon", lambda: _done(self._inner.abandon(incarnation, running=running))
        )

    async def reap(self, /, *, limit: int) -> int:
        return await self.world.network.acall("reap", lambda: _done(self._inner.reap(limit=limit)))

    def depth(self, queues: Sequence[str] | None = None, /) -> Any:
        return self.world.network.call("look", lambda: self._inner.depth(queues))

    def peek(self, queue: str | None = None, /, **options: Any) -> Any:
        return self.world.network.call("look", lambda: self._inner.peek(queue, **options))

    def cancel(self, cancellations: Any, /) -> Any:
        return self.world.network.call("cancelled", lambda: self._inner.cancel(cancellations))

    def schedules(self, scope: str, /) -> ModelSchedules:
        return ModelSchedules(self, scope)

    def close(self) -> None:
        """Nothing is open."""


class ModelConsumer:
    """A consumer at the end of the network. What a claim or an adoption took whose reply was lost, the next one brings:
    as the real adapters do, or it would be held for as long as its process lives.
    """

    def __init__(self, world: World, inner: MemoryConsumer) -> None:
        self._world = world
        self._inner = inner
        self._unheard: list[Delivery] = []
        self._adopted: dict[Incarnation, list[Delivery]] = {}

    @property
    def incarnation(self) -> Incarnation:
        return self._inner.incarnation

    @property
    def cancel_stamp(self) -> int:
        return self._inner.cancel_stamp

    async def claim(self, /, *, limit: int, wait_s: float) -> Sequence[Delivery]:
        network, proc = self._world.network, PROCESS.get()
        kind = network.claim_fate(proc)
        proc.points["claim"] += 1
        try:
            if kind:
                await network.abegin(proc, kind)
                if kind in ("drop-before", "cut"):
                    raise BrokerUnavailableError("the claim was lost on its way")
            if self._unheard:
                limit, wait_s = max(1, limit - len(self._unheard)), 0.0
                self._world.queues.stamp += 1  # some may be cancelled: whoever gets them now must ask, as then
            self._unheard += await self._inner.claim(limit=limit, wait_s=wait_s)
            if kind and self._unheard:  # while it waited in vain, nothing was answered that could be lost
                await network.aend(proc, kind)
                if kind in ("drop-after", "late"):
                    raise BrokerUnavailableError("the claim's reply was lost")
            found, self._unheard = self._unheard, []
            if self._world.bug == "ack-before-run":
                for delivery in found:
                    self._world.forget(delivery)
            return found
        finally:
            proc.points["claim"] -= 1

    async def settle(self, outcomes: Sequence[Outcome], /) -> Sequence[Settled]:
        proc = PROCESS.get()

        def settle() -> Sequence[Settled]:
            is_stale = self._inner._holder.is_ended
            if self._world.bug == "no-token-check":
                self._world.take_over(self._inner, outcomes)
            elif self._world.bug == "ack-before-run":
                self._world.remember(self._inner, outcomes)
            answers: Sequence[Settled] = _done(self._inner.settle(outcomes))
            self._world.on_settled(proc, outcomes, answers, is_stale=is_stale)
            return answers

        answers: Sequence[Settled] = await self._world.network.acall("settle", settle)
        return answers

    async def adopt(self, incarnation: Incarnation, ids: Collection[TaskId], /) -> Sequence[Delivery]:
        unheard: list[Delivery] = (
            [] if self._world.bug == "adoption-forgotten" else self._adopted.setdefault(incarnation, [])
        )

        def adopt() -> list[Delivery]:
            unheard.extend(_done(self._inner.adopt(incarnation, ids)))
            return [*unheard]

        adopted: Sequence[Delivery] = await self._world.network.acall("adopt", adopt, late=False)
        self._adopted.pop(incarnation, None)
        return adopted

    async def cancelled(self, ids: Collection[TaskId], /) -> Any:
        ids = sorted(ids)
        return await self._world.network.acall("cancelled", lambda: _done(self._inner.cancelled(ids)))

    def interrupt(self) -> None:
        self._inner.interrupt()

    async def beat(self) -> None:
        def beat() -> None:
            if self._world.bug == "beats-ignored" and self.incarnation in self._world.queues.holders:
                return
            _done(self._inner.beat())

        await self._world.network.acall("beat_own", beat)

    async def close(self) -> None:
        await self._world.network.acall("close", lambda: _done(self._inner.close()))


class ModelSchedules:
    """Of one scope."""

    def __init__(self, broker: ModelBroker, scope: str) -> None:
        self._broker = broker
        self._scope = scope

    @property
    def url(self) -> str:
        return self._broker.url

    def _call(self, point: str, name: str, *args: Any, **options: Any) -> Any:
        world = self._broker.world
        return world.network.call(point, lambda: getattr(world.schedules, name)(*args, **options))

    def look(self, revision: int = 0, /) -> Any:
        return self._call("look", "look", revision)

    def marks(self, entries: Any, /) -> Any:
        return self._call("marks", "marks", entries)

    def tick(self, ticks: Sequence[Tick], /) -> Any:
        if self._broker.world.bug == "tick-without-id":
            return self._broker.world.network.call("tick", lambda: [self._blind(tick) for tick in ticks])
        return self._call("tick", "tick", ticks)

    def _blind(self, tick: Tick) -> Ticked:
        """Whoever comes, whatever the mark says."""
        table = self._broker.world.schedules
        (mark,) = table.marks([(tick.name, tick.queue)])
        message = None if tick.message is None else renamed(tick.message)
        (answer,) = table.tick([msgspec.structs.replace(tick, after=0 if mark is None else mark.at, message=message)])
        return answer

    def put(self, row: Any, /, *, expected: int) -> Any:
        return self._call("tick", "put", row, expected=expected)

    def forget(self, names: Any, /) -> Any:
        return self._call("marks", "forget", names)

    def hail(self, beat: Any, /, *, ttl_s: float) -> None:
        self._call("hail", "hail", beat, ttl_s=ttl_s)

    def beats(self) -> Any:
        return self._call("look", "beats")

    def close(self) -> None:
        """Nothing is open."""


_STORE = {
    "put": "put", "get": "get", "open_joins": "join", "arrive": "arrive", "extend_join": "join", "members": "members",
    "close_joins": "join", "save": "put", "load": "get", "discard": "put", "forget": "put",
}  # fmt: skip


class ModelResults:
    """A result store at the end of the network.

    Args:
        url: The broker's, where it is one server.
    """

    world: World
    has_joins = True

    def __init__(self, url: str) -> None:
        self.url = url

    def __getattr__(self, name: str) -> Any:
        if name in _STORE:
            return lambda *args: self.world.network.call(_STORE[name], lambda: self._do(name, *args))
        bare = name.removeprefix("a")
        if bare in _STORE:
            return lambda *args: self.world.network.acall(_STORE[bare], lambda: self._do(bare, *args))
        raise AttributeError(name)

    def _do(self, name: str, *args: Any) -> Any:
        inner: MemoryResultStore = self.world.results
        if name == "close_joins":
            return _done(inner.aclose_joins(*args))
        if name == "arrive" and self.world.bug == "arrivals-counted":
            args = ([_renamed_arrival(arrival) for arrival in args[0]],)
        return getattr(inner, name)(*args)

    def expire(self, /, *, limit: int) -> int:
        return self.world.results.expire(limit=limit)

    def close(self) -> None:
        """Nothing is open."""


class _Once:
    """The result of a call that is carried out once, however often it is asked for."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._result: Any = None

    def __call__(self) -> Any:
        if self._call is not None:
            call, self._call = self._call, None
            self._result = call()
        return self._result


def _done(coro: Any) -> Any:
    """What a coroutine that waits for nothing returns."""
    try:
        coro.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


def renamed(message: Outgoing) -> Outgoing:
    """The same under a fresh id, in its headers as well."""
    fresh = new_task_id()
    return msgspec.structs.replace(
        message, id=fresh, headers=message.headers.replace(message.id.encode(), fresh.encode())
    )


def _renamed_arrival(arrival: Any) -> Any:
    return msgspec.structs.replace(arrival, member=new_task_id())
