"""Whether a step runs, once everything it waits for has ended: failures travel along edges until a policy takes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.errors import FlowError
from celeriac.flow.records import CANCELLED, PARTIAL, SKIPPED, UPSTREAM_FAILED, Arrived, Partial
from celeriac.model.states import FAILURE, SUCCESS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeriac.flow.graph import Hole, Input, Node


class Ready(msgspec.Struct, frozen=True):
    """It runs, with these arguments."""

    args: list[Any]
    kwargs: dict[str, Any]


class NotRun(msgspec.Struct, frozen=True):
    """It does not run, and this goes down its edges."""

    state: str
    error: Any = None
    step: str = ""


def judge(node: Node, arrived: Sequence[Arrived]) -> Ready | NotRun:
    """Apply the policies of a step's edges to what came down them.

    Args:
        node: The step.
        arrived: By position, one for each of its inputs.
    """
    values: list[Any] = []
    failed: NotRun | None = None
    skipped = False
    for one, came in zip(node.inputs, arrived, strict=True):
        value = _value(one, came, wants_error=node.of is not None)
        if isinstance(value, NotRun):
            if value.state == SKIPPED:
                skipped = True
            elif failed is None or (failed.state != CANCELLED and value.state == CANCELLED):
                failed = value
            value = None
        values.append(value)
    if failed is not None:
        return failed
    if skipped and node.kind != "end":
        return NotRun(SKIPPED)
    whole: dict[str | int, Any] = {"args": list(node.args), "kwargs": dict(node.kwargs)}
    for hole in node.holes:
        _fill(whole, hole, values[hole.position])
    return Ready(whole["args"], whole["kwargs"])


def _value(one: Input, came: Arrived, *, wants_error: bool) -> Any:
    state = came.state
    if wants_error:
        return _told(came) if state in (FAILURE, UPSTREAM_FAILED, PARTIAL) else NotRun(state, came.value, came.step)
    if state == SUCCESS:
        return came.value
    if state == CANCELLED:
        return NotRun(CANCELLED, came.value, came.step)
    if state == PARTIAL:
        return _of_elements(one, msgspec.convert(came.value, Partial), came.step)
    if one.policy == "default" and not one.each:
        return one.default
    if one.policy == "skip" or state == SKIPPED:
        return NotRun(SKIPPED)
    return NotRun(UPSTREAM_FAILED, came.value, came.step)


def _of_elements(one: Input, partial: Partial, step: str) -> Any:
    if one.policy == "fail":
        return NotRun(UPSTREAM_FAILED, partial.error, step)
    failed = set(partial.failed)
    if one.policy == "skip":
        return [value for place, value in enumerate(partial.values) if place not in failed]
    return [one.default if place in failed else value for place, value in enumerate(partial.values)]


def _told(came: Arrived) -> dict[str, Any]:
    """A failure as the plain value that a compensating task is given."""
    error = came.value if came.state != PARTIAL else msgspec.convert(came.value, Partial).error
    return {**error_facts(error), "step": came.step}


def error_facts(error: Any) -> dict[str, Any]:
    """The type and message in what `encode_exception` made."""
    if not isinstance(error, dict) or "exc_type" not in error:
        return {"type": "Exception", "message": str(error)}
    message = error.get("exc_message")
    parts = message if isinstance(message, (list, tuple)) else [message]
    return {"type": str(error["exc_type"]), "message": ", ".join(str(part) for part in parts if part is not None)}


def _fill(whole: dict[str | int, Any], hole: Hole, value: Any) -> None:
    at: Any = whole
    *steps, last = hole.path
    for step in steps:
        # the boxes on the way belong to the node, which may be used again: copy them
        box = at[step]
        box = dict(box) if isinstance(box, dict) else list(box)
        at[step] = box
        at = box
    at[last] = value


def check_over(node: Node, value: Any, most: int) -> list[Any]:
    """What a step runs over.

    Raises:
        TypeError: It is no list.
        FlowError: It has too many elements.
    """
    if not isinstance(value, (list, tuple)):
        raise TypeError(
            f"step {node.name!r} runs for each element of a list, and what it was given is {type(value).__name__} "
            f"{value!r:.80}"
        )
    if len(value) > most:
        raise FlowError(
            f"step {node.name!r} would run over {len(value):,} elements; the most is {most:,} (setting flow_max_steps)"
        )
    return list(value)
