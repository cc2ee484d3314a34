"""`celeriac list`: what queues there are, in Celery's spelling."""

from __future__ import annotations

import click

from celeriac.cli import screen
from celeriac.cli.root import Command, Group
from celeriac.cli.session import session


@click.group(cls=Group)
def command() -> None:
    """List queues and what leads to them."""


@command.command("bindings", cls=Command)
def bindings() -> None:
    """Show the queues of the application, with exchange and routing key."""
    here = session()
    queues = here.app.router.queues
    rows = [(queue.name, queue.exchange_name, queue.key) for _, queue in sorted(queues.items())]
    screen.table(("queue", "exchange", "routing key"), rows, color=here.color)
