"""`celeriac report`: what a bug report should begin with."""

from __future__ import annotations

import platform
import sqlite3
from importlib import metadata
from typing import Any

import click

from celeriac import __version__
from celeriac.cli import screen
from celeriac.cli.root import Command
from celeriac.cli.session import session
from celeriac.errors import CeleriacError

_PACKAGES = (
    "msgspec",
    "click",
    "rich",
    "pydantic",
    "watchfiles",
    "zstandard",
    "uvloop",
    "redis",
    "pamqp",
    "celery",
    "kombu",
)


@click.command(cls=Command, epilog="Passwords are never shown. Look it over all the same before you publish it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, as_json: bool) -> None:
    """Print versions, platform and changed settings."""
    here = session()
    facts: dict[str, Any] = {
        "celeriac": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }
    try:
        app = here.any_app
        facts |= {
            "application": app.main,
            "tasks": len(app.tasks),
            "broker": app.broker.url,
            "result store": None if app.results is None else app.results.url,
            "settings": app.settings.table(),
            "ignored settings": {each.name: each.reason for each in app.settings.ignored},
        }
    except CeleriacError as exc:  # part of the report
        facts["application"] = f"not looked at: {exc}"
    if as_json:
        screen.data(facts)
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            if not value:
                continue
            screen.line(f"{name}:")
            for key, item in value.items():
                screen.line(f"    {key}: {screen.value_text(item)}")
        else:
            screen.line(f"{name}: {screen.value_text(value)}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
