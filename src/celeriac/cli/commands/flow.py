"""`celeriac flow`: runs of flows, for a person to look at and decide on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from celeriac.cli import exits, screen
from celeriac.cli.root import Group
from celeriac.cli.session import session

if TYPE_CHECKING:
    from celeriac.flow import FlowRun


@click.group(
    cls=Group,
    epilog="""\b
Examples:
  celeriac -A shop flow list
  celeriac -A shop flow show 0f6a…             the graph, with the state of each step
  celeriac -A shop flow show 0f6a… --mermaid   for a page that draws it
  celeriac -A shop flow resume 0f6a…           once the cause is mended
  celeriac -A shop flow cancel 0f6a…""",
)
def command() -> None:
    """Runs of flows: where they stand, and what to do about them."""


@command.command("list")
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(*, limit: int, as_json: bool) -> None:
    """List runs, newest first."""
    from celeriac.flow import FlowRun

    here = session()
    app = here.shared_app
    runs = FlowRun.recent(app, limit=limit)
    if as_json:
        screen.data([_facts(run) for run in runs])
        return
    if not runs:
        click.echo("no runs")
        return
    now = app.clock.time()
    screen.table(
        ("id", "flow", "age", "state", "arguments"),
        [(run.id, run.flow, screen.age(max(0.0, now - run.created_at)), run.state, run.call) for run in runs],
        right=("age",),
        whole=("id", "age"),
        color=here.color,
    )


@command.command("show")
@click.argument("run_id", metavar="ID")
@click.option("--mermaid", is_flag=True, help="Print the graph as a Mermaid flowchart.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(*, run_id: str, mermaid: bool, as_json: bool) -> int:
    """Draw a run's graph, with the state of each step."""
    run = _run(run_id)
    if run is None:
        return exits.FAILED
    if mermaid:
        click.echo(screen.visible(run.mermaid()), nl=False)
    elif as_json:
        screen.data({**_facts(run), "steps": [msgspec.to_builtins(step) for step in run.steps.values()]})
    else:
        screen.line(f"{run.flow}({run.call})  {run.state}  {_moment(run.created_at)}")
        screen.line()
        _draw(run)
    return exits.OK


@command.command("resume")
@click.argument("run_id", metavar="ID")
def resume(*, run_id: str) -> int:
    """Run again what failed in a run, and what depended on it."""
    run = _run(run_id)
    if run is None:
        return exits.FAILED
    run.resume()
    click.echo(f"resumed run {run_id}")
    return exits.OK


@command.command("cancel")
@click.argument("run_id", metavar="ID")
@click.option("--terminate", is_flag=True, help="Also stop the tasks that run.")
def cancel(*, run_id: str, terminate: bool) -> int:
    """Let nothing of a run start any more; undo what can be undone."""
    run = _run(run_id)
    if run is None:
        return exits.FAILED
    if not run.cancel(terminate=terminate):
        click.echo(f"celeriac: run {run_id} has ended already: {run.state}", err=True)
        return exits.FAILED
    click.echo(f"cancelled run {run_id}")
    return exits.OK


def _run(run_id: str) -> FlowRun[Any] | None:
    from celeriac.flow import FlowRun

    run: FlowRun[Any] = FlowRun(run_id, session().shared_app)
    if run.exists():
        return run
    click.echo(f"celeriac: there is no run {screen.visible(run_id)}, or its records are over", err=True)
    return None


def _moment(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds")


def _facts(run: FlowRun[Any]) -> dict[str, Any]:
    return {
        "id": run.id,
        "flow": run.flow,
        "arguments": run.call,
        "state": run.state,
        "created_at": _moment(run.created_at),
        "generation": run.generation,
    }


def _draw(run: FlowRun[Any]) -> None:
    """The drawing, each step in the colour of its state."""
    from rich.text import Text

    from celeriac.flow.drawing import COLORS

    console = screen.console(color=session().color)
    steps = run.steps
    for line, name in run.drawn():
        text = Text(screen.visible(line), no_wrap=True, overflow="ignore")
        if name is not None and (style := COLORS.get(steps[name].state)) is not None:
            start = line.index(name)
            text.stylize(style[0], start)
        console.print(text, soft_wrap=True)
