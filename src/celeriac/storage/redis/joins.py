"""Names of joins and records, which the broker's scripts and the result store's must agree on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from celeriac.model import Arrival

_TASK: Final = "celery-task-meta-"
_GROUP: Final = "celery-taskset-meta-"


class JoinKeys:
    """Names, next to those of results.

    Args:
        results: What the keys of results begin with; Celery's end in `celery-task-meta-`.
        is_cluster: Braces keep a join in one slot. Celery knows no such names, so it shares no joins there.
    """

    __slots__ = ("_head", "_root", "_tail")

    def __init__(self, results: str, *, is_cluster: bool) -> None:
        self._root = results.removesuffix(_TASK)
        brace, self._tail = ("{", "}") if is_cluster else ("", "")
        self._head = f"{self._root}{_GROUP}{brace}"

    def join(self, join_id: str) -> str:
        """What the keys of a join begin with; by itself, the key of a saved group."""
        return f"{self._head}{join_id}{self._tail}"

    def record(self, kind: str, record_id: str) -> str:
        """The key of a record."""
        return self.join(record_id) if kind == "group" else f"{self._root}celeriac:{kind}:{record_id}"


def arriving(arrival: Arrival) -> tuple[str, int | str, bytes]:
    """A member as `joins.arrive` takes it: name, position as Celery writes it, payload."""
    place = "+inf" if arrival.position is None else arrival.position
    return f"{arrival.member}:{place}", place, arrival.payload
