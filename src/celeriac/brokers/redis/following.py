"""What follows the deliveries that one script ends, as `settle_workflow.lua` reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeriac.brokers.redis.layout import millis
from celeriac.storage.redis.joins import arriving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celeriac.model import Arrival, Outgoing, Workflow
    from celeriac.storage.redis.joins import JoinKeys


class Following:
    """Collects it, record by record.

    Args:
        successor: The five arguments of a message.
        keys: Names of joins and records; None where no workflow is carried out.

    Arrivals are put together by join: a chord's members mostly end together, and the message that follows them all is
    written once, not once for each.
    """

    __slots__ = ("_arrivals", "_closed", "_first", "_keys", "_successor")

    def __init__(self, successor: Callable[[Outgoing], tuple[Any, ...]], keys: JoinKeys | None) -> None:
        self._successor = successor
        self._keys = keys
        self._first: list[Any] = []
        self._arrivals: dict[str, list[tuple[int, Arrival]]] = {}
        self._closed: list[Any] = []

    def begin(self, record: int, workflow: Workflow) -> None:
        """What comes before its successors; `record` is the number of its record, from 1."""
        assert self._keys is not None
        args = self._first
        for result in workflow.results:
            args += ("R", record, result.id, result.state, result.payload, millis(result.expires_at))
        for each in workflow.records:
            args += ("K", record, self._keys.record(each.kind, each.id), each.payload, millis(each.expires_at))
        for join in workflow.joins:
            args += ("J", record, self._keys.join(join.id), join.size, millis(join.expires_at))

    def send(self, record: int, messages: Sequence[Outgoing]) -> None:
        """Its successors."""
        for message in messages:
            self._first += ("S", record, *self._successor(message))

    def end(self, record: int, workflow: Workflow) -> None:
        """What comes behind its successors."""
        assert self._keys is not None
        for arrival in workflow.arrivals:
            self._arrivals.setdefault(arrival.join, []).append((record, arrival))
        for join in workflow.closed:
            self._closed += ("C", record, self._keys.join(join))

    def args(self) -> list[Any]:
        """All of it; empty when nothing follows."""
        args = self._first
        for join, arrivals in self._arrivals.items():
            assert self._keys is not None
            release = self._successor(arrivals[-1][1].release)
            ends = [arrival.expires_at for _, arrival in arrivals]
            at = "" if None in ends else millis(max(each for each in ends if each is not None))
            args += ("A", 0, self._keys.join(join), at, *release, len(arrivals))
            for record, arrival in arrivals:
                args += (record, *arriving(arrival))
        return args + self._closed
