"""One incarnation as this process knows it: its consumer, and the outcomes that may only be settled under it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from celeriac.interfaces import Committer

if TYPE_CHECKING:
    from celeriac.interfaces import Consumer
    from celeriac.model import Cancellation, Delivery, Outcome


class Lease:
    """Everything claimed under one incarnation carries it; once `lost`, all of that is void but what was committed."""

    __slots__ = ("cancelled", "committed", "committer", "consumer", "done", "halted", "lost", "postponed")

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.done: deque[Outcome] = deque()
        """Outcomes on their way to the broker, appended by runners."""
        self.halted = False
        """Nothing may start under it any more: it is lost, or the process is leaving."""
        self.lost = False
        self.cancelled: dict[str, Cancellation] = {}
        """Orders not to run, or to stop, what is held here."""
        self.committer: Committer | None = consumer if isinstance(consumer, Committer) else None
        self.committed: dict[str, Delivery] = {}
        """Taken out of their queues for good and not settled yet. Their outcomes outlive the lease."""
        self.postponed: set[str] = set()
        """Ids of those outcomes that are of no run: their tasks wait for a rate limit."""


def safe_until(before: float, lease_s: float) -> float:
    """The end of a lease that was renewed by a call sent at `before`, less a tenth for what clocks may differ."""
    return before + lease_s * 0.9
