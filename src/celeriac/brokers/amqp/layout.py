"""Names and arguments on the server: everything that two processes must agree on.

Arguments do not depend on the server's version: a declaration that differs from the queue that exists is refused, and a
server is upgraded under queues that exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from celeriac.model import Outgoing

# -- queues ----------------------------------------------------------------------------------------------------------

LEVELS: Final = (0, 3, 6, 9)
"""Priorities that have a queue of their own, for queues that are ours; level 0 is the queue itself."""
DELIVERY_LIMIT: Final = 20
"""After so many returns the server itself buries a message: the last resort against one that kills whole hosts."""
NO_LIMIT: Final = 2_000_000_000
"""Of queues of dead letters: looking at a message counts as a delivery, and from 4.0 on no limit means 20."""
MAX_NAME: Final = 180
"""Bytes of a queue's name, so that it fits into a routing key (255) behind the 64 of the ladder's bits."""

_LEVEL_OF: Final = tuple(max(level for level in LEVELS if level <= priority) for priority in range(10))


def level_of(priority: int) -> int:
    """The level for a priority from 0 to 9: the highest that is not above it."""
    return _LEVEL_OF[priority]


def level_name(queue: str, level: int) -> str:
    """The server's queue for one level of a queue that is ours."""
    return f"{queue}.p{level}" if level else queue


def dead_name(queue: str) -> str:
    """The queue of a queue's dead letters, for all of its levels and its companion."""
    return f"{queue}.dead"


def companion_name(queue: str) -> str:
    """Where messages lie that only workers of this package understand, beside a queue that is shared with others."""
    return f"{queue}.celeriac"


def broadcast_name(queue: str, node: str) -> str:
    """The queue in which one node gets its copies of what is published to a broadcast queue."""
    return f"bcast.{queue}.{node}"


def own_arguments(queue: str) -> dict[str, Any]:
    """Of `queue`, its levels and companions: replicated, nothing is dropped, what kills too often is put aside.

    At-least-once dead-lettering needs `reject-publish`: with another overflow it silently is at-most-once.
    """
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead_name(queue),
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


DEAD_ARGUMENTS: Final[dict[str, Any]] = {"x-queue-type": "quorum", "x-delivery-limit": NO_LIMIT}
BROADCAST_ARGUMENTS: Final[dict[str, Any]] = {"x-expires": 60_000}
"""A node that is gone for longer than this gets no copies of what was published meanwhile."""

# -- delays ---------------------------------------------------------------------------------------------------------

RUNGS: Final = 32
TICK_S: Final = 0.01
"""What the lowest rung waits; each other twice as long as the one below it."""
DUE: Final = "celeriac.due"
"""The exchange in which the ladder ends."""
UNCLAIMED: Final = "celeriac.unclaimed"
"""Exchange and queue of what came down the ladder for queues that were deleted meanwhile.

Without it such messages would stay on the lowest rung, be tried again every few minutes, and soon stop all others: the
server has 32 of them under way at a time."""


def rung_name(rung: int) -> str:
    """Exchange and queue of one rung, 0 to 31."""
    return f"celeriac.delay.{rung:02d}"


TOP: Final = rung_name(RUNGS - 1)
"""The exchange to which delayed messages are published."""

# -- headers of our own on a message --------------------------------------------------------------------------------

SINCE: Final = "celeriac-since"
"""When it was put in another's place, epoch seconds; notes from before do not concern it."""
DELIVERIES: Final = "celeriac-deliveries"
"""How often it was handed out, and came back, before it was published in this form."""
RETURNS: Final = "celeriac-returns"
"""How often the server had taken it back without anybody's asking, before it was published in this form."""
WAITED: Final = "celeriac-waited"
"""Of a copy that does not come off the ladder: the message it was made of did, when its time was over."""
REASON: Final = "celeriac-reason"
DETAIL: Final = "celeriac-detail"
BURIED_AT: Final = "celeriac-buried-at"
QUEUE: Final = "celeriac-queue"
"""Of a dead letter: where it lay."""
TO: Final = "celeriac-to"
"""Of a parked message: the queue of the consumer that holds it."""
OURS: Final = frozenset((SINCE, DELIVERIES, RETURNS, WAITED, REASON, DETAIL, BURIED_AT, QUEUE, TO))
SERVERS: Final = (
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
    "x-delivery-count",
    "x-acquired-count",
    "x-opt-delivery-count",
)
"""Headers that the server adds. They must be gone before a message is published again: before 4.0.1 the server drops
one that has been through a rung before, according to them."""

# -- what is where ---------------------------------------------------------------------------------------------------

Kind = Literal["own", "celery", "foreign", "broadcast"]


class Place(NamedTuple):
    """What was found, or made, under a queue's name."""

    queue: str
    kind: Kind
    """`own`: made by us, with levels. `celery`: made as Celery would. `foreign`: it exists otherwise than planned.
    `broadcast`: no queue but an exchange, from which each node has copies."""
    exchange: str = ""
    """Of a broadcast queue."""

    @property
    def has_levels(self) -> bool:
        return self.kind == "own"

    @property
    def is_shared(self) -> bool:
        """Whether others' workers may take from it: messages for ours only go beside it."""
        return self.kind in ("celery", "foreign")

    def target(self, message: Outgoing) -> str:
        """The server's queue for a message; of a broadcast queue, the exchange."""
        if self.kind == "own":
            level = _LEVEL_OF[message.priority]
            return f"{self.queue}.p{level}" if level else self.queue
        if self.kind == "broadcast":
            return self.exchange
        return companion_name(self.queue) if message.native else self.queue

    def targets(self) -> tuple[str, ...]:
        """All of the server's queues in which its messages lie, most urgent first; none for a broadcast queue."""
        if self.kind == "own":
            return tuple(level_name(self.queue, level) for level in reversed(LEVELS))
        return () if self.kind == "broadcast" else (self.queue, companion_name(self.queue))


class Places:
    """What this process knows of the server's queues. Safe to use from any thread."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._ready: dict[str, str] = {}
        self._bound: set[str] = set()
        self.has_ladder = False
        self.is_ladder_broken = False
        """A part of it is missing, though its top is there."""

    def get(self, queue: str) -> Place | None:
        """What is known of a queue; None: nothing yet, or not any more."""
        return self._places.get(queue)

    def queues(self) -> list[str]:
        """All queues of which something is known."""
        return list(self._places)

    def learn(self, place: Place) -> None:
        self._places[place.queue] = place

    def is_ready(self, target: str) -> bool:
        """Whether this queue of the server is known to exist."""
        return target in self._ready

    def is_bound(self, target: str) -> bool:
        """Whether delayed messages find this queue of the server."""
        return target in self._bound

    def ready(self, target: str, queue: str) -> None:
        """`target` exists; it is one of the queues of `queue`."""
        self._ready[target] = queue

    def bound(self, target: str) -> None:
        self._bound.add(target)

    def forget(self, queue: str) -> None:
        """It is not as it was: somebody has deleted it, one of its levels or an exchange."""
        self._places.pop(queue, None)
        for target in [each for each, of in list(self._ready.items()) if of == queue]:
            self._ready.pop(target, None)
            self._bound.discard(target)

    def forget_ladder(self) -> None:
        """A part of it is gone; the exchange in which it ends may be, and the bindings with it."""
        self.is_ladder_broken = self.has_ladder
        self.has_ladder = False
        self._bound.clear()

    def forget_all(self) -> None:
        """The server, or the vhost, may be another one."""
        self._places.clear()
        self._ready.clear()
        self.forget_ladder()
