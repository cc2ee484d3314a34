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


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Something small that a workflow keeps under a name: the members of a saved group, the graph of a flow."""

    kind: str
    """`group` (on Redis in Celery's place and form), or a kind of our own of lower-case letters."""
    id: str
    payload: bytes
    expires_at: float | None = None
