"""`celeriac dead`: the messages that were given up, for a person to decide on."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli import exits, screen
from celeriac.cli.root import Group
from celeriac.cli.session import session
from celeriac.codec import HIDDEN, SEALED
from celeriac.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeriac.app.application import Celeriac
    from celeriac.model import DeadLetter


@click.group(
    cls=Group,
    epilog="""\b
Examples:
  celeriac -A shop dead list
  celeriac -A shop dead show 0f6a…
  celeriac -A shop dead retry 0f6a…      once the cause is mended
  celeriac -A shop dead retry --all -Q images
  celeriac -A shop dead drop 0f6a…""",
)
def command() -> None:
    """Messages that were given up: crashed too often, could not be read, named an unknown task, were rejected."""


def _moment(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds")


def _facts(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "task": letter.task,
        "queue": letter.queue,
        "reason": letter.reason,
        "buried_at": _moment(letter.buried_at),
        "deliveries": letter.deliveries,
    }


def _content(app: Celeriac, letter: DeadLetter) -> dict[str, Any]:
    """Headers and arguments as far as they can be read; a dead letter is often one that cannot."""
    try:
        headers = app.codec.decode_headers(letter.headers)
        if headers.content_type == SEALED:
            return {"headers": json.loads(letter.headers), "args": HIDDEN, "kwargs": HIDDEN}
        call = app.codec.decode_body(headers, letter.body)
    except CodecError as exc:
        return {
            "unreadable": str(exc),
            "headers": letter.headers.decode("utf-8", "backslashreplace"),
            "body": letter.body[:4096].decode("utf-8", "backslashreplace"),
        }
    return {"headers": json.loads(letter.headers), "args": call.args, "kwargs": call.kwargs}


@command.command("list")
@click.option("-Q", "--queue", metavar="NAME", help="Only this queue's.")
@click.option("-n", "--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(*, queue: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, newest first."""
    here = session()
    app = here.shared_app
    letters = app.broker.dead_letters(queue, limit=limit)
    if as_json:
        screen.data([_facts(letter) for letter in letters])
        return
    if not letters:
        click.echo("no dead letters")
        return
    now = app.clock.time()
    screen.table(
        ("id", "task", "queue", "age", "tries", "reason"),
        [
            (
                letter.id,
                letter.task,
                letter.queue,
                screen.age(max(0.0, now - letter.buried_at)),
                letter.deliveries,
                letter.reason,
            )
            for letter in letters
        ],
        right=("age", "tries"),
        whole=("id", "age"),
        color=here.color,
    )
    count = sum(each.dead for each in app.broker.depth([queue] if queue else None).values())
    if count > len(letters):
        here.notice(f"{len(letters)} of {count}; more with --limit")


@command.command("show")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(*, ids: tuple[str, ...], as_json: bool) -> int:
    """Print all that is known about dead letters: reason, traceback, arguments."""
    app = session().shared_app
    letters = app.broker.dead_letters(ids=ids, limit=len(ids))
    if as_json:
        screen.data([{**_facts(letter), "detail": letter.detail, **_content(app, letter)} for letter in letters])
    else:
        for letter in letters:
            for name, value in {**_facts(letter), **_content(app, letter)}.items():
                screen.line(f"{name + ':':<12} {screen.value_text(value)}")
            if letter.detail:
                screen.line(f"\n{letter.detail.rstrip()}")
            screen.line()
    return _missing(ids, letters)


@command.command("retry")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All of them, or all of --queue.")
@click.option("-Q", "--queue", metavar="NAME", help="With --all: only this queue's.")
@click.option("--sign", is_flag=True, help="Sign what nobody has signed who may: it runs as if you had sent it.")
def retry(*, ids: tuple[str, ...], everything: bool, queue: str | None, sign: bool) -> int:
    """Put dead letters back into their queues, as if they had never run; signed anew if that was too long ago."""
    app = session().shared_app
    letters = _chosen(app, ids, everything, queue)
    found = [letter.id for letter in letters]
    if found:
        click.echo(f"put back {app.control.revive(found, sign=sign)} messages")
    return _missing(ids, letters)


@command.command("drop")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All of them, or all of --queue.")
@click.option("-Q", "--queue", metavar="NAME", help="With --all: only this queue's.")
@click.option("-f", "--force", is_flag=True, help="With --all: do not ask.")
def drop(*, ids: tuple[str, ...], everything: bool, queue: str | None, force: bool) -> int:
    """Delete dead letters for good."""
    app = session().shared_app
    letters = _chosen(app, ids, everything, queue)
    found = [letter.id for letter in letters]
    if found:
        if everything and not force and not click.confirm(f"Delete {len(found)} dead letters for good?", err=True):
            click.echo("nothing was deleted", err=True)
            return exits.FAILED
        click.echo(f"deleted {app.broker.drop_dead(found)} dead letters")
    return _missing(ids, letters)


def _chosen(app: Celeriac, ids: tuple[str, ...], everything: bool, queue: str | None) -> Sequence[DeadLetter]:
    if bool(ids) == everything:
        raise click.UsageError("give the ids of dead letters, or --all")
    if queue is not None and not everything:
        raise click.UsageError("--queue goes with --all")
    if ids:
        return app.broker.dead_letters(ids=ids, limit=len(ids))
    count = sum(each.dead for each in app.broker.depth([queue] if queue else None).values())
    letters = app.broker.dead_letters(queue, limit=count) if count else ()
    if not letters:
        click.echo("no dead letters")
    return letters


def _missing(ids: Sequence[str], letters: Sequence[DeadLetter]) -> int:
    """Say which ids are no dead letters; the exit code."""
    known = {letter.id for letter in letters}
    missing = [task_id for task_id in ids if task_id not in known]
    for task_id in missing:
        click.echo(f"celeriac: there is no dead letter {screen.visible(task_id)}", err=True)
    return exits.FAILED if missing else exits.OK
