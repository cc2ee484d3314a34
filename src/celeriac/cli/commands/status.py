"""`celeriac status`: which workers are up."""

from __future__ import annotations

import click

from celeriac.cli import exits, screen
from celeriac.cli.commands.inspect import ask, tell_of_silence
from celeriac.cli.root import Command
from celeriac.cli.session import Session, session


@click.command(cls=Command, epilog="Exit code 69: no worker replied. A beat is none.")
@click.option("-t", "--timeout", type=click.FloatRange(0, min_open=True), default=1.0, help="Seconds to wait.")
@click.option("-d", "--destination", multiple=True, metavar="NODES", help="Only these, separated by commas.")
@click.option("-j", "--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, timeout: float, destination: tuple[str, ...], as_json: bool) -> int:
    """List the workers that answer a ping."""
    here = session()
    found = ask(here, "ping", timeout=timeout, destination=destination)
    names = _beats(here) if found else set()
    replies = {node: reply for node, reply in found.items() if node not in names and not node.startswith("celerybeat@")}
    beats = len(found) - len(replies)
    if beats and not replies:
        tell_of_silence(here, timeout=timeout, destination=destination)
    if as_json:
        screen.data(replies)
    else:
        for node, reply in replies.items():
            fine = isinstance(reply, dict) and reply.get("ok") == "pong"
            screen.line(f"{node}: {'OK' if fine else screen.value_text(reply)}")
        if replies and not here.quiet:
            screen.line(f"\n{len(replies)} worker{'' if len(replies) == 1 else 's'} online.")
        if beats and not here.quiet:
            screen.line(f"{beats} beat{'' if beats == 1 else 's'} online.")
    return exits.OK if replies else exits.NO_WORKER


def _beats(here: Session) -> set[str]:
    """Names under which beats answer a ping; those that were given no other are `celerybeat@HOST`."""
    app = here.shared_app
    return {beat.name for beat in app.schedules.beats()} if app.has_marks else set()
