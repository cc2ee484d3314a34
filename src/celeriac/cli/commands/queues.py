"""`celeriac queues`: what waits where."""

from __future__ import annotations

import click

from celeriac.cli import screen
from celeriac.cli.root import Command
from celeriac.cli.session import session
from celeriac.model import QueueDepth


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  celeriac -A shop queues
  celeriac -A shop queues images --json

\b
ready    may run now
delayed  wait for their time (countdown, eta, retry)
held     taken by a worker, running or about to
dead     given up; see celeriac dead

RabbitMQ tells neither what is delayed nor what is held: these are shown as "?".""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, names: tuple[str, ...], as_json: bool) -> None:
    """Show how many messages are in each queue (NAME: in these only)."""
    here = session()
    app = here.shared_app
    depth = dict(app.broker.depth(list(names) if names else None))
    for name in names or app.router.queues:
        depth.setdefault(name, QueueDepth())
    tells = app.broker.traits.shows_all
    if as_json:
        screen.data(
            {
                name: {
                    "ready": each.ready,
                    "delayed": each.delayed if tells else None,
                    "held": each.held if tells else None,
                    "dead": each.dead,
                    "oldest_ready_s": each.oldest_ready_s,
                }
                for name, each in sorted(depth.items())
            }
        )
        return
    columns = ("queue", "ready", "delayed", "held", "dead", "oldest")
    rows = [
        (
            name,
            each.ready,
            each.delayed if tells else "?",
            each.held if tells else "?",
            each.dead,
            screen.age(each.oldest_ready_s),
        )
        for name, each in sorted(depth.items())
    ]
    screen.table(columns, rows, right=columns[1:], whole=columns, color=here.color)
