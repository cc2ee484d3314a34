"""The queues of one space, as plain data: who waits, who is held by whom, who is dead, what is cancelled.

Nothing here reads a clock, blocks or awaits; every method wants the space's lock held and is told the time.

What is stored: `entries`, every live message by id; `ready`, per queue ten heaps (one per priority) in order of
publication, so that a message given back returns to its place; `delayed`, one heap by due time; `holders`, the living
incarnations with what they hold; `dead`, buried messages by id; `marks`, cancellations by id, kept for a day; `gates`,
per key of a limit who waits before it; `agenda`, a heap of the times at which a gate opens by itself; `locks`, per
unique key the message that holds it and until when.
A message removed by `cancel` or `purge` leaves its heap entry behind, emptied, to be skipped when its turn comes.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from operator import itemgetter
from typing import TYPE_CHECKING

import msgspec

from celeriac.brokers.memory.gates import Gate
from celeriac.model import (
    Bury,
    Cancellation,
    Cancelled,
    DeadLetter,
    Delivery,
    Incarnation,
    Later,
    Outgoing,
    Peeked,
    QueueDepth,
    Release,
    Settled,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from celeriac.model import Outcome, TaskId
    from celeriac.storage.memory import ResultTable, Waiter
    from celeriac.storage.workflows import WorkflowTable

PRIORITIES = 10
MARK_KEPT_S = 86_400.0
_LEVELS = tuple(range(PRIORITIES - 1, -1, -1))


class Entry:
    """One live message. Held: `holder` is set; delayed: `due` is; ready: neither; gone: `message` is None."""

    __slots__ = ("deliveries", "due", "enqueued_at", "gate", "holder", "is_listed", "message", "order", "tag")

    def __init__(self, message: Outgoing, order: int, enqueued_at: float) -> None:
        self.message: Outgoing | None = message
        self.order = order
        self.enqueued_at = enqueued_at
        self.deliveries = 0
        self.due: float | None = None
        self.holder: Holder | None = None
        self.tag = 0
        self.gate: Gate | None = None
        """Where it waits, or whose slot it has; None: nothing limits it."""
        self.is_listed = False
        """It stands in a heap of `ready`, as the head of a line."""


class Holder:
    """A living incarnation and its lease. `queues` is served from position `turn` on."""

    __slots__ = ("held", "incarnation", "is_ended", "lease_s", "name", "queues", "turn", "until")

    def __init__(self, incarnation: Incarnation, queues: Sequence[str], lease_s: float, name: str) -> None:
        self.incarnation = incarnation
        self.queues = tuple(dict.fromkeys(queues))
        self.lease_s = lease_s
        self.name = name
        self.until = 0.0
        self.turn = 0
        self.is_ended = False
        self.held: dict[int | str, Entry] = {}


class Queues:
    """All queues of a space. `now` is wall-clock epoch seconds, `tick` seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.entries: dict[TaskId, Entry] = {}
        self.ready: dict[str, tuple[list[tuple[int, Entry]], ...]] = {}
        self.delayed: list[tuple[float, int, Entry]] = []
        self.holders: dict[Incarnation, Holder] = {}
        self.dead: dict[TaskId, tuple[DeadLetter, Outgoing]] = {}
        """Each with its message."""
        self.marks: dict[TaskId, tuple[Cancellation, float]] = {}
        """Each with the wall-clock time at which it may be dropped; oldest first."""
        self.gates: dict[str, Gate] = {}
        self.agenda: list[tuple[float, str]] = []
        self.locks: dict[str, tuple[TaskId, float]] = {}
        self.stamp = 0
        self._count = 0
        self._waiters: dict[str, dict[Waiter, None]] = {}

    # -- coming in ------------------------------------------------------------------------------------------------

    def publish(
        self,
        messages: Iterable[Outgoing],
        now: float,
        results: ResultTable,
        dropped: dict[TaskId, TaskId] | None = None,
    ) -> int:
        """Take messages in, except those whose id is live, dead or finished; returns how many were new.

        Those whose unique key is held go into `dropped`, with the holder; None: nobody asks about unique keys.
        """
        entries, dead = self.entries, self.dead
        queues = set()
        added = 0
        for message in messages:
            task_id = message.id
            if task_id in entries or task_id in dead:
                continue
            if results.is_final(task_id, now) and not (self._is_handed_out(task_id) and results.is_revoked(task_id)):
                continue
            unique = message.unique
            if unique is not None and dropped is not None:
                holder = self._holder_of(unique.key, now)
                if holder is not None:
                    dropped[task_id] = holder
                    continue
                self.locks[unique.key] = task_id, now + unique.ttl_s
            self._insert(message, now, now)
            queues.add(message.queue)
            added += 1
        self.wake(queues)
        return added

    def _is_handed_out(self, task_id: TaskId) -> bool:
        """Whether it is revoked, and others wait for it: a worker tells them, now."""
        order = self.marks.get(task_id)
        return order is not None and order[0].hand_out

    def _insert(self, message: Outgoing, now: float, enqueued_at: float) -> None:
        self._count = order = self._count + 1
        entry = self.entries[message.id] = Entry(message, order, enqueued_at)
        due = message.not_before
        if due is not None and due > now and not self._is_handed_out(message.id):
            entry.due = due
            heappush(self.delayed, (due, order, entry))
        else:
            self._make_ready(entry, message, now)
        limit = message.limit
        if limit is not None and (gate := self.gates.get(limit.key)) is not None and gate.admission != limit:
            gate.admission = limit  # what was said last holds for all of them
            self._open(gate, now)

    def _holder_of(self, key: str, now: float) -> TaskId | None:
        """The live message that holds a unique key."""
        task_id, until = self.locks.get(key, ("", 0.0))
        entry = self.entries.get(task_id)
        if until <= now or entry is None or entry.message is None or entry.message.unique is None:
            return None
        return None if entry.holder is not None and entry.message.unique.until == "start" else task_id

    def _unlock(self, message: Outgoing) -> None:
        """A message is no longer live."""
        if message.unique is not None and self.locks.get(message.unique.key, ("", 0.0))[0] == message.id:
            del self.locks[message.unique.key]

    def _make_ready(self, entry: Entry, message: Outgoing, now: float) -> None:
        if message.limit is None:
            self._list(entry, message)
            return
        key = message.limit.key
        gate = self.gates.get(key)
        if gate is None:
            gate = self.gates[key] = Gate(message.limit)
        entry.gate = gate
        gate.join(entry, message.queue, min(max(message.priority, 0), PRIORITIES - 1))
        self._open(gate, now)

    def _list(self, entry: Entry, message: Outgoing) -> None:
        lane = self.ready.get(message.queue)
        if lane is None:
            lane = self.ready[message.queue] = tuple([] for _ in _LEVELS)
        heappush(lane[min(max(message.priority, 0), PRIORITIES - 1)], (entry.order, entry))

    def _open(self, gate: Gate, now: float) -> set[str]:
        """If it is open, see that the heads of its lines can be claimed, else when it opens; returns their queues."""
        if not gate.has_room:
            return set()  # whoever gives a slot back comes here again
        heads = gate.heads()
        if heads and gate.opens_at > now:
            if not gate.is_timed:
                gate.is_timed = True
                heappush(self.agenda, (gate.opens_at, gate.admission.key))
            return set()
        queues = set()
        for head in heads:
            assert head.message is not None, "heads are there"
            queues.add(head.message.queue)
            if not head.is_listed:
                head.is_listed = True
                self._list(head, head.message)
        return queues

    def _vacate(self, entry: Entry, now: float) -> set[str]:
        """A message is no longer held: give its slot to those who wait; returns their queues."""
        gate, entry.gate = entry.gate, None
        if gate is None:
            return set()
        gate.held -= 1
        queues = self._open(gate, now)
        if gate.is_idle(now):
            self.gates.pop(gate.admission.key, None)
        return queues

    def promote(self, now: float) -> None:
        """Make ready what has become due."""
        delayed, queues = self.delayed, set()
        while delayed and delayed[0][0] <= now:
            entry = heappop(delayed)[2]
            message = entry.message
            if message is not None:
                entry.due = None
                self._make_ready(entry, message, now)
                queues.add(message.queue)
        while self.agenda and self.agenda[0][0] <= now:
            gate = self.gates.get(heappop(self.agenda)[1])
            if gate is not None:
                gate.is_timed = False
                queues |= self._open(gate, now)
                if gate.is_idle(now):
                    del self.gates[gate.admission.key]
        self.wake(queues)

    # -- going out ------------------------------------------------------------------------------------------------

    def claim(self, holder: Holder, limit: int, now: float) -> list[Delivery]:
        """Lease up to `limit` due messages to `holder`."""
        if (self.delayed and self.delayed[0][0] <= now) or (self.agenda and self.agenda[0][0] <= now):
            self.promote(now)
        queues = holder.queues
        if len(queues) > 1:
            turn = holder.turn
            holder.turn = (turn + 1) % len(queues)
            queues = queues[turn:] + queues[:turn]
        lanes = [lane for queue in queues if (lane := self.ready.get(queue)) is not None]
        taken: list[Delivery] = []
        for level in _LEVELS:
            for lane in lanes:
                heap = lane[level]
                while heap:
                    entry = heappop(heap)[1]
                    message = entry.message
                    if entry.is_listed:
                        entry.is_listed = False
                        if message is None or not self._pass(entry, message, now):
                            continue
                    if message is None:
                        continue
                    entry.deliveries += 1
                    taken.append(self._hold(entry, message, holder))
                    if len(taken) == limit:
                        return taken
        return taken

    def _pass(self, entry: Entry, message: Outgoing, now: float) -> bool:
        """Whether a head may go through its gate; the next of its line comes up then."""
        gate = entry.gate
        assert gate is not None, "a head waits before a gate"
        if gate.head(message.queue) is not entry:
            return False  # a better one came; that one is listed
        if not gate.has_room or gate.opens_at > now:
            self._open(gate, now)
            return False
        gate.start(now)
        gate.pop(message.queue)
        self._open(gate, now)
        return True

    def _hold(self, entry: Entry, message: Outgoing, holder: Holder) -> Delivery:
        # a tag is never used twice, so a delivery that was given back means nothing even to the one who held it
        self._count = tag = self._count + 1
        entry.holder = holder
        entry.tag = tag
        holder.held[tag] = entry
        if self.marks and message.id in self.marks:
            # whoever asked `cancelled` before it held this one must ask again
            self.stamp += 1
        return Delivery(
            tag=tag,
            id=message.id,
            queue=message.queue,
            headers=message.headers,
            body=message.body,
            priority=message.priority,
            deliveries=entry.deliveries,
            enqueued_at=entry.enqueued_at,
            limit_key=None if message.limit is None else message.limit.key,
        )

    def next_due(self) -> float | None:
        """When something may become due; may be too early, never too late."""
        due = self.delayed[0][0] if self.delayed else None
        if self.agenda:
            due = self.agenda[0][0] if due is None else min(due, self.agenda[0][0])
        return due

    def settle(
        self,
        holder: Holder,
        outcomes: Iterable[Outcome],
        now: float,
        results: ResultTable,
        workflows: WorkflowTable,
    ) -> list[Settled]:
        """Apply each outcome whose delivery `holder` still holds."""
        answers: list[Settled] = []
        held, entries = holder.held, self.entries
        queues: set[str] = set()
        for outcome in outcomes:
            entry = held.pop(outcome.delivery.tag, None)
            if entry is None or (message := entry.message) is None:
                answers.append(Settled.LEASE_LOST)
                continue
            answers.append(Settled.OK)
            queues |= self._vacate(entry, now)
            if isinstance(outcome, Release):
                self._give_back(entry, message, now, counted=outcome.spent)
                queues.add(message.queue)
                continue
            del entries[message.id]
            if isinstance(outcome, Later):
                following = msgspec.structs.replace(
                    outcome.message, limit=outcome.message.limit or message.limit, unique=message.unique
                )
                if following.id not in entries:  # under another id, against the contract, it could be a double
                    self._insert(following, now, entry.enqueued_at)
                    queues.add(following.queue)
            else:
                self._unlock(message)
                if isinstance(outcome, Bury):
                    self._bury(outcome, entry, message, now)
                workflow = outcome.workflow
                if workflow is not None:
                    for result in workflow.results:
                        results.write(result, now)
                    workflows.save(workflow.records)
                    workflows.open(workflow.joins, now)
                if outcome.successors:
                    self.publish(outcome.successors, now, results)
                if workflow is not None:
                    self.publish(workflows.settle(workflow.arrivals, now), now, results)
                    workflows.close(workflow.closed, now)
            if outcome.result is not None:
                results.write(outcome.result, now)
        self.wake(queues)
        return answers

    def _bury(self, outcome: Bury, entry: Entry, message: Outgoing, now: float) -> None:
        letter = DeadLetter(
            id=message.id,
            task=message.task,
            queue=message.queue,
            reason=outcome.reason,
            detail=outcome.detail,
            buried_at=now,
            deliveries=entry.deliveries,
            headers=message.headers,
            body=message.body,
        )
        self.dead[message.id] = (letter, message)

    # -- leases ---------------------------------------------------------------------------------------------------

    def renew(self, incarnation: Incarnation, tick: float) -> bool:
        """Begin the lease anew; False when there is no such incarnation."""
        holder = self.holders.get(incarnation)
        if holder is None:
            return False
        holder.until = tick + holder.lease_s
        return True

    def end(self, holder: Holder, running: Collection[TaskId] | None, now: float) -> int:
        """End an incarnation and give back what it holds; what is in `running` (None: all of it) stays counted."""
        self.holders.pop(holder.incarnation, None)
        holder.is_ended = True
        held, holder.held = holder.held, {}
        queues = set(holder.queues)  # whoever waits under this incarnation must learn that it ended
        for entry in held.values():
            message = entry.message
            assert message is not None, "a held message cannot be removed"
            queues |= self._vacate(entry, now)
            self._give_back(entry, message, now, counted=running is None or message.id in running)
            queues.add(message.queue)
        self.wake(queues)
        return len(held)

    def _give_back(self, entry: Entry, message: Outgoing, now: float, *, counted: bool) -> None:
        entry.holder = None
        if not counted:
            entry.deliveries -= 1
        self._make_ready(entry, message, now)

    def expired(self, limit: int, tick: float) -> list[Holder]:
        """Up to `limit` incarnations whose lease ran out, longest overdue first."""
        late = [holder for holder in self.holders.values() if holder.until <= tick]
        late.sort(key=lambda holder: holder.until)
        return late[:limit]

    def adopt(self, heir: Holder, incarnation: Incarnation, ids: Collection[TaskId]) -> list[Delivery]:
        """Move deliveries from one incarnation to another, counts unchanged."""
        holder = self.holders.get(incarnation)
        if holder is None:
            return []
        adopted = []
        for task_id in dict.fromkeys(ids):
            entry = self.entries.get(task_id)
            if entry is not None and entry.holder is holder and entry.message is not None:
                del holder.held[entry.tag]
                adopted.append(self._hold(entry, entry.message, heir))
        return adopted

    # -- operators ------------------------------------------------------------------------------------------------

    def cancel(self, cancellations: Sequence[Cancellation], now: float, results: ResultTable) -> list[Cancelled]:
        """Remove what waits, mark all of them."""
        while self.marks:  # each is kept equally long, so the oldest stands first
            oldest = next(iter(self.marks))
            if self.marks[oldest][1] > now:
                break
            del self.marks[oldest]
        answers = []
        for cancellation in cancellations:
            task_id = cancellation.id
            earlier = self.marks.pop(task_id, None)
            if earlier is not None:  # an order is not taken back by a weaker one
                if earlier[0].terminate and not cancellation.terminate:
                    cancellation = msgspec.structs.replace(cancellation, terminate=True, signal=earlier[0].signal)
                if earlier[0].hand_out:
                    cancellation = msgspec.structs.replace(cancellation, hand_out=True)
            entry = self.entries.get(task_id)
            if entry is not None and entry.holder is None and cancellation.hand_out:
                self._hurry(entry, now)
                answers.append(Cancelled.MARKED)
            elif entry is not None and entry.holder is None:
                self._remove(entry, now)
                answers.append(Cancelled.REMOVED)
                if cancellation.result is not None:
                    results.write(cancellation.result, now)
            else:
                answers.append(Cancelled.MARKED)
            # marked even when it is gone: its producer may publish it again after an unknown outcome
            self.marks[task_id] = (cancellation, now + MARK_KEPT_S)
        if answers:
            self.stamp += 1
        return answers

    def _hurry(self, entry: Entry, now: float) -> None:
        """Make a delayed message ready now."""
        message = entry.message
        if entry.due is None or message is None:
            return
        entry.message = None  # its place among the delayed ones is empty
        following = self.entries[message.id] = Entry(message, entry.order, entry.enqueued_at)
        following.deliveries = entry.deliveries
        self._make_ready(following, message, now)
        self.wake({message.queue})

    def _remove(self, entry: Entry, now: float) -> None:
        assert entry.message is not None, "removed once"
        del self.entries[entry.message.id]
        self._unlock(entry.message)
        entry.message = None
        if entry.gate is not None:
            self._open(entry.gate, now)  # it may have been the head

    def forget_idle(self, now: float) -> None:
        """Drop gates that nobody waits before and whose pace is forgotten."""
        for key in [key for key, gate in self.gates.items() if gate.is_idle(now)]:
            del self.gates[key]

    def purge(self, queues: Collection[str], now: float) -> int:
        """Delete what waits in `queues`."""
        waiting = [
            entry
            for entry in self.entries.values()
            if entry.holder is None and entry.message is not None and entry.message.queue in queues
        ]
        for entry in waiting:
            self._remove(entry, now)
        for queue in queues:
            self.ready.pop(queue, None)
        self.forget_idle(now)
        self.delayed = [item for item in self.delayed if item[2].message is not None]
        heapify(self.delayed)
        return len(waiting)

    def dead_letters(self, queue: str | None, ids: Collection[TaskId], limit: int) -> list[DeadLetter]:
        """Newest first."""
        found: list[DeadLetter] = []
        for letter, _ in reversed(self.dead.values()):
            if len(found) >= limit:
                break
            if (queue is None or letter.queue == queue) and (not ids or letter.id in ids):
                found.append(letter)
        return found

    def revive(self, ids: Iterable[TaskId], now: float) -> int:
        """Put dead letters back as new messages."""
        queues, revived = set(), 0
        for task_id in ids:
            found = self.dead.pop(task_id, None)
            if found is None:
                continue
            self._insert(msgspec.structs.replace(found[1], not_before=None, expires_at=None, unique=None), now, now)
            queues.add(found[1].queue)
            revived += 1
        self.wake(queues)
        return revived

    def drop_dead(self, ids: Iterable[TaskId]) -> int:
        """Delete dead letters."""
        return sum(self.dead.pop(task_id, None) is not None for task_id in ids)

    def depth(self, names: Collection[str] | None, now: float) -> dict[str, QueueDepth]:
        """Count per queue; walks through all messages."""
        counts: dict[str, list[int]] = {} if names is None else {name: [0, 0, 0, 0] for name in names}
        oldest: dict[str, float] = {}
        for entry in self.entries.values():
            message = entry.message
            assert message is not None, "only living entries are listed"
            queue = message.queue
            if names is not None and queue not in counts:
                continue
            count = counts.setdefault(queue, [0, 0, 0, 0])
            if entry.holder is not None:
                count[2] += 1
            elif entry.due is not None and entry.due > now:
                count[1] += 1
            else:
                count[0] += 1
                since = entry.enqueued_at if entry.due is None else entry.due
                oldest[queue] = min(oldest.get(queue, since), since)
        for letter, _ in self.dead.values():
            if names is None or letter.queue in counts:
                counts.setdefault(letter.queue, [0, 0, 0, 0])[3] += 1
        return {
            queue: QueueDepth(
                ready=ready,
                delayed=delayed,
                held=held,
                dead=dead,
                oldest_ready_s=max(0.0, now - oldest[queue]) if queue in oldest else None,
            )
            for queue, (ready, delayed, held, dead) in counts.items()
        }

    def peek(
        self, queue: str | None, state: str | None, ids: Collection[TaskId], limit: int, now: float
    ) -> list[Peeked]:
        """Ready by priority and age, then delayed by due time, then held, then dead."""
        found: list[tuple[tuple[float, ...], Peeked]] = []
        for entry in self.entries.values():
            message = entry.message
            assert message is not None, "only living entries are listed"
            if (queue is not None and message.queue != queue) or (ids and message.id not in ids):
                continue
            holder = None
            place: tuple[float, ...]
            if entry.holder is not None:
                its_state, place, holder = "held", (2, entry.tag), entry.holder.incarnation
            elif entry.due is not None and entry.due > now:
                its_state, place = "delayed", (1, entry.due, entry.order)
            else:
                its_state, place = "ready", (0, -message.priority, entry.order)
            if state is not None and state != its_state:
                continue
            shown = Peeked(
                id=message.id,
                task=message.task,
                queue=message.queue,
                state=its_state,
                priority=message.priority,
                deliveries=entry.deliveries,
                not_before=entry.due,
                headers=message.headers,
                body=message.body,
                holder=holder,
            )
            found.append((place, shown))
        found.sort(key=itemgetter(0))
        peeked = [shown for _, shown in found[:limit]]
        if state in (None, "dead") and len(peeked) < limit:
            peeked += [
                Peeked(
                    id=letter.id,
                    task=letter.task,
                    queue=letter.queue,
                    state="dead",
                    priority=self.dead[letter.id][1].priority,
                    deliveries=letter.deliveries,
                    not_before=None,
                    headers=letter.headers,
                    body=letter.body,
                )
                for letter in self.dead_letters(queue, ids, limit - len(peeked))
            ]
        return peeked

    # -- waiting --------------------------------------------------------------------------------------------------

    def listen(self, queues: Iterable[str], waiter: Waiter) -> None:
        """Notify `waiter` when a message comes into one of `queues`, or an incarnation that serves one ends."""
        for queue in queues:
            self._waiters.setdefault(queue, {})[waiter] = None

    def unlisten(self, queues: Iterable[str], waiter: Waiter) -> None:
        for queue in queues:
            listeners = self._waiters.get(queue)
            if listeners is not None:
                listeners.pop(waiter, None)
                if not listeners:
                    del self._waiters[queue]

    def wake(self, queues: Iterable[str]) -> None:
        """Notify who waits for one of these. A hint: everybody looks for himself."""
        if self._waiters:
            for queue in queues:
                for waiter in self._waiters.get(queue, ()):
                    waiter.notify()
