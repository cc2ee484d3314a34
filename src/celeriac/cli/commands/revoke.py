"""`celeriac revoke`: forbid tasks to start."""

from __future__ import annotations

import signal as signals

import click

from celeriac.cli import screen
from celeriac.cli.root import Command
from celeriac.cli.session import session
from celeriac.model import Cancelled


def _signal(context: click.Context, parameter: click.Parameter, value: str) -> str:
    name = value.upper() if value.upper().startswith("SIG") else f"SIG{value.upper()}"
    if name not in signals.Signals.__members__:
        raise click.BadParameter(f"{value!r} is no signal of this system; write TERM, KILL or INT", context, parameter)
    return name


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  celeriac -A shop revoke 0f6a…
  celeriac -A shop revoke 0f6a… 77b1… --terminate
  celeriac -A shop revoke 0f6a… --terminate --signal KILL

The order is durable: it also holds for workers that start later.""",
)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--terminate", is_flag=True, help="Also stop those that run.")
@click.option(
    "--signal", callback=_signal, default="SIGTERM", show_default=True, help="What --terminate sends to the process."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, ids: tuple[str, ...], terminate: bool, signal: str, as_json: bool) -> None:
    """Forbid the tasks ID... to start, on every worker."""
    app = session().shared_app
    answers = app.control.revoke(ids, terminate=terminate, signal=signal)
    if as_json:
        screen.data({task_id: answer.value for task_id, answer in answers.items()})
        return
    where = "is with a worker" if app.broker.traits.shows_all else "waits, is with a worker"
    words = {
        Cancelled.REMOVED: "removed: it was waiting and will not run",
        Cancelled.MARKED: f"marked: it {where}, has ended, or is not known yet; it will not start from now on",
    }
    for task_id, answer in answers.items():
        screen.line(f"{task_id}  {words[answer]}")
