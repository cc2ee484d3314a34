"""`celeriac control`: orders to the workers that are up."""

from __future__ import annotations

from typing import Any, Final

import click

from celeriac.cli.commands.inspect import ask, own_command, print_replies
from celeriac.cli.root import Command
from celeriac.cli.session import session

_ORDERS: Final[dict[str, tuple[str, str]]] = {
    "shutdown": ("", "finish what runs, then stop"),
    "pool_grow": ("[N]", "add N processes (1)"),
    "pool_shrink": ("[N]", "take N processes away, once idle (1)"),
    "pool_restart": ("", "replace all processes; the code is imported anew"),
    "add_consumer": ("QUEUE [EXCHANGE] [TYPE] [KEY]", "serve one more queue"),
    "cancel_consumer": ("QUEUE", "leave a queue"),
    "rate_limit": ("TASK RATE", "start a task so often per worker: 10/s, 10/m, 10/h; 0: no limit"),
    "time_limit": ("TASK SOFT [HARD]", "seconds that a task may run"),
    "revoke": ("ID...", "forbid tasks to start"),
    "terminate": ("SIGNAL ID...", "the same, and stop those that run"),
    "enable_events": ("", "tell monitors how each task fares"),
    "disable_events": ("", "tell them no more"),
    "heartbeat": ("", "show monitors at once that they live"),
}
"""Order, its arguments, its meaning."""


@click.command(
    cls=Command,
    epilog="\b\nOrders:\n"
    + "\n".join(f"  {f'{name} {arguments}':<28}{text}" for name, (arguments, text) in _ORDERS.items())
    + """

\b
Examples:
  celeriac -A shop control shutdown -d w1@host
  celeriac -A shop control pool_grow 2
  celeriac -A shop control rate_limit shop.tasks.mail 100/m

Orders last until the worker stops, revocations for a day. Exit code 69: no worker replied.""",
)
@click.argument("order", metavar="ORDER")
@click.argument("arguments", nargs=-1, metavar="[ARGUMENT]...")
@click.option("-t", "--timeout", type=click.FloatRange(0, min_open=True), default=1.0, help="Seconds to wait.")
@click.option("-d", "--destination", multiple=True, metavar="NODES", help="Only these, separated by commas.")
@click.option("-j", "--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    *, order: str, arguments: tuple[str, ...], timeout: float, destination: tuple[str, ...], as_json: bool
) -> int:
    """Give workers an ORDER; without -d, all of them."""
    here = session()
    given = _arguments(order, arguments) if order in _ORDERS else own_command(here, order, arguments, known=_ORDERS)
    replies = ask(here, order, given, timeout=timeout, destination=destination)
    return print_replies(order, replies, as_json=as_json)


def _arguments(order: str, given: tuple[str, ...]) -> dict[str, Any] | None:
    wanted = _ORDERS[order][0].split()
    least = sum(not one.startswith("[") for one in wanted)
    if not wanted and given:
        raise click.UsageError(f"{order} takes no argument")
    if len(given) < least or (len(given) > len(wanted) and not (wanted and wanted[-1].endswith("..."))):
        what = "the name of a queue" if wanted == ["QUEUE"] else " ".join(wanted)
        raise click.UsageError(f"{order} needs {what}" if least else f"{order} takes {what}")
    match order:
        case "pool_grow" | "pool_shrink":
            number = given[0] if given else "1"
            if not (number.isascii() and number.isdigit() and int(number) > 0):
                raise click.UsageError(f"{order} takes a number of processes from 1, not {number!r}")
            return {"n": int(number)}
        case "add_consumer":
            return dict(zip(("queue", "exchange", "exchange_type", "routing_key"), given, strict=False))
        case "cancel_consumer":
            return {"queue": given[0]}
        case "rate_limit":
            return {"task_name": given[0], "rate_limit": given[1]}
        case "time_limit":
            limits = [_seconds(order, one) for one in given[1:]]
            return {"task_name": given[0], "soft": limits[0], "hard": limits[1] if len(limits) > 1 else None}
        case "revoke":
            return {"task_id": list(given)}
        case "terminate":
            return {"signal": given[0], "task_id": list(given[1:])}
    return None


def _seconds(order: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < float("inf"):
        raise click.UsageError(f"{order} takes seconds above 0, not {text!r}")
    return seconds
