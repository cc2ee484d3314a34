"""`celeriac status`: which workers are up."""

from __future__ import annotations

import click

from celeriac.cli import exits, screen
from celeriac.cli.commands.inspect import ask
from celeriac.cli.root import Command
from celeriac.cli.session import session


@click.command(cls=Command, epilog="Exit code 69: no worker replied.")
@click.option("-t", "--timeout", type=click.FloatRange(0, min_open=True), default=1.0, help="Seconds to wait.")
@click.option("-d", "--destination", multiple=True, metavar="NODES", help="Only these, separated by commas.")
@click.option("-j", "--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, timeout: float, destination: tuple[str, ...], as_json: bool) -> int:
    """List the workers that answer a ping."""
    here = session()
    replies = ask(here, "ping", timeout=timeout, destination=destination)
    if as_json:
        screen.data(replies)
    else:
        for node, reply in replies.items():
            fine = isinstance(reply, dict) and reply.get("ok") == "pong"
            screen.line(f"{node}: {'OK' if fine else screen.value_text(reply)}")
        if replies and not here.quiet:
            screen.line(f"\n{len(replies)} worker{'' if len(replies) == 1 else 's'} online.")
    return exits.OK if replies else exits.NO_WORKER
