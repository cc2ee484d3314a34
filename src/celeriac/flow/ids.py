"""The ids of all that belongs to a run: functions of its id, so that whatever is repeated is the same again."""

from __future__ import annotations

import uuid

_NAMESPACE = uuid.UUID("0d1f6f0a-6c52-5d43-8f9e-5a1a7f3f2c11")


def task_id(run: str, step: int, generation: int, element: int | None = None) -> str:
    """Of a step's task, of one of its elements, and of the run of a step that is a flow."""
    return _id(run, step, generation, "" if element is None else element)


def message_id(run: str, *what: object) -> str:
    """Of one of the messages that drive a run."""
    return _id(run, *what)


def undo_id(run: str, step: int, generation: int, element: int | None = None) -> str:
    """Of the task that undoes a step, or one of its elements."""
    return _id(run, "undo", step, generation, "" if element is None else element)


def join_id(run: str, step: int, generation: int, what: str = "") -> str:
    """Of what a step waits for; `what`: `each` for its elements, `undo` for those that undo it."""
    return f"{run}:{step}:{generation}{':' if what else ''}{what}"


def begin_id(run: str, generation: int) -> str:
    """Of the join that keeps a generation from beginning twice."""
    return f"{run}:begin:{generation}"


def record_id(run: str, step: int) -> str:
    """Of a step's record."""
    return f"{run}:{step}"


def each_id(run: str, step: int, generation: int) -> str:
    """Of the record that says how many elements a step runs over."""
    return f"{run}:{step}:{generation}"


def flag_id(run: str, generation: int) -> str:
    """Of the record that says that a generation was cancelled."""
    return f"{run}:cancelled:{generation}"


def outcome_id(run: str, generation: int) -> str:
    """Of the record that says how a generation ends."""
    return f"{run}:{generation}"


def _id(run: str, *parts: object) -> str:
    return str(uuid.uuid5(_NAMESPACE, ":".join((run, *map(str, parts)))))
