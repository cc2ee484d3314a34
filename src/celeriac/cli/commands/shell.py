"""`celeriac shell`: a Python prompt with the application at hand."""

from __future__ import annotations

import importlib
from typing import Any

import click

import celeriac
from celeriac.cli.root import Command
from celeriac.cli.session import session


@click.command(
    cls=Command,
    epilog="""\b
Example:
  $ celeriac -A shop shell
  >>> resize.delay(42).get(timeout=10)""",
)
@click.option("--python", is_flag=True, help="Python's own prompt, even where IPython is installed.")
@click.option("-I", "--ipython", "ipython", is_flag=True, hidden=True)
@click.option("-B", "--bpython", "bpython", is_flag=True, hidden=True)
@click.option("-T", "--without-tasks", "without_tasks", is_flag=True, hidden=True)
def command(*, python: bool, ipython: bool, bpython: bool, without_tasks: bool) -> None:
    """Open a Python prompt with `app`, the tasks by their short names, and celeriac's public names."""
    app = session().loaded_app
    names: dict[str, Any] = {name: getattr(celeriac, name) for name in celeriac.__all__ if not name.startswith("_")}
    short = [] if without_tasks else [name.rpartition(".")[2] for name in app.tasks]
    names |= {
        each: task
        for each, task in zip(short, app.tasks.values(), strict=not without_tasks)
        if each.isidentifier() and short.count(each) == 1  # two tasks of one short name: neither
    }
    names["app"] = app
    banner = f"celeriac {celeriac.__version__}: app {app.main!r} at {app.broker.url}, {len(app.tasks)} tasks"
    if not python:
        try:
            interactive = importlib.import_module("IPython")
        except ImportError:
            pass
        else:
            interactive.start_ipython(argv=["--no-banner"], user_ns=names)
            return
    import code

    try:
        importlib.import_module("readline")  # history and arrow keys, where there is one
    except ImportError:
        pass
    code.interact(banner=banner, local=names, exitmsg="")
