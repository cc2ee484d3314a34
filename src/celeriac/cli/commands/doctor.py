"""`celeriac doctor`: is the set-up sound, and if not, what is to be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celeriac.cli import exits, screen
from celeriac.cli.root import Command
from celeriac.cli.session import session
from celeriac.errors import CeleriacError

if TYPE_CHECKING:
    from celeriac.cli.checkup import Finding


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  celeriac doctor                   this machine and the default broker
  celeriac -A shop doctor           your application, its broker, its workers
  celeriac -A shop doctor --json

Nothing is changed. Exit code 1: something is wrong; what is only worth knowing is a note.""",
)
@click.option("-t", "--timeout", type=click.FloatRange(0, min_open=True), default=1.0, help="Seconds for workers.")
@click.option("--thorough", is_flag=True, help="Also read all of a large database.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, timeout: float, thorough: bool, as_json: bool) -> int:
    """Check configuration, storage, limits, workers and queues."""
    from celeriac.cli.checkup import Finding, Patient, as_data, examine

    here = session()
    try:
        app = here.any_app
        app.settings  # noqa: B018 - what contradicts itself shows now
    except CeleriacError as exc:
        findings = [Finding(check="settings", level="wrong", found=str(exc))]
    else:
        named = here.app_text is not None
        findings = list(examine(Patient(app, named=named, timeout_s=timeout, thorough=thorough)))
        app.close()
    wrong = sum(each.level == "wrong" for each in findings)
    if as_json:
        screen.data({"wrong": wrong, "findings": as_data(findings)})
    else:
        _show(findings, color=here.color, quiet=here.quiet)
        if wrong:
            screen.line(f"\n{wrong} {'thing is' if wrong == 1 else 'things are'} wrong.")
        elif not here.quiet:
            screen.line("\nNothing is wrong.")
    return exits.FAILED if wrong else exits.OK


_MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "wrong": ("WRONG", "bold red")}


def _show(findings: list[Finding], *, color: bool, quiet: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    for each in findings:
        if quiet and each.level == "ok":
            continue
        mark, style = _MARKS[each.level]
        advice = f"\n-> {screen.visible(each.advice)}" if each.advice else ""
        grid.add_row(Text(mark, style), Text(each.check), Text(f"{screen.visible(each.found)}{advice}"))
    screen.console(color=color).print(grid)
