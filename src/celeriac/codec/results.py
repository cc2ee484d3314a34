"""The result meta: what a result store keeps of a task, in Celery's JSON (protocol 8.2)."""

from __future__ import annotations

from typing import Any

import msgspec


def _none() -> None:
    return None


def _no_children() -> list[Any]:
    return []


class ResultMeta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task's state and what it left. The first seven fields are always written, the others where they are set.

    Keys that are not listed here are passed over when read.
    """

    # a default made by a function is never omitted, and Celery's readers expect these keys
    status: str
    result: Any = msgspec.field(default_factory=_none)
    """The return value; in an exception state, what `encode_exception` made."""
    traceback: str | None = msgspec.field(default_factory=_none)
    children: list[Any] | None = msgspec.field(default_factory=_no_children)
    """Result tuples of what the task sent: `[[id, parent], null]`."""
    date_done: str | None = msgspec.field(default_factory=_none)
    """ISO 8601 in UTC; None until the state is final."""
    task_id: str
    group_id: str | None = None
    parent_id: str | None = None
    # with `result_extended`
    name: str | None = None
    args: Any = None
    kwargs: Any = None
    worker: str | None = None
    retries: int | None = None
    queue: str | None = None
    """The routing key."""
    sealed: str | None = None
    """Result, traceback and arguments, where they are encrypted; `result` says so then."""
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] = {}
    """By name; on the wire each stamp is a key beside the others, as Celery has it."""
