"""A task message as this package sees it: Celery's protocol 2, metadata in headers, body `[args, kwargs, embed]`.

These are msgspec structs rather than dataclasses: a frozen dataclass of this width costs microseconds to build, a
struct a fraction of one, and one is built per task on both sides.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Headers(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Protocol 2 headers and the message properties that outlive a hop. Field meanings: docs/protocol.md.

    A field at its default is left out of the encoded form in stores of our own; adapters that share a queue with
    Celery write every one.
    """

    task: str
    id: str
    root_id: str | None = None
    """None: the task's own id."""
    parent_id: str | None = None
    group: str | None = None
    group_index: int | None = None
    shadow: str | None = None
    eta: str | None = None
    """ISO 8601 with offset."""
    expires: str | None = None
    """ISO 8601 with offset; not started after it."""
    retries: int = 0
    timelimit: tuple[float | None, float | None] | None = None
    """(hard, soft), seconds."""
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    origin: str | None = None
    ignore_result: bool | None = None
    """None: the task's own setting decides."""
    replaced_task_nesting: int = 0
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] = {}
    celery_beat_task: bool = False
    compression: str | None = None
    """MIME type of the body's compression."""
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    reply_to: str | None = None
    correlation_id: str | None = None
    """None: the task's id."""
    headers: dict[str, Any] = {}
    """Headers of the user's own; the task sees them as `request.headers`."""
    signature: str | None = None
    """Of all that is here but what only describes, and of the body: `codec.signing`."""


class Embed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The third part of a body: what follows the task. Signatures in wire form (protocol section 9.1)."""

    callbacks: list[dict[str, Any]] | None = None
    errbacks: list[dict[str, Any]] | None = None
    chain: list[dict[str, Any]] | None = None
    """In reverse: the last element is next."""
    chord: dict[str, Any] | None = None


EMPTY_EMBED = Embed()


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message with its place: what a producer hands to `engine.submit` and a worker gets back from the codec."""

    headers: Headers
    body: bytes
    """`[args, kwargs, embed]`, encoded and, where `headers.compression` says so, compressed."""
    queue: str
    priority: int = 0
    """0 to 9, higher sooner on every engine."""
    not_before: float | None = None
    """Wall-clock seconds since the epoch before which it is not handed out; None: at once."""
    expires_at: float | None = None
    """The same for `headers.expires`."""
