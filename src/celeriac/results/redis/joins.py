"""Joins and records beside the results. The rules are in `storage/redis/joins.lua`, which the broker's scripts share.

<prefix>celery-taskset-meta-<id>.s .t .j .d .c   a join, as Celery counts a chord (protocol section 8.4)
<prefix>celery-taskset-meta-<id>.e               set: the members it was extended by
<prefix>celery-taskset-meta-<id>                 a record of kind `group`: a saved group of Celery's
<prefix>celeriac:<kind>:<id>                     any other record
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from celeriac.storage.redis import load
from celeriac.storage.redis.joins import JoinKeys, arriving

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from celeriac.model import Arrival, Join, Record
    from celeriac.storage.redis import Deployment

_T = TypeVar("_T")
_script: Final = partial(load, __package__ or "")
_MOST: Final = 500
"""Of one script, so that it stays short."""


class Joins:
    """What a result store keeps for workflows.

    Args:
        deployment: Where.
        prefix: Of the keys of results.

    On a cluster each join is in a slot of its own, and asked for by itself.
    """

    def __init__(self, deployment: Deployment, prefix: str) -> None:
        self._deployment = deployment
        self._keys = JoinKeys(prefix, is_cluster=deployment.is_cluster)
        self._most = 1 if deployment.is_cluster else _MOST

    def open(self, joins: Sequence[Join], /) -> None:
        """As `ResultStore.open_joins`."""
        for piece in self._cut(joins):
            keys = [self._keys.join(each.id) for each in piece]
            args = [arg for each in piece for arg in (each.size, _millis(each.expires_at))]
            self._deployment.run(_script("open"), keys, args, "open joins in")

    def arrive(self, arrivals: Sequence[Arrival], /) -> list[bool]:
        """As `ResultStore.arrive`."""
        joins: dict[str, list[Arrival]] = {}
        for arrival in arrivals:
            joins.setdefault(arrival.join, []).append(arrival)
        batches = [(join, members[at : at + _MOST]) for join, members in joins.items() for at in _starts(members)]
        complete: dict[str, bool] = {}
        for piece in self._cut(batches):
            args: list[Any] = []
            for _, members in piece:
                args += (_latest(members), len(members))
                for each in members:
                    args += arriving(each)
            keys = [self._keys.join(join) for join, _ in piece]
            reply = self._deployment.run(_script("arrive"), keys, args, "count members of joins in")
            complete.update((join, answer == ord("1")) for (join, _), answer in zip(piece, reply, strict=True))
        return [complete[arrival.join] for arrival in arrivals]

    def extend(self, join: str, member: str, /) -> None:
        """As `ResultStore.extend_join`. One that is complete already stays so: what follows it is on its way, with the
        members that it had; this one arrives for nobody.
        """
        self._deployment.run(_script("extend"), (self._keys.join(join),), (member,), "extend a join in")

    def members(self, join: str, /) -> list[bytes] | None:
        """As `ResultStore.members`."""
        reply = self._deployment.run(_script("members"), (self._keys.join(join),), (), "read a join of")
        # blanks tell members apart that have the same payload
        return None if reply is None else [each.rstrip(b" ") if each[:1] == b"[" else each for each in reply]

    def close(self, ids: Sequence[str], /) -> None:
        """As `ResultStore.aclose_joins`."""
        for piece in self._cut(ids):
            self._deployment.run(_script("shut"), [self._keys.join(each) for each in piece], (), "close joins of")

    def save(self, records: Sequence[Record], /) -> None:
        """As `ResultStore.save`."""
        for piece in self._cut(records):
            keys = [self._keys.record(each.kind, each.id) for each in piece]
            args = [arg for each in piece for arg in (each.payload, _millis(each.expires_at))]
            self._deployment.run(_script("save"), keys, args, "write records to")

    def load(self, kind: str, ids: Collection[str], /) -> Mapping[str, bytes]:
        """As `ResultStore.load`."""
        found: dict[str, bytes] = {}
        for piece in self._cut(list(ids)):
            keys = [self._keys.record(kind, each) for each in piece]
            values = self._deployment.call("read records of", "MGET", *keys)
            found.update((each, value) for each, value in zip(piece, values, strict=True) if value is not None)
        return found

    def discard(self, kind: str, ids: Sequence[str], /) -> None:
        """As `ResultStore.discard`."""
        for piece in self._cut(ids):
            self._deployment.call("delete records of", "UNLINK", *(self._keys.record(kind, each) for each in piece))

    def _cut(self, things: Sequence[_T]) -> list[Sequence[_T]]:
        return [things[at : at + self._most] for at in range(0, len(things), self._most)]


def _starts(members: Sequence[Arrival]) -> range:
    return range(0, len(members), _MOST)


def _latest(arrivals: Sequence[Arrival]) -> int | str:
    ends = [each.expires_at for each in arrivals if each.expires_at is not None]
    return _millis(max(ends)) if len(ends) == len(arrivals) else ""


def _millis(moment: float | None) -> int | str:
    return "" if moment is None else math.ceil(moment * 1000)
