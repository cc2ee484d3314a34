"""A message on its way into a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from celeriac.clock import Clock
    from celeriac.model.limit import Admission, Unique


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """An encoded message on its way into a broker. The adapter stores `headers` and `body` without reading them."""

    id: str
    task: str
    """The task's name, for listings; never used to route."""
    queue: str
    headers: bytes
    """A JSON object in UTF-8 (a `model.Headers`)."""
    body: bytes
    priority: int = 0
    """0 to 9, higher sooner."""
    not_before: float | None = None
    """Wall-clock epoch seconds; None or the past: ready at once."""
    timer: float | None = None
    """Where `not_before` was reckoned from the sender's now: the same moment on the monotonic clock of its host. An
    engine that has a clock of its own keeps what is left until then: the sender's wall clock may be wrong, and step."""
    expires_at: float | None = None
    fresh: bool = False
    """The sender has just made this id and publishes it for the first time, so no store can know it: an adapter may
    skip looking for a double. Never set on a repeat."""
    native: bool = False
    """Only workers of this package know its task: where a queue is shared with others', it stays where they do not
    look."""
    exchange: str | None = None
    """Where it is published instead of to `queue` itself: the broker's bindings say which queues get a copy. Only on
    engines with exchanges of their own. Such a message has no `not_before`; one that is due later says so in its
    headers, and waits for its time in each queue that it reaches."""
    routing_key: str = ""
    """For `exchange`."""
    limit: Admission | None = None
    """What must hold before it is handed out; only where `traits.limits`. In a `Later`, None keeps what it had."""
    unique: Unique | None = None
    """Only where `traits.unique`, and only of a message that is published: a `Later` keeps its key, a successor has
    none."""

    def left_s(self, clock: Clock) -> float:
        """How long it waits from now on, in seconds; zero or less: no longer.

        Args:
            clock: Of its sender.
        """
        if self.not_before is None:
            return 0.0
        return self.not_before - clock.time() if self.timer is None else self.timer - clock.monotonic()
