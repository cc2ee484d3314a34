"""What holds a workflow together in the stores: joins, the members that arrive at them, and records.

A *join* waits for a known number of members and then publishes one message, once. A chord's header is one, and so is
each step of a flow with what it waits for. Members are kept by position, not counted: one that is delivered twice, or
finishes on two workers, arrives once.
"""

from __future__ import annotations

import msgspec

from celeriac.model.outgoing import Outgoing
from celeriac.model.stored import Record, StoredResult


class Join(msgspec.Struct, frozen=True, kw_only=True):
    """Opens a join. Opening one that is open or closed already changes nothing, so it may be repeated."""

    id: str
    """A group's id, for a chord."""
    size: int
    """How many members arrive. One that nobody has opened yet keeps what arrives, and waits."""
    expires_at: float | None = None
    """Wall-clock epoch seconds after which the store may drop it; None keeps it."""


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """One member of a join that has ended, well or not."""

    join: str
    member: str
    """The member's task id."""
    position: int | None
    """Its place among the members, from 0; None: behind all that have one, in order of arrival. A second arrival of
    one member at one position changes nothing: the first stays."""
    payload: bytes
    """What the join keeps of it, in Celery's form: `[1, task id, state, result]`, encoded."""
    release: Outgoing
    """Published when this member is the last. Its id is a function of the join's."""
    expires_at: float | None = None
    """Wall-clock epoch seconds until which the join is kept at least; None keeps it."""


class Workflow(msgspec.Struct, frozen=True, kw_only=True):
    """What the end of a task changes in workflows, beside its own result and the messages that follow it.

    It belongs to an outcome, and is carried out in its order: results, records, joins, successors, arrivals, closed.
    """

    results: tuple[StoredResult, ...] = ()
    """Of other tasks: those of a chain that will not run, for example. Written where the store may."""
    records: tuple[Record, ...] = ()
    joins: tuple[Join, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    closed: tuple[str, ...] = ()
    """Joins that are done with: their members are dropped, and whoever still arrives changes nothing."""
