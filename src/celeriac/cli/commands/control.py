"""`celeriac control`: orders to the workers that are up."""

from __future__ import annotations

from typing import Any, Final

import click

from celeriac.cli.commands.inspect import ask, print_replies
from celeriac.cli.root import Command
from celeriac.cli.session import session

_ORDERS: Final[dict[str, tuple[str, str]]] = {
    "shutdown": ("", "finish what runs, then stop"),
    "pool_grow": ("[N]", "add N processes (1)"),
    "pool_shrink": ("[N]", "take N processes away, once idle (1)"),
    "pool_restart": ("", "replace all processes; the code is imported anew"),
    "add_consumer": ("QUEUE", "serve one more queue"),
    "cancel_consumer": ("QUEUE", "leave a queue"),
}
"""Order, its argument, its meaning."""


@click.command(
    cls=Command,
    epilog="\b\nOrders:\n"
    + "\n".join(f"  {f'{name} {argument}':<24}{text}" for name, (argument, text) in _ORDERS.items())
    + """

\b
Examples:
  celeriac -A shop control shutdown -d w1@host
  celeriac -A shop control pool_grow 2
  celeriac -A shop control add_consumer images

Orders last until the worker stops. Exit code 69: no worker replied.""",
)
@click.argument("order", type=click.Choice(list(_ORDERS)), metavar="ORDER")
@click.argument("argument", required=False, metavar="[ARGUMENT]")
@click.option("-t", "--timeout", type=click.FloatRange(0, min_open=True), default=1.0, help="Seconds to wait.")
@click.option("-d", "--destination", multiple=True, metavar="NODES", help="Only these, separated by commas.")
@click.option("-j", "--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, order: str, argument: str | None, timeout: float, destination: tuple[str, ...], as_json: bool) -> int:
    """Give workers an ORDER; without -d, all of them."""
    arguments = _arguments(order, argument)
    replies = ask(session(), order, arguments, timeout=timeout, destination=destination)
    return print_replies(order, replies, as_json=as_json)


def _arguments(order: str, argument: str | None) -> dict[str, Any] | None:
    wanted, _ = _ORDERS[order]
    if not wanted:
        if argument is not None:
            raise click.UsageError(f"{order} takes no argument")
        return None
    if wanted == "QUEUE":
        if argument is None:
            raise click.UsageError(f"{order} needs the name of a queue")
        return {"queue": argument}
    if argument is not None and not (argument.isascii() and argument.isdigit() and int(argument) > 0):
        raise click.UsageError(f"{order} takes a number of processes from 1, not {argument!r}")
    return {"n": int(argument or 1)}
