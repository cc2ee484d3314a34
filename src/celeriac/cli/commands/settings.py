"""`celeriac settings`: what can be set, what is, and who said so."""

from __future__ import annotations

import difflib

import click

from celeriac.cli import screen
from celeriac.cli.root import Command
from celeriac.cli.session import session
from celeriac.errors import ConfigError


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  celeriac settings                        all of them, with defaults
  celeriac -A shop settings --changed      what this application sets
  celeriac -A shop settings worker_        all whose name contains that
  celeriac settings task_acks_late         one, with its documentation

Without -A: what the environment and pyproject.toml say. Passwords are never shown.""",
)
@click.argument("word", required=False, metavar="[WORD]")
@click.option("--changed", is_flag=True, help="Only those that something sets.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, word: str | None, changed: bool, as_json: bool) -> None:
    """List settings with their values, where these come from, and what they mean."""
    from celeriac.app.settings import describe

    here = session()
    conf = here.any_app.settings
    values = conf.table(defaults=True)
    notices = {each.name: each.reason for each in conf.ignored}
    infos = [info for info in describe() if (word is None or word.lower() in info.name)]
    if not infos:
        near = difflib.get_close_matches(str(word), [info.name for info in describe()], 1)
        raise ConfigError(f"no setting contains {word!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    exact = [info for info in infos if info.name == word]
    infos = exact or [info for info in infos if info.status in ("used", "later") or info.name in notices]
    if changed:
        infos = [info for info in infos if info.name in conf.sources or info.name in notices]
    if as_json:
        screen.data(
            [
                {
                    "name": info.name,
                    "value": values.get(info.name),
                    "source": conf.sources.get(info.name, "default"),
                    "type": info.type,
                    "default": info.default,
                    "celery_default": info.celery_default,
                    "status": info.status,
                    "doc": info.doc,
                    "notice": notices.get(info.name),
                }
                for info in infos
            ]
        )
    elif len(infos) == 1:
        info = infos[0]
        screen.line(f"{info.name} = {values.get(info.name)!r}   ({conf.sources.get(info.name, 'default')})")
        screen.line(f"\n    {info.doc}")
        screen.line(f"    Takes {info.type}; the default is {info.default}.")
        if info.celery_default is not None:
            screen.line(f"    Celery's default: {info.celery_default}.")
        if notices.get(info.name):
            screen.line(f"    No effect here: {notices[info.name]}.")
    else:
        screen.table(
            ("setting", "value", "source", "meaning"),
            [
                (
                    info.name,
                    repr(values.get(info.name)),
                    conf.sources.get(info.name, "default"),
                    f"No effect: {notices[info.name]}" if info.name in notices else info.doc,
                )
                for info in infos
            ],
            whole=("setting",),
            color=here.color,
        )
