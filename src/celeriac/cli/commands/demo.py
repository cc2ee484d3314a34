"""`celeriac demo`: a real job on real input, in worker processes started for it, checked against the input."""

from __future__ import annotations

import contextlib
import platform
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import click
import msgspec

from celeriac.app.settings import available_processors
from celeriac.app.urls import parse
from celeriac.cli import exits, screen
from celeriac.cli.demo import survey
from celeriac.cli.demo.fleet import Fleet
from celeriac.cli.demo.job import Job
from celeriac.cli.root import Command
from celeriac.cli.session import Session, session
from celeriac.clock import ENTROPY, SYSTEM_CLOCK
from celeriac.errors import ConfigError, TaskError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from celeriac import AsyncResult

_GROUP = 32
"""Modules per partial reduce."""
_STALL_S = 60.0
"""With nothing finished for so long, something is wrong."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the job gave and what it took."""

    count: survey.Count
    faults: list[str]
    tasks: int
    processes: int
    broker: str
    start_s: float
    """Until the worker was ready."""
    wall_s: float
    """From the first task sent to the final result read."""


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  celeriac demo
  celeriac demo --processes 4
  celeriac demo --broker sqlite:///demo.db     on an engine of your choice
  celeriac demo --json | jq .tasks_per_second

\b
Reads every module of this Python's standard library (map), puts the counts together in groups (reduce) and in
the end into one table, and checks that table against the files. Everything is in a temporary directory that
is removed. Exit code 1: something failed, was lost or was counted twice.""",
)
@click.option("--processes", type=click.IntRange(1), help="Worker processes; by default, one per processor.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and no progress.")
def command(*, processes: int | None, as_json: bool) -> int:
    """Count what Python's standard library is made of, with workers."""
    here = session()
    with _ending_in_order(), tempfile.TemporaryDirectory(prefix="celeriac-demo-") as directory:
        outcome = _run(here, Path(directory), processes or available_processors(), bars=not as_json)
    if as_json:
        screen.data(_as_data(outcome))
    else:
        _show(outcome, color=here.color)
    for fault in outcome.faults[:20]:
        click.echo(f"celeriac: {screen.visible(fault)}", err=True)
    return exits.FAILED if outcome.faults else exits.OK


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP clean up as Ctrl-C does."""

    def leave(number: int, frame: Any) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(here: Session, directory: Path, processes: int, *, bars: bool) -> Outcome:
    tag = f"{ENTROPY.getrandbits(48):012x}"
    queue = f"celeriac-demo-{tag}"  # on a shared engine, nobody else's
    url = here.broker or f"sqlite:///{quote(str(directory / 'demo.db'))}"
    results = here.result_backend
    if results is None and parse(url).adapter == "amqp":  # which keeps none
        results = f"sqlite:///{quote(str(directory / 'results.db'))}"
    settings = {} if results is None else {"backend": results}
    job = Job(broker=url, task_default_queue=queue, task_queues=None, **settings)
    broker = job.app.broker
    if not broker.traits.cross_process or job.app.results is None:
        raise ConfigError(f"the demo needs a broker that worker processes reach and results; not {broker.url}")
    root = survey.library()
    modules = survey.modules(root)
    sent: list[AsyncResult[Any]] = []
    fleet = Fleet(
        "celeriac.cli.demo.job:app",
        broker=url,
        results=results,
        queue=queue,
        processes=processes,
        node=f"demo-{tag}@local",
        directory=directory,
    )
    try:
        with _progress(here, len(modules), bars) as tell, fleet:
            began = SYSTEM_CLOCK.monotonic()
            wait = _Waiter(job, fleet)
            sent.append(job.conclude.delay([]))  # once this has run, so can the others
            wait.until_done(sent, lambda done: None)
            ready = SYSTEM_CLOCK.monotonic()
            maps = job.measure.delay_many(modules)
            sent += maps
            merges = []
            for start in range(0, len(maps), _GROUP):
                group = maps[start : start + _GROUP]
                wait.until_done(group, lambda done: tell("reading", done))
                merges.append(job.merge.delay([each.id for each in group]))
                sent.append(merges[-1])
            wait.until_done(merges, lambda done: tell("merging", 0))
            last = job.conclude.delay([each.id for each in merges])
            sent.append(last)
            wait.until_done([last], lambda done: tell("done", 0))
            count: survey.Count = last.get(timeout=0)  # final already
            ended = SYSTEM_CLOCK.monotonic()
        return Outcome(
            count=count,
            faults=survey.faults(count, root, modules),
            tasks=len(sent) - 1,
            processes=processes,
            broker=broker.url,
            start_s=ready - began,
            wall_s=ended - ready,
        )
    finally:
        _tidy(job, queue, sent, shared=here.broker is not None)
        job.app.close()


def _tidy(job: Job, queue: str, sent: Sequence[AsyncResult[Any]], *, shared: bool) -> None:
    """Leave nothing on an engine that is not ours; a file of our own goes with its directory."""
    if not shared:
        return
    broker = job.app.broker
    broker.purge([queue])
    broker.drop_dead([letter.id for letter in broker.dead_letters(queue, limit=len(sent) + 1)])
    if job.app.results is not None:
        job.app.results.forget([each.id for each in sent])


class _Waiter:
    """Waits for results, and notices when they will not come."""

    def __init__(self, job: Job, fleet: Fleet) -> None:
        assert job.app.results is not None
        self._results = job.app.results
        self._app = job.app
        self._fleet = fleet

    def until_done(self, handles: Sequence[AsyncResult[Any]], tell: Callable[[int], None]) -> None:
        """Wait until all have ended; `tell` gets how many more have, as they do.

        Raises:
            TaskError: One of them failed.
            WorkerError: The worker ended, or nothing ends any more.
        """
        left = {each.id for each in handles}
        moved = SYSTEM_CLOCK.monotonic()
        while left:
            done = self._results.wait(left, timeout_s=0.5)
            for task_id, stored in done.items():
                if stored.state != "SUCCESS":
                    failed = self._app.AsyncResult(task_id)
                    raise TaskError(f"a task of the demo ended as {stored.state}:\n{failed.traceback or failed.result}")
            now = SYSTEM_CLOCK.monotonic()
            if done:
                left -= done.keys()
                moved = now
                tell(len(done))
                continue
            self._fleet.check()
            if now - moved > _STALL_S:
                raise WorkerError(f"no task has ended for {_STALL_S:g} s; {len(left)} are missing of {len(handles)}")


@contextlib.contextmanager
def _progress(here: Session, total: int, wanted: bool) -> Iterator[Callable[[str, int], None]]:
    """A progress bar on standard error; yields what moves it on."""
    if not wanted or here.quiet:
        yield lambda text, done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    where = screen.console(color=here.color, stderr=True)
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=where, transient=True, disable=not where.is_terminal) as bar:
        shown = bar.add_task("starting workers", total=total)
        yield lambda text, done: bar.update(shown, description=f"{text} modules", advance=done)


def _as_data(outcome: Outcome) -> dict[str, Any]:
    count = outcome.count
    return {
        "python": platform.python_version(),
        "broker": outcome.broker,
        "processes": outcome.processes,
        "start_s": round(outcome.start_s, 3),
        "wall_s": round(outcome.wall_s, 3),
        "tasks": outcome.tasks,
        "tasks_per_second": round(outcome.tasks / outcome.wall_s, 1),
        "modules": len(count["modules"]),
        "unparsed": len(count["unparsed"]),
        "lines": count["lines"],
        "classes": count["classes"],
        "functions": count["functions"],
        "coroutines": count["coroutines"],
        "longest": [{"function": name, "module": module, "lines": lines} for lines, name, module in count["longest"]],
        "names": dict(count["names"]),
        "modules_by_process": {str(process): read for process, read in count["processes"]},
        "faults": outcome.faults,
    }


def _show(outcome: Outcome, *, color: bool) -> None:
    count = outcome.count
    rows: list[tuple[str, str, str]] = [
        ("modules", f"{len(count['modules']):,}", f"{len(count['unparsed'])} of them no valid Python, for tests"),
        ("lines", f"{count['lines']:,}", ""),
        ("classes", f"{count['classes']:,}", ""),
        ("functions", f"{count['functions']:,}", f"and {count['coroutines']:,} coroutines"),
    ]
    for place, (lines, name, module) in enumerate(count["longest"]):
        rows.append(("" if place else "longest functions", f"{lines:,}", f"{name} in {module}"))
    for place, (name, used) in enumerate(count["names"]):
        rows.append(("" if place else "most used names", f"{used:,}", name))
    screen.table(
        ("what", "how many", "which"),
        rows,
        title=f"The standard library of Python {platform.python_version()}",
        right=("how many",),
        color=color,
    )
    shares = ", ".join(f"{read}" for _, read in count["processes"])
    screen.line(
        f"{outcome.tasks:,} tasks in {outcome.wall_s:.2f} s, {outcome.tasks / outcome.wall_s:,.0f} per second, by "
        f"{outcome.processes} worker processes (modules read by each: {shares}; started in {outcome.start_s:.2f} s)"
    )
    if not outcome.faults:
        screen.line("Checked against the files: every module was counted exactly once.")
