"""`celeriac worker`: Celery's options and ours, made into one record; the worker itself is built from it elsewhere."""

from __future__ import annotations

from typing import Any

import click

from celeriac.cli import exits
from celeriac.cli.names import split_names
from celeriac.cli.pidfile import PidFileTakenError, pid_in
from celeriac.cli.root import Command
from celeriac.cli.session import session
from celeriac.errors import ConfigError

_NO_EFFECT = {
    "without_gossip": ("--without-gossip", "workers do not gossip"),
    "without_mingle": ("--without-mingle", "a worker asks no other worker at its start; it starts at once"),
    "without_heartbeat": ("--without-heartbeat", "leases need a beat, and one beat serves a whole worker"),
    "optimization": ("-O", "each process claims for itself, and what waits behind a slow task goes back to others"),
    "prefetch_multiplier": ("--prefetch-multiplier", "fetching follows the measured duration of tasks"),
    "disable_prefetch": ("--disable-prefetch", "what waits behind a slow task is given back to others"),
    "statedb": ("--statedb", "revoked tasks are kept by the broker's store"),
    "pool_start_method": ("--pool-start-method", "processes come from a fork server"),
    "heartbeat_interval": ("--heartbeat-interval", "one beat serves leases and monitors alike"),
    "schedule": ("--schedule", "where each entry has got to is kept by the broker's store"),
    "executable": ("--executable", "processes run the interpreter of the command"),
}
"""Celery's options that are taken and change nothing: as they are written, and why."""

_REFUSED = {
    "detach": ("--detach", "let the service manager start it (systemd), or `celeriac multi start` a worker"),
    "uid": ("--uid", "let the service manager (systemd: User=) start it as that user"),
    "gid": ("--gid", "let the service manager (systemd: Group=) start it as that group"),
    "umask": ("--umask", "let the service manager (systemd: UMask=) set it"),
}
"""Those that would change what the worker may do: as they are written, and what to do."""

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_POOLS = ("processes", "threads", "solo", "prefork", "gevent", "eventlet")


def _processes(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    if value == "auto":
        from celeriac.app.settings import available_processors

        return available_processors()
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise click.BadParameter(f"{value!r} is neither a number from 1 nor 'auto'", context, parameter)
    return number


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  celeriac -A shop worker                        processes for all processors, the default queue
  celeriac -A shop worker -Q images,mail -c 8    two queues, eight processes
  celeriac -A shop worker -c 1 --threads 50      for tasks that wait for the network
  celeriac -A shop worker --autoreload           while developing
  celeriac -A shop worker --beat                 with the schedule, which any number of workers may run

\b
SIGTERM or Ctrl-C ends it when what runs has finished (--grace); a second one, or SIGQUIT, at once.
Nothing is lost either way: what has not finished goes back to its queue.

\b
Exit codes: 0 what ran was finished · 1 something was cut short and given back · 70 no process could start, or a part
of the worker failed · 73 --pidfile belongs to one that runs · 78 the application cannot be loaded, or is set up
wrongly, or (--beat) an entry of its schedule is wrong""",
)
@click.option(
    "-c",
    "--concurrency",
    "processes",
    metavar="N",
    callback=_processes,
    help="Processes (with -P threads: threads). 'auto': as many as processors may be used.",
)
@click.option("-P", "--pool", type=click.Choice(_POOLS), help="What runs tasks; prefork is processes.")
@click.option("-Q", "--queues", multiple=True, metavar="NAMES", help="Queues to serve, separated by commas.")
@click.option("-X", "--exclude-queues", "exclude", multiple=True, metavar="NAMES", help="Queues not to serve.")
@click.option(
    "-n",
    "--hostname",
    "node",
    metavar="NAME",
    envvar="CELERIAC_NODE",
    help="The worker's name, such as w1@%h; %h is the host, %n its first part, %d the rest.",
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
@click.option("--threads", type=click.IntRange(0), help="Threads per process for `def` tasks.")
@click.option("--async-slots", type=click.IntRange(1), help="`async def` tasks at a time per process.")
@click.option("--max-tasks-per-child", type=click.IntRange(1), help="Tasks after which a process is replaced.")
@click.option(
    "--max-memory-per-child",
    "max_memory_per_child_kib",
    type=click.IntRange(1),
    metavar="KIB",
    help="Resident memory in KiB above which a process is replaced.",
)
@click.option("--time-limit", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Kill tasks after this.")
@click.option(
    "--soft-time-limit",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Raise SoftTimeLimitExceeded in tasks after this.",
)
@click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="What running tasks get to finish after SIGTERM.",
)
@click.option("--purge", "--discard", is_flag=True, help="Delete all waiting messages of these queues first.")
@click.option("-I", "--include", multiple=True, metavar="MODULES", help="More modules with tasks.")
@click.option("--autoreload", is_flag=True, help="Start anew when source files change; for development.")
@click.option("--pidfile", metavar="FILE", help="Keep the worker's process id there while it runs.")
@click.option("--autoscale", metavar="MAX,MIN", help="MAX processes: idle ones cost next to nothing. Celery's.")
@click.option("-B", "--beat", is_flag=True, help="Also run the schedule; any number of workers may.")
@click.option("-E", "--task-events", "--events", "task_events", is_flag=True, help="Tell monitors how each task fares.")
@click.option("--without-gossip", is_flag=True, help="No effect; Celery's.")
@click.option("--without-mingle", is_flag=True, help="No effect; Celery's.")
@click.option("--without-heartbeat", is_flag=True, help="No effect; Celery's.")
@click.option("-O", "--optimization", "optimization", metavar="WORD", help="No effect; Celery's.")
@click.option("--prefetch-multiplier", metavar="N", help="No effect; Celery's.")
@click.option("--disable-prefetch", is_flag=True, hidden=True)
@click.option("-S", "--statedb", hidden=True)
@click.option("--pool-start-method", hidden=True)
@click.option("--heartbeat-interval", hidden=True)
@click.option("-s", "--schedule", "--schedule-filename", "schedule", hidden=True)
@click.option("--scheduler", metavar="CLASS", help="With -B and --as-celery: a scheduler class of Celery's making.")
@click.option("--executable", hidden=True)
@click.option("-D", "--detach", is_flag=True, hidden=True)
@click.option("--uid", hidden=True)
@click.option("--gid", hidden=True)
@click.option("--umask", hidden=True)
def command(
    *,
    pool: str | None,
    queues: tuple[str, ...],
    exclude: tuple[str, ...],
    include: tuple[str, ...],
    pidfile: str | None,
    autoscale: str | None,
    **options: Any,
) -> int:
    """Run the tasks of an application until told to stop."""
    here = session()
    if here.app_text is None:
        raise ConfigError("a worker needs an application: celeriac -A MODULE worker, or set CELERIAC_APP")
    refuse_detached("a worker", options)
    if autoscale is not None and options["processes"] is None:
        options["processes"] = _most(autoscale)
        here.notice(f"--autoscale runs {options['processes']} processes all the time: idle ones cost next to nothing")
    for name, (spelling, why) in _NO_EFFECT.items():
        if options.pop(name):
            here.notice(f"{spelling} has no effect: {why}")
    if pool in ("gevent", "eventlet"):
        here.notice(f"-P {pool} runs threads: there are no green threads here, and `async def` tasks need no pool")
    pool = {"prefork": "processes", "gevent": "threads", "eventlet": "threads"}.get(pool or "", pool)

    from celeriac.app.runtime import WorkerOverrides, run_worker

    more = {}
    if here.as_celery:
        from celeriac.compat.worker import LOADER

        more["loader"] = LOADER
    overrides = WorkerOverrides(
        queues=split_names(queues),
        exclude=split_names(exclude),
        include=split_names(include),
        pool=pool,
        color=None if here.color else False,
        broker=here.broker,
        result_backend=here.result_backend,
        workdir=here.workdir,
        **options,
    )
    try:
        with pid_in(pidfile):
            return run_worker(here.app_text, overrides, **more)
    except PidFileTakenError as exc:
        click.echo(f"celeriac: {exc}", err=True)
        return exits.TAKEN


def refuse_detached(what: str, options: dict[str, Any]) -> None:
    """Take Celery's options of daemons out of the options.

    Raises:
        ConfigError: One was given.
    """
    for name, (spelling, instead) in _REFUSED.items():
        if options.pop(name):
            raise ConfigError(f"{spelling}: {what} stays in the foreground, as who started it; {instead}")


def _most(text: str) -> int:
    """The most processes of `MAX,MIN`."""
    most = text.partition(",")[0].strip()
    if not most.isdigit() or not int(most):
        raise click.BadParameter(f"{text!r} is not MAX,MIN with numbers from 1", param_hint="--autoscale")
    return int(most)
