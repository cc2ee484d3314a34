"""`celeriac result`: wait for a task and print what it returned."""

from __future__ import annotations

import click

from celeriac.cli.answers import show_answer
from celeriac.cli.root import Command
from celeriac.cli.session import session


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  celeriac -A shop result 0f6a…                 waits until it has ended
  celeriac -A shop result 0f6a… --timeout 0     only looks
  total=$(celeriac -q -A shop result 0f6a…) || echo failed

\b
Exit code: 0 it succeeded, 1 it failed or was revoked, 75 it has not ended in time.""",
)
@click.argument("task_id", metavar="ID")
@click.option("-t", "--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Wait no longer.")
@click.option("--traceback", is_flag=True, help="When it failed, print the worker's traceback.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, task_id: str, timeout: float | None, traceback: bool, as_json: bool) -> int:
    """Wait for the result of the task ID and print it."""
    result = session().shared_app.AsyncResult(task_id)
    return show_answer(result, timeout=timeout, traceback=traceback, as_json=as_json)
