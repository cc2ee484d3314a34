"""`celeriac call`: send a task by name, and wait for it if asked to."""

from __future__ import annotations

import difflib
import inspect
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli.answers import show_answer
from celeriac.cli.jsontext import json_text
from celeriac.cli.root import Command
from celeriac.cli.session import session
from celeriac.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection


def _expires(context: click.Context, parameter: click.Parameter, value: str | None) -> float | str | None:
    """Seconds, or a moment."""
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        return _moment(context, parameter, value)


def _moment(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from datetime import datetime

    if value is not None:
        try:
            datetime.fromisoformat(value)
        except ValueError as exc:
            raise click.BadParameter(
                f"{value!r} is no moment ({exc}); write for example 2030-12-31T23:59:00+01:00", context, parameter
            ) from None
    return value


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  celeriac -A shop call shop.resize -a '[42]' -k '{"width": 800}'
  celeriac -A shop call shop.report --countdown 3600 --queue slow
  celeriac -A shop call shop.add -a '[2, 2]' --wait       prints 4
  celeriac -b sqlite:///shop.db call shop.add -a '[2, 2]' the code need not be here

Without --wait the task's id is printed; celeriac result ID waits for it later.""",
)
@click.argument("name")
@click.option(
    "-a",
    "--args",
    callback=json_text(list, "a JSON array", '[1, "two"]'),
    default="[]",
    metavar="JSON",
    help="Positional arguments.",
)
@click.option(
    "-k",
    "--kwargs",
    callback=json_text(dict, "a JSON object", '{"size": 3}'),
    default="{}",
    metavar="JSON",
    help="Keyword arguments.",
)
@click.option("--countdown", type=float, metavar="SECONDS", help="Not before so many seconds from now.")
@click.option("--eta", callback=_moment, metavar="MOMENT", help="Not before this (ISO 8601; without a zone: UTC).")
@click.option("--expires", callback=_expires, metavar="SECONDS|MOMENT", help="Not after this.")
@click.option("--queue", metavar="NAME", help="Instead of the one that routing finds.")
@click.option("--exchange", metavar="NAME", help="With --routing-key: the way to a queue.")
@click.option("--routing-key", metavar="KEY", help="See --exchange.")
@click.option("--serializer", type=click.Choice(["json", "msgpack"]), help="How the arguments are written.")
@click.option("--priority", type=click.IntRange(0, 9), help="0 to 9, higher sooner.")
@click.option("--force", is_flag=True, help="Also a task that the application does not have.")
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Wait no longer (implies --wait).")
@click.option("--traceback", is_flag=True, help="When it failed, print the worker's traceback.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    *,
    name: str,
    args: list[Any],
    kwargs: dict[str, Any],
    force: bool,
    wait: bool,
    timeout: float | None,
    traceback: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Send the task NAME to its queue."""
    here = session()
    app = here.shared_app
    wait = wait or timeout is not None
    options = {key: value for key, value in options.items() if value is not None}
    if here.app_text is not None:
        here.loaded_app  # noqa: B018 - imports the task modules
        if name not in app.tasks and not force:
            raise ConfigError(
                f"application {app.main!r} has no task {name!r}; {_near(name, app.tasks)} "
                "--force sends it all the same, for a worker that has"
            )
    task = app.tasks.get(name)
    if task is None:
        result = app.send_task(name, args, kwargs, **options)
    else:
        if task.typing:
            try:
                inspect.signature(task.run).bind(*args, **kwargs)
            except TypeError as exc:
                raise ConfigError(f"task {name!r} does not take these arguments: {exc}") from exc
        result = task.apply_async(args, kwargs, **options)
    if wait:
        return show_answer(result, timeout=timeout, traceback=traceback, as_json=as_json)
    if as_json:
        from celeriac.cli.screen import data

        data({"id": result.id})
    else:
        click.echo(result.id)
    return 0


def _near(name: str, known: Collection[str]) -> str:
    found = difflib.get_close_matches(name, known, 1) or [each for each in known if each.endswith(f".{name}")]
    if found:
        return f"did you mean {found[0]!r}?"
    if not known:
        return "it has none at all: are their modules in `include`?"
    return f"it has {', '.join(sorted(known)[:10])}{', …' if len(known) > 10 else ''}."
