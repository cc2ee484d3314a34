"""The sockets a broker adapter plugs into: `Broker` for producers, operators, supervisors; `Consumer` for one worker.

Every call takes a batch; one is a batch of one. An adapter moves bytes: it stores `headers` and `body` as they are, and
what a task, a retry or a result means is decided above it.

**Leases.** A message handed out by `claim` is leased to the consumer's incarnation. One `beat` renews all that an
incarnation holds. When the lease runs out, `reap` gives everything back; from then on `settle` under the old
incarnation is refused, per item, with `Settled.LEASE_LOST`, and changes nothing.

**Limits** (`traits.limits`). A message with an `Admission` is handed out only while fewer than its `concurrency` of its
key are held, in all queues and by all incarnations, and while the key's rate allows a start. Until then it waits in
its queue and counts as ready: claims take the others in their usual order and pass it over, so cheaply that a million
blocked messages of one key delay no other key's. Within one key and queue that is priority, then first in, first out.
A slot is held from the claim until the message is settled, or given back by `abandon`, `reap` or `close`; a start is
spent by the claim, whatever follows.

**Unique messages** (`traits.unique`). While a live message holds a `Unique` key, others of that key are dropped when
they are published. A holder is live while it is ready, delayed or held; with `until="start"`, only while it is ready or
delayed. A dead letter holds nothing, revived neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from celeriac.interfaces.schedules import ScheduleStore
    from celeriac.model import (
        Cancellation,
        Cancelled,
        DeadLetter,
        Delivery,
        Incarnation,
        Outcome,
        Outgoing,
        Peeked,
        QueueDepth,
        Settled,
        TaskId,
    )


class BrokerTraits(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine can and cannot do. The engine asks these facts, never an adapter's class."""

    name: str
    """As in the capability table: `memory`, `sqlite`, `redis`, …"""
    native_delay: bool
    """Holds delayed messages itself, any length, without a worker."""
    priorities: int
    """How many levels are told apart; 1 means none, 10 all."""
    max_body: int
    """Bytes of headers and body together."""
    max_batch: int
    """Most messages of one `claim`."""
    lease_kind: Literal["incarnation", "connection"]
    """Who holds the lease; with `connection` there is nothing to beat."""
    ordering: Literal["fifo", "best-effort"]
    """Order of messages of one queue and one priority. Where the connection is the lease, what was out already, or was
    looked at, may stand elsewhere when it comes back."""
    time_precision_s: float
    """How exactly `not_before` is kept."""
    durable: bool
    """An acknowledged publish survives the end of every process."""
    cross_process: bool
    """Other processes reach the same queues."""
    stores_results: bool
    """`settle` writes results in the same transaction when the result store has the same URL."""
    cancel: bool
    """`cancel` removes waiting messages."""
    notifications: bool
    """A waiting `claim` is woken by a publish instead of polling."""
    claims_reap: bool = False
    """A `claim` also ends incarnations whose lease ran out, as `reap` does, except its own."""
    spans_queues: bool = True
    """One step reaches all queues: priorities hold over all queues of a consumer, an id is live in one queue only, and
    what follows a task is published with its settlement. False: these hold within one queue."""
    limits: bool = False
    """Admits messages by concurrency and rate per key, over all workers."""
    unique: bool = False
    """Drops a message while a live one holds its unique key."""
    schedules: bool = False
    """Keeps the marks of schedules with its messages (`Broker.schedules`)."""
    drops_doubles: bool = True
    """A publish of an id that is live, or whose result it stores, is dropped. False: it lies there twice, and whoever
    runs tasks looks for a result first."""
    adopts: bool = True
    """What a dead process held can be taken over (`Consumer.adopt`). False: it is in its queue again at once, and what
    the supervisor knows of its end goes with the message (`Notary.note_lost`)."""
    shows_all: bool = True
    """`depth` and `peek` know what is delayed or held, and `purge` deletes what is delayed. False: they know only what
    is ready or dead; what a server has brought to a consumer is held, claimed or not."""
    exchanges: bool = False
    """Messages can be published to exchanges (`Outgoing.exchange`)."""


class Broker(Protocol):
    """What producers, operators and supervisors use. Publishing is synchronous first: producers are web code."""

    @property
    def traits(self) -> BrokerTraits:
        """Facts about this engine; constant."""

    @property
    def url(self) -> str:
        """The URL it was opened with, any password replaced by `***`; two adapters with one store have one URL."""

    def publish(self, messages: Sequence[Outgoing], /) -> Mapping[TaskId, TaskId]:
        """Store messages durably; they are stored when this returns, all of them or none.

        A message whose id is live already, or whose final result is stored, is dropped without a word: publishing
        again after an unknown outcome is safe. Safe to call from many threads and after `fork()`.

        Returns:
            For each message that was dropped because another holds its unique key: its id, and the holder's. Empty
            for messages that are not unique.

        Raises:
            EnqueueRejectedError: Nothing was stored and nothing will run (full disk, too large).
            EnqueueUnknownError: The answer was lost; publish again with the same ids.
            BrokerUnavailableError: Not reached within the adapter's timeout (5 s unless configured).
        """

    async def apublish(self, messages: Sequence[Outgoing], /) -> Mapping[TaskId, TaskId]:
        """As `publish`, without blocking the event loop."""

    async def open_consumer(
        self, queues: Sequence[str], /, *, incarnation: Incarnation, lease_s: float, name: str = ""
    ) -> Consumer:
        """Start consuming under a fresh incarnation whose first lease begins now.

        Args:
            queues: Served in this order within one priority: highest priority first over all queues, then the order
                of this list rotated between claims so that no queue starves. May be empty (a supervisor's consumer).
            incarnation: Never used before.
            lease_s: How long a lease lasts without a beat.
            name: The worker's node name, for listings.
        """

    async def beat(self, incarnations: Collection[Incarnation], /) -> frozenset[Incarnation]:
        """Renew the leases of these incarnations from now; returns those that are lost (reaped or unknown).

        The supervisor calls it for its processes, so that a task that blocks the interpreter keeps its lease.
        """

    async def abandon(self, incarnation: Incarnation, /, *, running: Collection[TaskId]) -> int:
        """End a dead process's incarnation at once: everything it holds goes back to its place.

        Args:
            running: Ids that had started; their delivery stays counted. All others get theirs back.

        Returns:
            How many messages went back. An unknown incarnation is none.
        """

    async def reap(self, /, *, limit: int) -> int:
        """Abandon up to `limit` incarnations whose lease ran out, or whose process is known to be dead.

        All deliveries they held stay counted, because nobody knows which had started.

        Returns:
            How many messages went back.
        """

    def depth(self, queues: Sequence[str] | None = None, /) -> Mapping[str, QueueDepth]:
        """Counts per queue; None: every queue that holds a message."""

    def peek(
        self, queue: str | None = None, /, *, state: str | None = None, ids: Collection[TaskId] = (), limit: int = 100
    ) -> Sequence[Peeked]:
        """Look at messages without taking them, next to run first.

        Args:
            queue: None looks at all.
            state: `ready`, `delayed`, `held` or `dead`; None: all of them.
            ids: When not empty, only these.
        """

    def purge(self, queues: Sequence[str], /) -> int:
        """Delete waiting messages (ready and delayed) for good; returns how many. Held and dead ones stay."""

    def cancel(self, cancellations: Sequence[Cancellation], /) -> Sequence[Cancelled]:
        """Durably forbid tasks to start. When this returns, none of them starts any more on any worker.

        Waiting messages are removed; held or unknown ids are marked for at least a day (an unknown id may still be
        published). What is marked and held is handed out again when it comes back, or dropped; what is marked and
        published later likewise.

        With `hand_out`, a message is never dropped: one that waits is marked, and handed out now if it was delayed; so
        is what is held and comes back, or is published later, even if REVOKED is stored as its result.

        Whenever the broker drops a message for an order with a `result`, now or later, it stores that result with it,
        where the store may (`states.may_follow`). The caller stores the others: of ids that nobody may ever publish.
        """

    def dead_letters(
        self, queue: str | None = None, /, *, ids: Collection[TaskId] = (), limit: int = 100
    ) -> Sequence[DeadLetter]:
        """Buried messages, newest first."""

    def revive(self, ids: Sequence[TaskId], /) -> int:
        """Put dead letters back into their queues, counts at zero; returns how many there were."""

    def drop_dead(self, ids: Sequence[TaskId], /) -> int:
        """Delete dead letters for good; returns how many there were."""

    def schedules(self, scope: str, /) -> ScheduleStore:
        """The schedules that are kept with these queues, over the broker's own connections (`traits.schedules`).

        Args:
            scope: Whose: entries of one name in two scopes have nothing to do with each other.
        """

    def close(self) -> None:
        """Close this process's connections. Safe to call twice; using the broker again reopens them."""


class Consumer(Protocol):
    """What one worker process uses. All methods run on the loop that opened it; none blocks the loop for long."""

    @property
    def incarnation(self) -> Incarnation:
        """The id that everything claimed here is leased to."""

    async def claim(self, /, *, limit: int, wait_s: float) -> Sequence[Delivery]:
        """Take up to `limit` messages that are due, highest priority first, in one round trip.

        Also promotes delayed messages that have become due. `settle` may be called while a `claim` waits.

        Args:
            limit: 1 to `traits.max_batch`. Fewer come back when fewer are ready.
            wait_s: How long to wait for the first message; 0 only looks.

        Returns:
            Deliveries now held by this incarnation, in the order to run them; empty after `wait_s`, or early after
            `interrupt`.

        Raises:
            BrokerUnavailableError: Nothing is known; what was taken comes back when the lease runs out.
            LeaseLostError: The incarnation was reaped; open another consumer.
        """

    async def settle(self, outcomes: Sequence[Outcome], /) -> Sequence[Settled]:
        """Say how deliveries ended, all in one transaction: result, successors and acknowledgement of each together.

        A result is written only where the store may (`states.may_follow`); successors are published as by `publish`.
        With `traits.stores_results`, and a result store of the same URL, an outcome's `workflow` is carried out with
        it, in the order that `model.Workflow` gives; the release of a join that its arrival completes is published
        like a successor, once, and marked so that no worker of Celery's publishes the chord's body as well.

        Returns:
            One answer per outcome, in order. LEASE_LOST means that nothing of that outcome was stored.

        Raises:
            BrokerUnavailableError: Nothing is known; calling again with the same outcomes is safe.
        """

    async def adopt(self, incarnation: Incarnation, ids: Collection[TaskId], /) -> Sequence[Delivery]:
        """Take over messages that another incarnation holds, atomically, so as to settle them in its place.

        The supervisor uses it for what a killed process was running; those it names are never up for others between.

        Returns:
            What was taken, delivery counts unchanged. Ids that the incarnation does not hold are left out.

        Raises:
            BrokerUnavailableError: Nothing is known; the next call with the same incarnation also returns what this one
                took.
        """

    @property
    def cancel_stamp(self) -> int:
        """Changes whenever something was cancelled anywhere. Reading it costs well under a microsecond, no I/O.

        It changes, too, when a message is handed out that was cancelled before; a broker that drops these has no need
        to. A worker that finds the stamp it saw when it last asked `cancelled` knows that nothing was cancelled since.
        """

    async def cancelled(self, ids: Collection[TaskId], /) -> Sequence[Cancellation]:
        """Which of these ids are cancelled."""

    def interrupt(self) -> None:
        """Make a claim that waits, or is about to, return now. Called on the loop."""

    async def beat(self) -> None:
        """Renew the lease of this incarnation.

        Raises:
            LeaseLostError: It was reaped.
        """

    async def close(self) -> None:
        """Give back what is still held, without spending an attempt, and end the incarnation. Safe to call twice."""


@runtime_checkable
class Notary(Protocol):
    """A broker from which nothing can be adopted, but with which word can be left."""

    async def note_lost(self, notes: Mapping[TaskId, bytes], /) -> None:
        """Leave word of how the process ended that was running these.

        Whoever is handed out such a message after this finds the note in `Delivery.lost`, and its delivery counted. A
        message handed out again waits a moment for notes on it. Kept for a day at least.

        Raises:
            BrokerUnavailableError: Nothing is known; noting the same again counts once more.
        """


@runtime_checkable
class Committer(Protocol):
    """A consumer that can take a message out of its queue before its task has ended.

    For tasks that may not run twice, where a lost connection would bring them back.
    """

    async def commit(self, deliveries: Sequence[Delivery], /) -> Sequence[Settled]:
        """Acknowledge them for good. They are settled later all the same, which stores and publishes as ever.

        Their settlement is never refused, under another lease neither: nobody else can have them.

        Returns:
            One answer each; LEASE_LOST: it is others' by now, and must not start or go on.
        """


@runtime_checkable
class Fenced(Protocol):
    """A consumer whose connection is the lease, and that knows for how long that is certain."""

    @property
    def sure_until(self) -> float:
        """Until then, on the monotonic clock, no server gives the connection up because it hears nothing of us.

        It moves on while the process runs. One that has stood still beyond it asks, by `beat`, before it starts
        anything: what it held may be others' by now.
        """


@runtime_checkable
class Keeper(Protocol):
    """A consumer that can leave what follows a task with the process that has run it.

    A chain on an idle worker then costs one round trip for each step, in which nobody else wakes up.
    """

    def keep_for(self, take: Callable[[Delivery, int], None], /, *, when: Callable[[], bool]) -> None:
        """From now on, `settle` of one outcome may claim its only successor at once.

        It does so where a claim would have handed out just that: it is due, of a queue of this consumer, and no other
        message is before it in there.

        Args:
            take: Called on the loop soon after `settle` has returned, with the delivery and the `cancel_stamp` from
                before.
            when: Whether this process has nothing else to do.
        """
