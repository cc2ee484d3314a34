"""What lies ready in this process, by the server's queue it came from."""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from celeriac.brokers.amqp.parking import Ages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from celeriac.brokers.amqp.topology import Source
    from celeriac.storage.amqp import Arrived, Channel


DOUBT_S: Final = 1.0
_MOST_DOUBT_S: Final = 60.0


class Lane:
    """One of the server's queues, as it is consumed: awake while the server sends us its messages, else asleep."""

    __slots__ = (
        "ages",
        "base",
        "broken",
        "buffer",
        "channel",
        "has_exit",
        "head",
        "head_since",
        "heard",
        "held",
        "is_copy",
        "is_fleeting",
        "is_retired",
        "last_tag",
        "level",
        "name",
        "patience_s",
        "peers",
        "prefetch",
        "queue",
        "quiet_since",
        "seen_at",
        "source",
        "tag",
        "unwanted",
        "wanted",
    )

    def __init__(self, source: Source, channel: Channel, base: int) -> None:
        self.source = source
        self.channel = channel
        """Its own: once its queue was deleted under it, the server may lose what it sends over this one."""
        self.base = base
        """What the tags of its deliveries begin at, unlike any other's in this process."""
        self.last_tag = 0
        """The newest delivery."""
        self.ages = Ages()
        self.is_retired = False
        """Another has taken its place; what is held of it is still settled."""
        self.name = source.name
        """The server's."""
        self.queue = source.queue
        self.level = source.level
        self.is_copy = source.kind == "broadcast"
        self.is_fleeting = source.is_fleeting
        """Deleted by the server when it sleeps, with what is in it; so it never does."""
        self.has_exit = source.has_exit
        """Its declaration says where its dead letters go (`x-dead-letter-exchange`): the server takes them there."""
        self.buffer: deque[Arrived] = deque()
        """Sent to us and not claimed yet, oldest first."""
        self.held = 0
        """Claimed and not settled."""
        self.prefetch = 0
        """Of the consumer that there is now; 0: none, the lane sleeps."""
        self.wanted = 0
        """Of the consumer that there should be."""
        self.unwanted = False
        """Whether what lies here goes back."""
        self.tag: str | None = None
        """Of the consumer."""
        self.head: Arrived | None = None
        self.head_since = 0.0
        """How long the first one of the buffer has been the first."""
        self.heard = False
        """Whether something has arrived since somebody looked at this."""
        self.quiet_since = 0.0
        self.patience_s = DOUBT_S
        """How long it may be quiet before the server is asked whether that is right."""
        self.seen_at = float("-inf")
        """When it was last made sure, while it slept, that it exists."""
        self.peers = 0
        """How many consumers its queue had when the server was asked last."""
        self.broken: Exception | None = None
        """Why it cannot be consumed at the moment."""

    @property
    def copies(self) -> str:
        """The server's queue, where it is this node's own: its copy of a message is nobody else's affair."""
        return self.name if self.is_copy else ""

    def put_back(self, arrived: Sequence[Arrived]) -> None:
        """In the order of arrival: most of what is there now came after them."""
        buffer = self.buffer
        if buffer and arrived[-1].delivery_tag > buffer[0].delivery_tag:
            self.buffer = deque(sorted([*arrived, *buffer], key=attrgetter("delivery_tag")))
        else:
            buffer.extendleft(reversed(arrived))

    def rest(self) -> None:
        """To sleep, and to be emptied; as far as may be."""
        self.wanted = 1 if self.is_fleeting else 0
        self.unwanted = not self.is_fleeting

    def wake(self, wanted: int) -> bool:
        """To be awake; whether that changes anything."""
        self.wanted = wanted
        self.unwanted = False
        return wanted != self.prefetch

    def is_doubtful(self, now: float) -> bool:
        """Whether it is awake, has room, and nothing has come for long. To be asked now and then."""
        if self.heard or not self.prefetch or self.prefetch != self.wanted:
            if self.heard:
                self.patience_s = DOUBT_S
            self.heard, self.quiet_since = False, now
            return False
        if now - self.quiet_since < self.patience_s or self.held + len(self.buffer) >= self.prefetch:
            return False
        self.quiet_since = now
        return True

    def doubt_less(self) -> None:
        """It was consumed anew for no reason, perhaps."""
        self.patience_s = min(2.0 * self.patience_s, _MOST_DOUBT_S)

    def is_stale(self, now: float, patience_s: float) -> bool:
        """Whether nobody has claimed the first one for so long. To be asked now and then."""
        head = self.buffer[0] if self.buffer else None
        if head is not self.head:
            self.head, self.head_since = head, now
        return head is not None and now - self.head_since > patience_s


class Lanes:
    """All of a consumer's, in the order in which they are served."""

    def __init__(self) -> None:
        self.all: list[Lane] = []
        self.retired: list[Lane] = []
        self._levels: list[list[Lane]] = []
        self._turn = 0

    def set(self, lanes: Sequence[Lane]) -> None:
        """These, queues in this order."""
        self.all = list(lanes)
        levels: dict[int, list[Lane]] = {}
        for lane in self.all:
            levels.setdefault(lane.level, []).append(lane)
        self._levels = [levels[level] for level in sorted(levels, reverse=True)]

    def replace(self, old: Lane, new: Lane) -> None:
        """Let `new` take the place of `old`."""
        old.is_retired = True
        self.retired.append(old)
        self.set([new if each is old else each for each in self.all])

    def turn(self) -> None:
        """Begin with the next queue: none starves."""
        self._turn += 1

    def __iter__(self) -> Iterator[Lane]:
        turn = self._turn
        for lanes in self._levels:
            start = turn % len(lanes)
            if start:
                yield from lanes[start:]
                yield from lanes[:start]
            else:
                yield from lanes

    def buffered(self) -> list[tuple[Lane, Arrived]]:
        """Take everything that nobody has claimed."""
        found: list[tuple[Lane, Any]] = []
        for lane in (*self.all, *self.retired):
            found += [(lane, each) for each in lane.buffer]
            lane.buffer.clear()
        return found
