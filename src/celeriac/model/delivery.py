"""What passes between the engine and a broker: leased deliveries, outcomes, settlements."""

from __future__ import annotations

from enum import Enum

import msgspec

from celeriac.model.outgoing import Outgoing
from celeriac.model.stored import StoredResult
from celeriac.model.workflow import Workflow


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A message leased to the incarnation that claimed it."""

    tag: int | str
    """The adapter's handle; only meaningful to it and only under this lease."""
    id: str
    queue: str
    headers: bytes
    body: bytes
    priority: int = 0
    deliveries: int = 1
    """How often it has been handed out, this time included; a release takes its own back. Where the connection is the
    lease, only those count after which a process was lost, as far as its supervisor could say."""
    was_out: bool = False
    """It may have been handed out before, though `deliveries` does not count it: its connection was lost."""
    is_copy: bool = False
    """One of several, for everybody who listens; what became of the others says nothing about this one."""
    lost: tuple[bytes, ...] = ()
    """What supervisors noted of the processes that ended while they ran it, oldest first (`Notary.note_lost`)."""
    enqueued_at: float | None = None
    """Wall-clock epoch seconds of the first publish, where the engine keeps it."""
    limit_key: str | None = None
    """The key of its limit, where it has one."""
    via: tuple[str, str] | None = None
    """The exchange and the routing key by which it came, where it was not sent to the queue itself."""


class Done(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The task reached its end (success, failure, revoked): store the result, publish what follows, acknowledge."""

    delivery: Delivery
    result: StoredResult | None = None
    successors: tuple[Outgoing, ...] = ()
    workflow: Workflow | None = None
    replaced: bool = False
    """It is not the end of its id: something else goes on in its place, and may have it."""


class Later(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Put `message` (same id, usually `retries` + 1) in the delivery's place; its delivery count starts again at 0."""

    delivery: Delivery
    message: Outgoing
    result: StoredResult | None = None


class Release(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Give the message back to its place in its queue.

    `spent=False`: it was not started and the delivery is not counted. `spent=True`: it was (a crash, a requeue).
    """

    delivery: Delivery
    spent: bool = False


class Bury(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Move the message to the dead letters, where an operator reads, retries or drops it."""

    delivery: Delivery
    reason: str
    """One line: what is wrong."""
    detail: str | None = None
    """Traceback, exit signals, attempts: as much as is known."""
    result: StoredResult | None = None
    successors: tuple[Outgoing, ...] = ()
    """Error callbacks."""
    workflow: Workflow | None = None


Outcome = Done | Later | Release | Bury


class Settled(Enum):
    """What the broker did with an outcome."""

    OK = "ok"
    LEASE_LOST = "lease_lost"
    """The incarnation does not hold the message (reaped, abandoned, settled before): nothing was changed or stored."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A buried message as an operator sees it."""

    id: str
    task: str
    queue: str
    reason: str
    detail: str | None
    buried_at: float
    """Wall-clock epoch seconds."""
    deliveries: int
    headers: bytes
    body: bytes


class QueueDepth(msgspec.Struct, frozen=True, kw_only=True):
    """How many messages of one queue are in which state."""

    ready: int = 0
    delayed: int = 0
    """Not due yet."""
    held: int = 0
    """Leased to a worker, running or waiting there."""
    dead: int = 0
    oldest_ready_s: float | None = None
    """Age of the oldest ready message in seconds, where the engine can tell cheaply."""


class Peeked(msgspec.Struct, frozen=True, kw_only=True):
    """A message looked at, not taken."""

    id: str
    task: str
    queue: str
    state: str
    """`ready`, `delayed`, `held` or `dead`."""
    priority: int
    deliveries: int
    not_before: float | None
    headers: bytes
    body: bytes
    holder: str | None = None
    """The incarnation that holds it."""


class Cancelled(Enum):
    """What `Broker.cancel` did with an id."""

    REMOVED = "removed"
    """It was waiting; it is gone and will not run."""
    MARKED = "marked"
    """It is held by a worker or not known here: it will not start from now on; see `Consumer.cancelled`."""


class Cancellation(msgspec.Struct, frozen=True, kw_only=True):
    """A durable order not to run a task, or to stop it."""

    id: str
    terminate: bool = False
    """Also stop it if it runs."""
    signal: str = "SIGTERM"
    result: StoredResult | None = None
    """What to store when the broker itself drops the message. Only for one that stores results; not read back."""
    hand_out: bool = False
    """Do not drop the message, but hand it out, now if it is delayed, to a worker that settles it as revoked: others
    wait for it (a chord's member, a step of a chain)."""
