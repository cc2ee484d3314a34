"""Names of keys, and how a message lies in one: everything that two processes must agree on."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import ConfigError
from celeriac.storage.redis.joins import JoinKeys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeriac.clock import Clock
    from celeriac.model import Outgoing

SEPARATOR: Final = "\x06\x16"
PRIORITY_STEPS: Final = (0, 3, 6, 9)
"""The priorities for which kombu has a list each; the first has the queue's own name. 0 is served first."""
_ORDERS: Final = ("round_robin", "priority", "sorted")
"""In which order queues are served within one priority: each first in turn; as given; by name."""
FOREIGN: Final = b"K"
"""The first byte of a stored message that is an envelope of kombu's, not read yet."""


class Stored(msgspec.Struct, array_like=True, frozen=True):
    """A message as it lies in the hash `m`: msgpack, an array, so that scripts find the priority in its second byte."""

    priority: int
    enqueued_at: float
    not_before: float | None
    expires_at: float | None
    task: str
    headers: bytes
    body: bytes


class Special(msgspec.Struct, array_like=True, frozen=True):
    """One that is limited or unique. Scripts know it by its first byte, and read no further than they must."""

    priority: int
    limit: tuple[str, int, float, int] | None
    """Key, how many at once (0: any number), milliseconds between starts (0: no rate), burst."""
    unique: tuple[str, int, bool] | None
    """Key, milliseconds, whether it is held only while the message waits."""
    enqueued_at: float
    not_before: float | None
    expires_at: float | None
    task: str
    headers: bytes
    body: bytes

    @property
    def limit_key(self) -> str | None:
        return None if self.limit is None else self.limit[0]


_encode = msgspec.msgpack.Encoder().encode
PLAIN: Final = _encode([None] * 7)[0]
"""The first byte of a stored message without terms."""
unpack: Final = msgspec.msgpack.Decoder(Stored).decode
unpack_special: Final = msgspec.msgpack.Decoder(Special).decode


def read(blob: bytes) -> Stored | Special:
    """A stored message, whatever lies there.

    What is none becomes one whose headers nobody can read: the engine buries it, with its bytes, and says why.
    """
    try:
        return unpack(blob) if blob[0] == PLAIN else unpack_special(blob)
    except (ValueError, RecursionError, IndexError):
        return Stored(0, 0.0, None, None, "?", blob, b"")


def text(raw: bytes) -> str:
    """An id or a name; of one that is not in UTF-8, the same bytes are sent again."""
    return str(raw, "utf-8", "surrogateescape")


def pack(message: Outgoing, now: float) -> bytes:
    """The stored form of a message that comes in at `now` (epoch seconds)."""
    limit, unique = message.limit, message.unique
    if limit is None and unique is None:
        return _encode(
            (
                message.priority,
                now,
                message.not_before,
                message.expires_at,
                message.task,
                message.headers,
                message.body,
            )
        )
    return _encode(
        (
            message.priority,
            None
            if limit is None
            else (limit.key, limit.concurrency or 0, 1000.0 * (limit.interval_s or 0.0), limit.burst),
            None if unique is None else (unique.key, max(1, ceil(unique.ttl_s * 1000.0)), unique.until == "start"),
            now,
            message.not_before,
            message.expires_at,
            message.task,
            message.headers,
            message.body,
        )
    )


def pack_around(message: Outgoing, now: float) -> bytes:
    """The stored form without the body, for the script that has it: what lay in a list of kombu's, whole."""
    return b"+" + pack(msgspec.structs.replace(message, body=b""), now)[:-2]


def millis(moment: float | None) -> str:
    """Epoch seconds as the scripts take them: whole milliseconds, rounded up, so that nothing is early; '' for None."""
    if moment is None:
        return ""
    scaled = moment * 1000.0
    whole = int(scaled)
    return str(whole + (whole < scaled))


def due(message: Outgoing, clock: Clock) -> str:
    """When a message is due, as the scripts take it: a moment, or `+` and so many milliseconds from the server's now.

    Args:
        message: Any.
        clock: Its sender's.
    """
    if message.timer is None:
        return millis(message.not_before)
    left_s = message.left_s(clock)
    return f"+{millis(left_s)}" if left_s > 0 else ""


class Space:
    """Queues that one script may touch together: all of them on one server; each by itself on a cluster."""

    __slots__ = ("_clock", "_results", "prefix", "root")

    def __init__(self, root: str, prefix: str, results: str, clock: Clock) -> None:
        self.root = root
        self.prefix = prefix
        self._results = results
        self._clock = clock

    def head(self) -> tuple[str, str, str, str]:
        """The first arguments of every script."""
        clock = self._clock
        # Servers and hosts disagree about the time: a real one is always the server's.
        now = "" if clock is SYSTEM_CLOCK else f"{clock.time() * 1000:.0f}"
        return self.root, self.prefix, self._results, now

    def base(self, queue: str) -> str:
        """What the keys of a queue begin with; the braces keep them in one slot."""
        return f"{self.root}{{{queue}}}"


class Layout:
    """All names.

    Args:
        key_prefix: Kombu's `global_keyprefix`: before every key, ours and kombu's.
        results: Prefix of result keys, where results lie on the same server; '' elsewhere.
        is_cluster: One space per queue.
        clock: As the broker's.
        options: Transport options; `sep`, `priority_steps` and `queue_order_strategy` are used.

    Raises:
        ConfigError: An option has a value that it cannot have.
    """

    def __init__(
        self, key_prefix: str, results: str, *, is_cluster: bool, clock: Clock, options: dict[str, Any] | None = None
    ) -> None:
        options = options or {}
        self.root = f"{key_prefix}celeriac:"
        self.key_prefix = key_prefix
        self.is_cluster = is_cluster
        self._results = "" if is_cluster else results
        self.joins = JoinKeys(results, is_cluster=False) if self._results else None
        self._clock = clock
        self._whole = Space(self.root, self.root, self._results, clock)
        separator = options.get("sep", SEPARATOR)
        steps: Sequence[int] = sorted(options.get("priority_steps", PRIORITY_STEPS))
        self.suffixes = tuple(f"{separator}{step}" if step else "" for step in steps)
        self._steps = steps
        self.order = options.get("queue_order_strategy", "round_robin")
        if self.order not in _ORDERS:
            raise ConfigError(
                f"broker_transport_options: queue_order_strategy={self.order!r} is none of {', '.join(_ORDERS)}"
            )

    @property
    def news(self) -> str:
        """The channel on which cancellations are announced."""
        return f"{self.root}news"

    @property
    def queues(self) -> str:
        """The set of all queues that were ever used."""
        return f"{self.root}queues"

    def space(self, queue: str) -> Space:
        """The space of a queue."""
        if not self.is_cluster:
            return self._whole
        return Space(self.root, f"{self.root}{{{queue}}}:", self._results, self._clock)

    def spaces(self, queues: Sequence[str]) -> list[tuple[Space, list[str]]]:
        """These queues by space; on one server there is one space, even of no queues."""
        if not self.is_cluster:
            return [(self._whole, list(queues))]
        return [(self.space(queue), [queue]) for queue in queues]

    def foreign_lists(self, queue: str) -> list[str]:
        """Kombu's lists of a queue, first served first."""
        return [f"{self.key_prefix}{queue}{suffix}" for suffix in self.suffixes]

    def foreign_list(self, queue: str, priority: int) -> str:
        """The list of kombu's for a message of this priority, which means what it means to Celery: 0 comes first."""
        step = max((step for step in self._steps if step <= priority), default=self._steps[0])
        return f"{self.key_prefix}{queue}{self.suffixes[self._steps.index(step)]}"
