"""`celeriac doctor`: is the set-up sound, and if not, what is to be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celeriac.cli import exits, screen
from celeriac.cli.root import Command
from celeriac.cli.session import session
from celeriac.errors import CeleriacError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeriac.cli.checkup import Finding


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  celeriac doctor                   this machine and the default broker
  celeriac -A shop doctor           your application, its broker, its workers
  celeriac -A shop doctor --json
  celeriac doctor --celery .        what a project written for Celery uses, and whether it is covered

Nothing is changed. Exit code 1: something is wrong; what is only worth knowing is a note.""",
)
@click.option("-t", "--timeout", type=click.FloatRange(0, min_open=True), default=1.0, help="Seconds for workers.")
@click.option("--thorough", is_flag=True, help="Also read all of a large database.")
@click.option(
    "--celery",
    "project",
    metavar="PATH_OR_MODULE",
    help="Instead, read a project written for Celery, without importing it, and say what of it is covered.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, timeout: float, thorough: bool, project: str | None, as_json: bool) -> int:
    """Check configuration, storage, limits, workers and queues."""
    if project is not None:
        return _survey(project, as_json=as_json)
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


def _survey(project: str, *, as_json: bool) -> int:
    from celeriac.compat.coverage import CELERY
    from celeriac.compat.survey import survey

    here = session()
    found = survey(project)
    missing, differing = found.of("missing"), found.of("differs")
    if as_json:
        rows = [
            {
                "kind": row.kind,
                "name": row.name,
                "verdict": row.verdict,
                "note": row.note,
                "places": [str(place) for place in row.places],
            }
            for row in found.rows
        ]
        unread = [str(place) for place in found.unread]
        screen.data({"root": found.root, "files": found.files, "unread": unread, "uses": rows})
        return exits.FAILED if missing else exits.OK
    shown = [row for row in found.rows if not here.quiet or row.verdict != "covered"]
    if shown:
        screen.table(
            ["", "what", "where", "note"],
            [(_VERDICTS[row.verdict], f"{row.kind} {row.name}", _places(row.places), row.note) for row in shown],
            whole=[""],
            color=here.color,
        )
    for place in found.unread:
        screen.line(f"{place} is not valid Python, and was not read")
    if not found.rows:
        screen.line(f"Nothing of Celery's is used in the {found.files} files of {found.root}.")
    elif not here.quiet or missing:
        covered = len(found.rows) - len(missing) - len(differing)
        screen.line(
            f"\nOf {len(found.rows)} things of Celery {CELERY} in {found.files} files, {covered} are covered, "
            f"{len(differing)} differ, {len(missing)} are not covered."
        )
    return exits.FAILED if missing else exits.OK


_VERDICTS = {"covered": "covered", "differs": "differs", "missing": "NOT COVERED"}
_PLACES_SHOWN = 3


def _places(places: Sequence[object]) -> str:
    more = len(places) - _PLACES_SHOWN
    return ", ".join(map(str, places[:_PLACES_SHOWN])) + (f" and {more} more" if more > 0 else "")


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
