"""`celeriac beat`: the schedule's own program. Any number may run; each firing is sent once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli import exits, screen
from celeriac.cli.commands.worker import LEVELS, refuse_detached
from celeriac.cli.failures import explain
from celeriac.cli.pidfile import PidFileTakenError, pid_in
from celeriac.cli.root import Command
from celeriac.cli.session import session
from celeriac.errors import BrokerError, ConfigError

if TYPE_CHECKING:
    from celeriac.app.application import Celeriac
    from celeriac.cli.session import Session
    from celeriac.worker.runtime import Beating


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  celeriac -A shop beat                run the schedule; start a second one elsewhere, and either may die
  celeriac -A shop beat --check        only look whether every entry is right, in a test or before a deployment
  celeriac -A shop worker --beat       the same inside a worker
  celeriac -A shop schedule list       what there is, and when it is due next

\b
SIGTERM or Ctrl-C ends it. What is due while no beat runs falls under the policies of its entry (catch_up).

\b
Exit codes: 0 it was told to stop · 70 a part of it failed · 73 --pidfile belongs to one that runs
78 the application cannot be loaded, or an entry is wrong""",
)
@click.option("--check", is_flag=True, help="Check all entries and exit.")
@click.option(
    "-n",
    "--hostname",
    "name",
    metavar="NAME",
    help="Its name in lists and for `inspect ping`, such as beat1@%h; %h is the host, %n its first part, %d the rest.",
)
@click.option(
    "-l",
    "--loglevel",
    "log_level",
    type=click.Choice(LEVELS, case_sensitive=False),
    metavar="LEVEL",
    help="DEBUG, INFO, WARNING, ERROR or CRITICAL.",
)
@click.option("-f", "--logfile", "log_file", metavar="FILE", help="Log there instead of to standard error.")
@click.option("--json-logs", "log_json", is_flag=True, default=None, help="Log one JSON object per line.")
@click.option("--pidfile", metavar="FILE", help="Keep the process id there while it runs; not twice at a time.")
@click.option(
    "--max-interval",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Longest sleep between looks at the store, where changes are seen.",
)
@click.option("-S", "--scheduler", metavar="CLASS", help="With --as-celery: a scheduler class of Celery's making.")
@click.option(
    "--enable-remote-control/--no-enable-remote-control",
    "remote_control",
    default=None,
    help="Answer `inspect ping` as celerybeat@HOST, unless it is stuck.",
)
@click.option("-s", "--schedule", "--schedule-filename", "schedule", hidden=True)
@click.option("--executable", hidden=True)
@click.option("--detach", is_flag=True, hidden=True)
@click.option("--uid", hidden=True)
@click.option("--gid", hidden=True)
@click.option("--umask", hidden=True)
def command(
    *,
    check: bool,
    name: str | None,
    pidfile: str | None,
    max_interval: float | None,
    scheduler: str | None,
    schedule: str | None,
    executable: str | None,
    **options: Any,
) -> int:
    """Send the application's periodic tasks when they are due, until told to stop."""
    from celeriac.app.runtime import node_name
    from celeriac.worker import exits as codes
    from celeriac.worker.failure import LoadError

    here = session()
    if here.app_text is None:
        raise ConfigError("a beat needs an application: celeriac -A MODULE beat, or set CELERIAC_APP")
    refuse_detached("a beat", options)
    if schedule is not None:
        here.notice("--schedule has no effect: where each entry has got to is kept by the broker's store")
    if executable is not None:
        here.notice("--executable has no effect: it runs the interpreter of the command")
    try:
        app = _load(here, max_interval, scheduler)
        try:
            here.shared_app  # noqa: B018 - a beat in a process of its own must reach workers in others
        except ConfigError as exc:
            click.echo(explain(exc), err=True)
            return codes.CONFIG
        beat: Beating = app.make_beat(name=None if name is None else node_name(name))
        if check:
            return _check(here, app)
    except Exception as exc:
        click.echo(screen.visible(LoadError.of(exc).report), err=True)
        return codes.CONFIG

    from celeriac.app.beating import BeatOverrides, Whistle, run_beat

    overrides = BeatOverrides(name=name, color=None if here.color else False, **options)
    try:
        with Whistle(beat), pid_in(pidfile):
            return run_beat(app, beat, overrides, text=here.app_text)
    except PidFileTakenError as exc:
        click.echo(f"celeriac: {exc}", err=True)
        return exits.TAKEN
    finally:
        sys.stderr.flush()
        app.close()


def _load(here: Session, max_interval: float | None, scheduler: str | None) -> Celeriac:
    """The application with its modules.

    Raises:
        Exception: Whatever is wrong with it.
    """
    app = here.app
    if max_interval is not None:
        app.conf["beat_max_loop_interval"] = max_interval
    if scheduler is not None:
        app.conf["beat_scheduler"] = scheduler
    app.import_modules()
    return app


def _check(here: Session, app: Celeriac) -> int:
    """Those of the code are right, or there would be no beat; those of the store can be asked."""
    from celeriac.worker import exits as codes

    try:
        entries = app.schedules.list()
    except BrokerError as exc:
        here.notice(f"the entries of the store are not checked: {exc}")
        entries = []
    faulty = [entry for entry in entries if entry.error]
    for entry in faulty:
        click.echo(f"celeriac: {screen.visible(entry.error)}", err=True)
    count = len(entries) or len(app.schedule_source().read() or {})
    screen.line(f"{count} {'entry' if count == 1 else 'entries'}, {len(faulty) or 'none'} of them wrong")
    return codes.CONFIG if faulty else codes.OK
