"""`celeriac inspect`: questions to the workers that are up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from celeriac.cli import exits, screen
from celeriac.cli.names import split_names
from celeriac.cli.root import Command
from celeriac.cli.session import Session, session

if TYPE_CHECKING:
    from collections.abc import Iterable

QUESTIONS: Final[dict[str, str]] = {
    "ping": "whether they are there",
    "active": "the tasks that run now",
    "reserved": "the tasks that were taken and have not started",
    "scheduled": "the tasks that are not due yet",
    "registered": "the tasks they know",
    "stats": "counters, processes, memory",
    "active_queues": "the queues they serve",
    "revoked": "the tasks that must not start",
    "conf": "their settings, passwords hidden",
    "query_task": "where the tasks ID... are",
    "clock": "their logical clocks",
    "memsample": "the memory of their supervisors",
    "report": "what they are, in a line",
}


def ask(
    here: Session,
    method: str,
    arguments: dict[str, Any] | None = None,
    *,
    timeout: float,
    destination: tuple[str, ...],
) -> dict[str, Any]:
    """The replies by node, in the order of their names; a notice when there are none."""
    nodes = split_names(destination)
    replies = here.shared_app.control.inspect(nodes or None, timeout).ask(method, arguments)
    if not replies:
        tell_of_silence(here, timeout=timeout, destination=destination)
    return dict(sorted(replies.items()))


def tell_of_silence(here: Session, *, timeout: float, destination: tuple[str, ...]) -> None:
    """Say that no worker has replied."""
    nodes = split_names(destination)
    whom = f" of {', '.join(nodes)}" if nodes else ""
    click.echo(
        screen.visible(
            f"celeriac: no worker{whom} replied within {timeout:g} s at {here.shared_app.broker.url}; "
            "is one running on this broker?"
        ),
        err=True,
    )


def print_replies(method: str, replies: dict[str, Any], *, as_json: bool) -> int:
    """Print replies by node; the exit code."""
    refused = {node for node, reply in replies.items() if isinstance(reply, dict) and "error" in reply}
    if as_json:
        screen.data(replies)
    else:
        for node, reply in replies.items():
            screen.line(f"-> {node}: {'ERROR' if node in refused else 'OK'}")
            _show(method, reply)
    if not replies:
        return exits.NO_WORKER
    return exits.FAILED if refused else exits.OK


def _show(question: str, reply: Any, depth: int = 1) -> None:
    """One reply in Celery's layout: a bullet per thing, `key: value` for facts."""
    indent = "    " * depth
    if isinstance(reply, dict) and reply:
        for key, value in reply.items():
            if isinstance(value, (dict, list)) and value:
                screen.line(f"{indent}{key}:")
                _show(question, value, depth + 1)
            else:
                screen.line(f"{indent}{key}: {screen.value_text(value)}")
    elif isinstance(reply, list) and reply:
        for each in reply:
            screen.line(f"{indent}* {_item(question, each)}")
    else:
        screen.line(f"{indent}- empty -" if reply in ([], {}, None) else f"{indent}{screen.value_text(reply)}")


def _item(question: str, item: Any) -> str:
    if not isinstance(item, dict):
        return screen.value_text(item)
    if question == "active_queues" and "name" in item:
        return str(item["name"])
    request = item.get("request", item)
    if isinstance(request, dict) and "id" in request and "name" in request:
        eta = f", due {item['eta']}" if item.get("eta") else ""
        return f"{request['name']} [{request['id']}]{eta}"
    return screen.value_text(item)


@click.command(
    cls=Command,
    epilog="""\b
Questions:
"""
    + "\n".join(f"  {name:<14} {text}" for name, text in QUESTIONS.items())
    + """

\b
Examples:
  celeriac -A shop inspect active
  celeriac -A shop inspect ping -d w1@host -t 5
  celeriac -A shop inspect query_task 0f6a… --json

Exit code 69: no worker replied.""",
)
@click.argument("question", metavar="QUESTION")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("-t", "--timeout", type=click.FloatRange(0, min_open=True), default=1.0, help="Seconds to wait.")
@click.option("-d", "--destination", multiple=True, metavar="NODES", help="Only these, separated by commas.")
@click.option("-j", "--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, question: str, ids: tuple[str, ...], timeout: float, destination: tuple[str, ...], as_json: bool) -> int:
    """Ask workers a QUESTION and print their answers."""
    here = session()
    if question not in QUESTIONS:
        given = own_command(here, question, ids, known=QUESTIONS)
        replies = ask(here, question, given, timeout=timeout, destination=destination)
        return print_replies(question, replies, as_json=as_json)
    if bool(ids) != (question == "query_task"):
        raise click.UsageError(
            "query_task needs the ids of tasks" if not ids else f"{question} takes no further arguments"
        )
    arguments = {"ids": list(ids)} if ids else None
    replies = ask(here, question, arguments, timeout=timeout, destination=destination)
    return print_replies(question, replies, as_json=as_json)


def own_command(here: Session, name: str, given: tuple[str, ...], *, known: Iterable[str]) -> dict[str, Any]:
    """The arguments of a remote-control command of the application's own.

    Raises:
        UsageError: There is none of this name, or these are not its arguments.
    """
    if not here.as_celery or name not in here.loaded_app.commands:
        raise click.UsageError(f"{name!r} is not one of {', '.join(known)}")
    from celeriac.compat.celery.worker.control import Panel

    meta = Panel.meta[name]
    wanted = list(meta.args or ())
    arguments: dict[str, Any] = {}
    rest = list(given)
    for (argument, kind), text in zip(wanted, given, strict=False):
        arguments[argument] = kind(text) if callable(kind) else text
        rest.pop(0)
    if rest and not meta.variadic:
        raise click.UsageError(f"{name} takes {len(wanted)} arguments: {meta.signature or [one for one, _ in wanted]}")
    if meta.variadic:
        arguments[meta.variadic] = rest
    return arguments
