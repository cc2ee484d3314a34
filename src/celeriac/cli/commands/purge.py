"""`celeriac purge`: delete what waits."""

from __future__ import annotations

import click

from celeriac.cli import exits
from celeriac.cli.names import split_names
from celeriac.cli.root import Command
from celeriac.cli.session import session


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  celeriac -A shop purge                        all queues of the application; asks first
  celeriac -A shop purge -Q images,mail -f      these two, at once

Messages that a worker has taken, and dead letters, stay.""",
)
@click.option("-Q", "--queues", multiple=True, metavar="NAMES", help="Only these, separated by commas.")
@click.option("-X", "--exclude-queues", multiple=True, metavar="NAMES", help="Not these.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
def command(*, queues: tuple[str, ...], exclude_queues: tuple[str, ...], force: bool) -> int:
    """Delete all waiting messages, ready and delayed, for good."""
    app = session().shared_app
    names = list(app.router.select(split_names(queues), split_names(exclude_queues)))
    shown = ", ".join(names)
    if not force:
        depth = app.broker.depth(names)
        waiting = sum(each.ready + each.delayed for each in depth.values())
        if not waiting:
            click.echo(f"nothing waits in {shown}")
            return exits.OK
        if not click.confirm(f"Delete {waiting} waiting messages of {shown} for good?", err=True):
            click.echo("nothing was deleted", err=True)
            return exits.FAILED
    count = app.control.purge(names)
    click.echo(f"deleted {count} messages of {shown}")
    return exits.OK
