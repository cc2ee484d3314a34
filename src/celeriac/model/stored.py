"""What a result store keeps."""

from __future__ import annotations

import msgspec


class StoredResult(msgspec.Struct, frozen=True, kw_only=True):
    """A task's state and result as a result store keeps them."""

    id: str
    state: str
    payload: bytes
    """The result meta: a JSON object in Celery's form (protocol section 8.2)."""
    expires_at: float | None = None
    """Wall-clock epoch seconds after which the store may drop it; None keeps it."""
    reply_to: str | None = None
    """Where the sender of the task waits for it, as the task's message says; of interest to a `Mailbox` only."""
    correlation_id: str | None = None
    """What the sender knows the task by; None: its id."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Something small that a workflow keeps under a name: the members of a saved group, the graph of a flow."""

    kind: str
    """`group` (on Redis in Celery's place and form), or a kind of our own of lower-case letters."""
    id: str
    payload: bytes
    expires_at: float | None = None
