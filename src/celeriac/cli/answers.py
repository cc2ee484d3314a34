"""How a task ended, as `result` and `call --wait` show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from celeriac.cli import exits
from celeriac.cli.screen import data, line, value_text, visible
from celeriac.errors import ResultTimeout

if TYPE_CHECKING:
    from celeriac import AsyncResult

_FAILED = ("FAILURE", "REVOKED")


def show_answer(result: AsyncResult[Any], *, timeout: float | None, traceback: bool, as_json: bool) -> int:
    """Wait, and print the value on standard output; of a failure, what went wrong on standard error.

    Args:
        result: Whose.
        timeout: Seconds; None waits as long as it takes.
        traceback: Also the worker's traceback.
        as_json: Print one JSON object in any case.

    Returns:
        0 for a success, 1 for a failure, 75 when it was not final in time.
    """
    try:
        value = result.get(timeout=timeout, propagate=False)
    except ResultTimeout as exc:
        if as_json:
            data({"id": result.id, "state": result.state, "info": result.info})
        click.echo(f"celeriac: {visible(str(exc))}", err=True)
        return exits.TEMPORARY
    state = result.state
    failed = state in _FAILED
    if as_json:
        shown: dict[str, Any] = {"id": result.id, "state": state}
        if failed:
            shown |= {"error": _kind(value), "message": str(value)}
        else:
            shown["result"] = value
        shown["date_done"] = result.date_done
        if traceback or failed:
            shown["traceback"] = result.traceback
        data(shown)
    elif failed:
        if traceback and result.traceback:
            click.echo(visible(result.traceback).rstrip(), err=True)
        click.echo(f"celeriac: task {result.id} ended as {state}: {_kind(value)}: {visible(str(value))}", err=True)
    else:
        line(value_text(value))
    return exits.FAILED if failed else exits.OK


def _kind(value: BaseException) -> str:
    """The class of the exception as the worker knew it."""
    return visible(getattr(value, "remote_type", None) or type(value).__name__)
