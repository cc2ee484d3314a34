"""Joins and records in this process's memory, as plain data; what they mean is said in `model.workflow`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from celeriac.model import Arrival, Join, Outgoing, Record

CLOSED_KEPT_S = 3600.0
"""How long a closed join is remembered at least, so that whoever arrives late changes nothing."""
_LAST = float("inf")


class _OpenJoin:
    __slots__ = ("expires_at", "extra", "is_fired", "members", "size")

    def __init__(self) -> None:
        self.size: int | None = None
        self.extra: set[str] = set()
        self.members: dict[tuple[str, int | None], bytes] = {}
        self.expires_at: float | None = 0.0
        self.is_fired = False

    @property
    def is_complete(self) -> bool:
        return self.size is not None and len(self.members) >= self.size + len(self.extra)


class WorkflowTable:
    """Every method wants the space's lock held; `now` is wall-clock epoch seconds."""

    __slots__ = ("_closed", "_joins", "_records")

    def __init__(self) -> None:
        self._joins: dict[str, _OpenJoin] = {}
        self._closed: dict[str, float] = {}
        self._records: dict[tuple[str, str], Record] = {}

    def open(self, joins: Iterable[Join], now: float) -> None:
        for each in joins:
            join = self._join(each.id, each.expires_at, now)
            if join is not None and join.size is None:
                join.size = each.size

    def arrive(self, arrival: Arrival, now: float) -> bool:
        """Let a member arrive; whether its join is complete, as often as somebody asks."""
        join = self._join(arrival.join, arrival.expires_at, now)
        if join is None:
            return False
        join.members.setdefault((arrival.member, arrival.position), arrival.payload)
        return join.is_complete

    def settle(self, arrivals: Iterable[Arrival], now: float) -> list[Outgoing]:
        """Let members arrive; the releases of the joins that they complete, each once."""
        released = []
        for arrival in arrivals:
            if self.arrive(arrival, now) and not (join := self._joins[arrival.join]).is_fired:
                join.is_fired = True
                released.append(arrival.release)
        return released

    def extend(self, join_id: str, member: str, now: float) -> None:
        join = self._join(join_id, now, now)
        if join is not None:
            join.extra.add(member)

    def members(self, join_id: str, now: float) -> list[bytes] | None:
        join = self._joins.get(join_id)
        if join is None or join.size is None or _is_over(join.expires_at, now):
            return None
        arrived = sorted(join.members.items(), key=lambda item: _LAST if item[0][1] is None else item[0][1])
        return [payload for _, payload in arrived]

    def close(self, ids: Iterable[str], now: float) -> None:
        for join_id in ids:
            join = self._joins.pop(join_id, None)
            until = None if join is None else join.expires_at
            self._closed[join_id] = max(until or 0.0, now + CLOSED_KEPT_S)

    def save(self, records: Iterable[Record]) -> None:
        for record in records:
            self._records[record.kind, record.id] = record

    def load(self, kind: str, ids: Collection[str], now: float) -> dict[str, bytes]:
        found = {}
        for each in ids:
            record = self._records.get((kind, each))
            if record is not None and not _is_over(record.expires_at, now):
                found[each] = record.payload
        return found

    def discard(self, kind: str, ids: Iterable[str]) -> None:
        for each in ids:
            self._records.pop((kind, each), None)

    def expire(self, limit: int, now: float) -> int:
        """Drop at most `limit` whose time is over."""
        joins = [key for key, join in self._joins.items() if _is_over(join.expires_at, now)][:limit]
        for join_id in joins:
            del self._joins[join_id]
        records = [key for key, record in self._records.items() if _is_over(record.expires_at, now)]
        records = records[: limit - len(joins)]
        for key in records:
            del self._records[key]
        for join_id in [key for key, until in self._closed.items() if until <= now]:
            del self._closed[join_id]
        return len(joins) + len(records)

    def _join(self, join_id: str, expires_at: float | None, now: float) -> _OpenJoin | None:
        """The open join of an id, made if need be and kept until `expires_at` at least; None: it is closed."""
        if join_id in self._closed:
            return None
        join = self._joins.get(join_id)
        if join is None or (join.expires_at != 0.0 and _is_over(join.expires_at, now)):
            join = self._joins[join_id] = _OpenJoin()
        if join.expires_at is not None:
            join.expires_at = None if expires_at is None else max(join.expires_at, expires_at)
        return join


def _is_over(expires_at: float | None, now: float) -> bool:
    return expires_at is not None and expires_at <= now
