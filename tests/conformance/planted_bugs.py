"""Memory brokers with one mistake each, of the kinds that real brokers are written with."""

from __future__ import annotations

import msgspec

from celeriac.brokers.memory import MemoryBroker, MemoryConsumer
from celeriac.brokers.memory.queues import PRIORITIES
from celeriac.brokers.memory.schedules import MemorySchedules
from celeriac.model import Done, Settled


class BrokenBroker(MemoryBroker):
    """Opens consumers of the class's own kind."""

    consumer_kind: type[MemoryConsumer] = MemoryConsumer

    async def open_consumer(self, queues, /, *, incarnation, lease_s, name=""):
        consumer = await super().open_consumer(queues, incarnation=incarnation, lease_s=lease_s, name=name)
        consumer.__class__ = self.consumer_kind
        return consumer


class IgnoringConsumer(MemoryConsumer):
    async def settle(self, outcomes, /):
        answers = []
        for outcome in outcomes:
            entry = self._queues.entries.get(outcome.delivery.id)
            if entry is not None and entry.holder is not None and entry.message is not None:
                entry.holder.held.pop(entry.tag, None)  # whoever holds it: the token is not looked at
                self._holder.held[outcome.delivery.tag] = entry
            answers += await super().settle([outcome])
        return answers


class IgnoresTheToken(BrokenBroker):
    """Settles by message, whoever holds it."""

    consumer_kind = IgnoringConsumer


class PoppingConsumer(MemoryConsumer):
    async def claim(self, /, *, limit, wait_s):
        taken = await super().claim(limit=limit, wait_s=wait_s)
        for delivery in taken[1:]:
            self._holder.held.pop(delivery.tag)
            del self._queues.entries[delivery.id]
        return taken


class PopsThenForgets(BrokenBroker):
    """Takes messages off the queue without noting who has them."""

    consumer_kind = PoppingConsumer


class StoringConsumer(MemoryConsumer):
    async def settle(self, outcomes, /):
        answers = await super().settle(outcomes)
        for outcome, answer in zip(outcomes, answers, strict=True):
            if answer is Settled.LEASE_LOST and isinstance(outcome, Done) and outcome.result is not None:
                self._space.results.write(outcome.result, self._clock.time())
        return answers


class StoresStaleResults(BrokenBroker):
    """Refuses the settlement, yet writes its result."""

    consumer_kind = StoringConsumer


class FollowingConsumer(MemoryConsumer):
    async def settle(self, outcomes, /):
        answers = await super().settle(outcomes)
        for outcome, answer in zip(outcomes, answers, strict=True):
            if answer is Settled.LEASE_LOST:
                self._queues.publish(getattr(outcome, "successors", ()), self._clock.time(), self._space.results)
        return answers


class PublishesStaleSuccessors(BrokenBroker):
    """Refuses the settlement, yet publishes what follows."""

    consumer_kind = FollowingConsumer


class BeatsDoNotRenew(MemoryBroker):
    """Answers a beat without moving the lease."""

    async def beat(self, incarnations, /):
        return frozenset(each for each in incarnations if each not in self._queues.holders)


class AbandonSpendsAttempts(MemoryBroker):
    """Counts what never started."""

    async def abandon(self, incarnation, /, *, running):
        holder = self._queues.holders.get(incarnation)
        return 0 if holder is None else self._queues.end(holder, None, self._clock.time())


class PublishesTwice(MemoryBroker):
    """Takes a second message with a live id, the first stays queued too."""

    def publish(self, messages, /):
        now = self._clock.time()
        for message in messages:
            if message.id in self._queues.entries:
                self._queues._insert(message, now, now)
        super().publish(messages)


class ReapsTheLiving(MemoryBroker):
    """Ends every incarnation that holds something, overdue or not."""

    async def reap(self, /, *, limit):
        now = self._clock.time()
        return sum(self._queues.end(each, None, now) for each in list(self._queues.holders.values()) if each.held)


class LastInFirstOut(MemoryBroker):
    """Loses the place of what is given back."""

    async def abandon(self, incarnation, /, *, running):
        holder = self._queues.holders.get(incarnation)
        if holder is not None:
            for entry in holder.held.values():
                self._queues._count += 1
                entry.order = self._queues._count
        return await super().abandon(incarnation, running=running)


class PrioritiesUpsideDown(MemoryBroker):
    """Has its levels upside down."""

    def publish(self, messages, /):
        super().publish(messages)
        for lane in self._queues.ready.values():
            for low in range(PRIORITIES // 2):
                high = PRIORITIES - 1 - low
                lane[low][:], lane[high][:] = lane[high][:], lane[low][:]


class HandsOutEarly(MemoryBroker):
    """Takes ten seconds from now for now."""

    def publish(self, messages, /):
        super().publish(messages)
        self._queues.promote(self._clock.time() + 60)


class ForgetsThePlaceOfTheDead(MemoryBroker):
    """Publishes again what was buried."""

    def publish(self, messages, /):
        dead, self._queues.dead = self._queues.dead, {}
        super().publish(messages)
        self._queues.dead = dead


class ForgetsLimits(MemoryBroker):
    """Notes whose message it is and lets any number of them go."""

    def publish(self, messages, /):
        dropped = super().publish(messages)
        for gate in self._queues.gates.values():
            gate.admission = msgspec.structs.replace(gate.admission, concurrency=99)
        return dropped


class ForgetsWhoWaits(MemoryBroker):
    """A slot that an ended incarnation had stays taken."""

    async def abandon(self, incarnation, /, *, running):
        holder = self._queues.holders.get(incarnation)
        for entry in holder.held.values() if holder else ():
            if entry.gate is not None:
                entry.gate.held += 1
        return await super().abandon(incarnation, running=running)


class ScheduleBroker(BrokenBroker):
    """Opens schedules of the class's own kind."""

    schedules_kind: type[MemorySchedules] = MemorySchedules

    def schedules(self, scope, /):
        schedules = super().schedules(scope)
        schedules.__class__ = self.schedules_kind
        return schedules


class TrustingSchedules(MemorySchedules):
    def _tick(self, tick):
        mark = self._table.marks.get(tick.name)
        return super()._tick(msgspec.structs.replace(tick, after=0 if mark is None else mark.at))


class MovesMarksUnseen(ScheduleBroker):
    """Does not look where a mark stands."""

    schedules_kind = TrustingSchedules


class EagerSchedules(MemorySchedules):
    def _tick(self, tick):
        answer = super()._tick(tick)
        if answer.verdict == "lost" and tick.message is not None:
            self._queues.publish((tick.message,), self._clock.time(), self._space.results)
        return answer


class PublishesWhatIsLost(ScheduleBroker):
    """Compares the mark after it has published."""

    schedules_kind = EagerSchedules


class HastySchedules(MemorySchedules):
    def _tick(self, tick):
        return super()._tick(msgspec.structs.replace(tick, unless_live=False))


class ForgetsTheLastMessage(ScheduleBroker):
    """Publishes although the entry's last message lives."""

    schedules_kind = HastySchedules


class MorbidSchedules(MemorySchedules):
    def _tick(self, tick):
        mark = self._table.marks.get(tick.name)
        if tick.unless_live and mark is not None and mark.task_id in self._queues.dead:
            tick = msgspec.structs.replace(tick, message=None)
        return super()._tick(tick)


class TakesTheDeadForLive(ScheduleBroker):
    """Leaves a tick's message out when the last one is a dead letter."""

    schedules_kind = MorbidSchedules


class CarelessSchedules(MemorySchedules):
    def put(self, row, /, *, expected):
        old = self._table.rows.get(row.name)
        return super().put(row, expected=0 if old is None or old.removed else old.revision)


class OverwritesUnseen(ScheduleBroker):
    """Does not ask from which revision a row was changed."""

    schedules_kind = CarelessSchedules


class ShowsOneScopeToAnother(BrokenBroker):
    """Keeps all scopes in one place."""

    def schedules(self, scope, /):
        return super().schedules("all")


PLANTED = (
    IgnoresTheToken,
    PopsThenForgets,
    StoresStaleResults,
    PublishesStaleSuccessors,
    BeatsDoNotRenew,
    AbandonSpendsAttempts,
    PublishesTwice,
    ReapsTheLiving,
    LastInFirstOut,
    PrioritiesUpsideDown,
    HandsOutEarly,
    ForgetsThePlaceOfTheDead,
    ForgetsLimits,
    ForgetsWhoWaits,
)

PLANTED_IN_SCHEDULES = (
    MovesMarksUnseen,
    PublishesWhatIsLost,
    ForgetsTheLastMessage,
    TakesTheDeadForLive,
    OverwritesUnseen,
    ShowsOneScopeToAnother,
)
