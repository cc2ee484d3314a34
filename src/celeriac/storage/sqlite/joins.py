"""Joins and records in the database. The broker does this within its settlements, the result store by itself.

Each function wants a connection, in a transaction of its caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.storage.sqlite.rules import MAY_FOLLOW, its_state, may_come
from celeriac.storage.sqlite.statements import load

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from celeriac.model import Arrival, Join, Outgoing, Record

JOINS: Final = load(
    __package__ or "",
    "joins.sql",
    may_follow=MAY_FOLLOW.replace("/*now*/", "NEW.now"),
    may_come=may_come("json_extract(value, '$[2]')", "NEW.now"),
    its_state=its_state("json_extract(value, '$[6]')", "json_extract(value, '$[2]')", "NEW.now"),
)

CLOSED_KEPT_S: Final = 3600.0
"""A join that is closed is known at least so long."""
_ENDLESS_KEPT_S = 86_400.0
"""The same for one that had no end of its own."""
_MEMBERS_AT_ONCE: Final = 20_000
"""Members that are deleted in one transaction; the rest goes when the join does."""

_NOWHERE: Final = 1 << 62
"""The position of a member that has none: behind all others."""

_encode = msgspec.json.Encoder().encode


class Arrivals:
    """What arrives in one transaction, by join, in the form that the trigger takes."""

    __slots__ = ("joins", "members", "payloads", "releases")

    def __init__(self, arrivals: Iterable[Arrival]) -> None:
        self.releases: dict[str, Outgoing] = {}
        """What each of these joins publishes."""
        self.joins: dict[str, list[Any]] = {}
        members: dict[str, list[tuple[int, str, int, int]]] = {}
        payloads: list[bytes] = []
        offset = 1
        seen = set()
        for arrival in arrivals:
            join = arrival.join
            member = arrival.member
            position = _NOWHERE if arrival.position is None else arrival.position
            if (join, position, member) in seen:
                continue
            seen.add((join, position, member))
            facts = self.joins.get(join)
            if facts is None:
                self.joins[join] = [join, arrival.expires_at]
                members[join] = []
                self.releases[join] = arrival.release
            elif facts[1] is not None and (arrival.expires_at is None or arrival.expires_at > facts[1]):
                facts[1] = arrival.expires_at
            size = len(arrival.payload)
            members[join].append((position, member, offset, size))
            payloads.append(arrival.payload)
            offset += size
        self.members = _encode(list(members.items())).decode()
        self.payloads = b"".join(payloads)

    def parameters(self, now: float, contents: bytes = b"") -> tuple[object, ...]:
        """For the statement `arrive`."""
        return now, _encode(list(self.joins.values())).decode(), self.members, self.payloads, contents


def prepare_arrivals(link: sqlite3.Connection) -> None:
    """Make the view `arriving` on this connection, unless it is there."""
    link.execute(JOINS["arriving"])
    link.execute(JOINS["arriving_trigger"])


def joins_among(link: sqlite3.Connection, statement: str, joins: Iterable[str]) -> set[str]:
    """Those joins that are `complete`, `unreleased` (complete and nothing published) or `released`."""
    return {join for (join,) in link.execute(JOINS[statement], (_encode(list(joins)).decode(),)).fetchall()}


def open_joins(link: sqlite3.Connection, joins: Iterable[Join], now: float) -> None:
    """Open joins that are not open, nor closed; one whose time is over is gone."""
    for join in joins:
        for (number,) in link.execute(JOINS["join_that_is_over"], (join.id, now)).fetchall():
            link.execute(JOINS["drop_members"], (number, -1))
            _drop_join(link, number)
        link.execute(JOINS["open_join"], (join.id, join.size, join.expires_at))


def extend_join(link: sqlite3.Connection, join: str, member: str) -> None:
    """Make an open join wait for one more member, once. One that has published its message does not wait again."""
    if link.execute(JOINS["note_extension"], (join, member)).rowcount:
        link.execute(JOINS["extend_join"], (join,))


def close_joins(link: sqlite3.Connection, ids: Iterable[str], now: float) -> None:
    """Close joins and drop their members."""
    for join in ids:
        parameters = (join, now + CLOSED_KEPT_S, now + _ENDLESS_KEPT_S)
        ((number,),) = link.execute(JOINS["close_join"], parameters).fetchall()
        link.execute(JOINS["drop_members"], (number, _MEMBERS_AT_ONCE))
        link.execute(JOINS["drop_extensions"], (number,))


def expire_joins(link: sqlite3.Connection, now: float, limit: int) -> tuple[int, bool]:
    """Delete joins whose time is over; returns how many, and whether there was more to drop than fits into one go."""
    over = link.execute(JOINS["joins_that_are_over"], (now, limit)).fetchall()
    dropped, room = 0, _MEMBERS_AT_ONCE
    for (number,) in over:
        room -= link.execute(JOINS["drop_members"], (number, room)).rowcount
        if room <= 0:
            return dropped, True
        _drop_join(link, number)
        dropped += 1
    return dropped, False


def _drop_join(link: sqlite3.Connection, number: int) -> None:
    link.execute(JOINS["drop_extensions"], (number,))
    link.execute(JOINS["drop_join"], (number,))


def save_records(link: sqlite3.Connection, records: Iterable[Record]) -> None:
    """Write records over what is there."""
    link.executemany(JOINS["save"], [(each.kind, each.id, each.payload, each.expires_at) for each in records])
