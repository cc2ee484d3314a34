"""From an application to a worker: the parts of its processes, and the command that runs one.

`load` is called by the fork server, the only process that imports the application; what it makes is forked. The
supervisor never imports user code: `oversee` builds its parts from the plain settings in the manifest.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from celeriac._version import __version__
from celeriac.app.adapters import open_broker, open_control, open_events, open_results
from celeriac.app.application import Celeriac
from celeriac.app.finder import find_app
from celeriac.app.queues import worker_direct
from celeriac.engine import signals
from celeriac.engine.casualties import Casualties
from celeriac.errors import ConfigError
from celeriac.worker.listener import with_receivers
from celeriac.worker.runtime import Links, Loaded, Loader, Manifest, Oversight, Runtime, WorkerOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celeriac.engine.casualties import TaskFacts
    from celeriac.worker.runtime import Beating

_SLACK_S = 3600.0
"""By which hosts' clocks may differ before a message is not too old and its task's end is forgotten."""
_THREAD_POOLS = ("gevent", "eventlet")


class WorkerOverrides(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says over the settings; None leaves it to them."""

    queues: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    pool: str | None = None
    processes: int | None = None
    """`--concurrency`: processes, or threads of the one process of the pool `threads`."""
    threads: int | None = None
    async_slots: int | None = None
    node: str | None = None
    """May contain Celery's `%h` (host), `%n` (name) and `%d` (domain)."""
    log_level: str | None = None
    log_json: bool | None = None
    log_file: str | None = None
    color: bool | None = None
    autoreload: bool = False
    task_events: bool = False
    purge: bool = False
    grace_s: float | None = None
    max_tasks_per_child: int | None = None
    max_memory_per_child_kib: int | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    broker: str | None = None
    result_backend: str | None = None
    include: tuple[str, ...] = ()
    workdir: str | None = None
    beat: bool = False
    """Also run the schedule."""
    scheduler: str | None = None
    """Celery's `--scheduler`: the setting `beat_scheduler`."""


def run_worker(app: str, overrides: WorkerOverrides, *, loader: str = "celeriac.app.runtime:load") -> int:
    """Run the worker of the application that `app` names (as `-A` does) until it is told to stop.

    Args:
        app: As `-A`.
        overrides: What the command line says.
        loader: `package.module:function` that imports the application, with the arguments and the result of `load`.

    Returns:
        The exit code; see `worker.exits`.
    """
    if overrides.pool == "solo":
        return _run_solo(app, overrides, loader)
    from celeriac.worker.supervisor import Supervisor

    how = Loader(target=loader, arguments={"app": app, "overrides": msgspec.to_builtins(overrides)})
    _warm_up()
    supervisor = Supervisor(how, oversee, version=__version__)
    code = supervisor.run()
    # Only the application's settings say `solo`, and only the fork server has read them.
    return _run_solo(app, overrides, loader) if supervisor.is_solo else code


def _warm_up() -> None:
    """Import what supervisor and processes both need, so that they share its memory: the engine that is the default."""
    import celeriac.brokers.sqlite
    import celeriac.results.sqlite
    import celeriac.worker.logging
    import celeriac.worker.process  # noqa: F401


def _run_solo(app: str, overrides: WorkerOverrides, loader: str) -> int:
    from celeriac.worker import exits
    from celeriac.worker.embedded import EmbeddedWorker
    from celeriac.worker.failure import LoadError
    from celeriac.worker.forkserver import resolve
    from celeriac.worker.logging import banner, configure

    try:
        solo = msgspec.to_builtins(msgspec.structs.replace(overrides, pool="solo"))
        loaded: Loaded = resolve(loader)(app=app, overrides=solo)
    except Exception as exc:
        sys.stderr.write(LoadError.of(exc).report + "\n")
        return exits.CONFIG
    if loaded.manifest.options.log_setup:
        configure(loaded.manifest.options)
        loaded.on_logging()
    sys.stderr.write(banner(loaded.manifest, __version__) + "\n")
    EmbeddedWorker(loaded.runtime).run(beat=loaded.beat)
    return exits.OK


def load(app: str, overrides: Mapping[str, Any]) -> Loaded:
    """Import the application and work out what its worker needs.

    Args:
        app: As `-A`.
        overrides: A `WorkerOverrides` as plain data.

    Raises:
        ConfigError: It cannot be found, or a setting is wrong.
    """
    wanted = msgspec.convert(overrides, WorkerOverrides)
    found = find_app(app, Celeriac, workdir=wanted.workdir)
    _override(found, wanted)
    found.import_modules()
    options = worker_options(found, wanted)
    if options.pool != "solo" and not found.broker.traits.cross_process:
        raise ConfigError(
            f"the broker {found.broker.url} lives in one process, so worker processes cannot reach it; "
            "use a sqlite:/// URL, or --pool solo, or the embedded worker of celeriac.testing"
        )
    if options.pool == "solo" and wanted.pool != "solo":
        return _loaded(app, found, options)  # not to be run here: see `run_worker`
    if wanted.beat:
        found.make_beat()  # what is wrong with an entry is said now, and not by each process that tries to run it
    if signals.celeryd_init:
        signals.celeryd_init.send(options.node, instance=None, conf=found.conf, options=overrides)
    if signals.setup_logging:  # who has receivers there sets logging up himself, as with Celery
        signals.setup_logging.send(
            options.node,
            loglevel=logging.getLevelName(options.log_level.upper()),
            logfile=options.log_file,
            format=None,
            colorize=options.log_color,
        )
        options = msgspec.structs.replace(options, log_setup=False)
    if wanted.purge:
        found.broker.purge(options.queues)
    if signals.celeryd_after_setup:
        signals.celeryd_after_setup.send(options.node, instance=None, conf=found.conf)
    if signals.worker_init:
        signals.worker_init.send(options.node)
    loaded = _loaded(app, found, options)
    found.close()  # what was opened so far belongs to this process, not to those it forks
    return loaded


def _loaded(text: str, found: Celeriac, options: WorkerOptions) -> Loaded:
    manifest = Manifest(
        app=text,
        options=options,
        tasks=tuple(task.facts() for task in found.tasks.values()),
        broker_url=found.broker_url,
        result_url=None if found.results is None else found.settings.result_backend or found.broker_url,
        settings=_plain_settings(found),
        listens=with_receivers(),
        commands=tuple(found.commands),
        modules=_own_files(),
    )
    return Loaded(
        manifest=manifest,
        runtime=lambda: make_runtime(found, options),
        on_logging=lambda: announce_logging(options),
        commands=found.commands,
        beat=(lambda: _embedded_beat(found)) if options.beat else None,
    )


def announce_logging(options: WorkerOptions) -> None:
    """Send the signals that follow when logging has been set up."""
    facts = {
        "loglevel": logging.getLevelName(options.log_level.upper()),
        "logfile": options.log_file,
        "format": None,
        "colorize": options.log_color,
    }
    signals.after_setup_logger.send(options.node, logger=logging.getLogger(), **facts)
    signals.after_setup_task_logger.send(options.node, logger=logging.getLogger("celeriac.task"), **facts)


def _embedded_beat(app: Celeriac) -> Beating:
    from celeriac.app.beats import tell_of_marks

    beat = app.make_beat()
    tell_of_marks(app)
    signals.beat_embedded_init.send(beat)
    return beat


def make_runtime(app: Celeriac, options: WorkerOptions) -> Runtime:
    """The parts of one process that runs the tasks of `app`."""
    links = Links(
        broker=app.broker, results=app.results, control=app.control_channel, fused=app.fused, events=app.event_channel
    )
    facts = {task.name: task.facts() for task in app.tasks.values()}
    return Runtime(
        options=options,
        links=links,
        executor=app.executor(options.node, results=app.results, fused=app.fused),
        casualties=_casualties(app, facts, options.node),
        on_process_start=lambda: signals.worker_process_init.send(options.node),
        on_process_stop=lambda pid, code: signals.worker_process_shutdown.send(options.node, pid=pid, exitcode=code),
        define=app.topology.define,
        rates={name: one.rate_limit for name, one in facts.items() if one.rate_limit is not None},
    )


def oversee(manifest: Manifest) -> Oversight:
    """The supervisor's own adapters, and its judge of what died; needs no user code."""
    settings: dict[str, Any] = dict(manifest.settings)
    app = Celeriac(manifest.app, **settings)
    conf = app.settings
    broker = open_broker(app.broker_url, conf, app.clock, app.codec, topology=lambda: app.topology)
    results = open_results(conf.result_backend or app.broker_url, conf, app.clock, app.codec)
    links = Links(
        broker=broker,
        results=results,
        control=open_control(app.broker_url, conf, app.clock) if conf.worker_enable_remote_control else None,
        fused=results is not None and broker.traits.stores_results and results.url == broker.url,
        events=open_events(app.broker_url, conf, app.clock),
    )
    facts = {task.name: task for task in manifest.tasks}
    return Oversight(
        links=links,
        casualties=_casualties(app, facts, manifest.options.node),
        define=app.topology.define,
        describe=app.topology.describe,
    )


def _casualties(app: Celeriac, facts: Mapping[str, TaskFacts], node: str) -> Casualties:
    writer = app.result_writer(node)
    return Casualties(
        facts=facts,
        codec=app.codec,
        writer=writer,
        continuation=app.links(app.submitter, writer),
        store_results=app.results is not None,
        node=node,
    )


def worker_options(app: Celeriac, wanted: WorkerOverrides) -> WorkerOptions:
    """Settings and command line together, resolved.

    Raises:
        ConfigError: No queue is left, an option contradicts another, or there is no key to sign with.
    """
    conf = app.settings
    signer = app.codec.signer
    if signer is not None and not signer.can_sign_results:
        raise ConfigError(
            f"security_signing={conf.security_signing!r}: {conf.security_key_file} has no active key, with its secret, "
            "that may sign results, so this worker could bring no task to its end; `celeriac keys generate` makes one"
        )
    pool = wanted.pool or conf.worker_pool
    pool = "threads" if pool in _THREAD_POOLS else "processes" if pool == "prefork" else pool
    node = node_name(wanted.node)
    queues = app.router.select(wanted.queues, wanted.exclude)
    if conf.worker_direct:
        own = worker_direct(node)
        app.router.add(own)
        queues = (*queues, own.name)
    concurrency = wanted.processes or conf.worker_concurrency
    threads = conf.worker_threads if wanted.threads is None else wanted.threads
    if pool == "threads":
        processes, threads = 1, threads or concurrency
    elif pool == "solo":
        processes, threads = 1, 0
    else:
        processes = concurrency
    return WorkerOptions(
        node=node,
        queues=queues,
        pool=pool,
        processes=processes,
        threads=threads,
        async_slots=wanted.async_slots or conf.worker_async_slots,
        lease_s=conf.worker_lease,
        reap_every_s=conf.worker_reap_every,
        grace_s=conf.worker_grace if wanted.grace_s is None else wanted.grace_s,
        soft_shutdown_s=conf.worker_soft_shutdown_timeout,
        max_tasks_per_child=wanted.max_tasks_per_child or conf.worker_max_tasks_per_child,
        max_memory_per_child_kib=wanted.max_memory_per_child_kib or conf.worker_max_memory_per_child,
        max_deliveries=conf.task_max_deliveries,
        claim_ahead_s=conf.worker_claim_ahead,
        log_level=wanted.log_level or conf.worker_log_level,
        log_json=conf.worker_log_json if wanted.log_json is None else wanted.log_json,
        log_color=conf.worker_log_color if wanted.color is None else wanted.color,
        log_file=wanted.log_file or conf.worker_logfile,
        log_setup=conf.worker_hijack_root_logger,
        log_tasks=conf.worker_log_tasks,
        autoreload=wanted.autoreload,
        tombstones_s=conf.security_replay_window + _SLACK_S if conf.security_signing == "require" else None,
        task_events=wanted.task_events or conf.worker_send_task_events,
        beat=wanted.beat,
    )


def node_name(wanted: str | None) -> str:
    """A worker's node name: `celery@<host>`, or what was asked for with Celery's `%h`, `%n` and `%d` filled in."""
    host = socket.gethostname()
    if not wanted:
        return f"celery@{host}"
    name, _, domain = host.partition(".")
    filled = wanted.replace("%h", host).replace("%n", name).replace("%d", domain)
    return filled if "@" in filled else f"{filled}@{host}"


def _override(app: Celeriac, wanted: WorkerOverrides) -> None:
    named = {
        "broker_url": wanted.broker,
        "result_backend": wanted.result_backend,
        "task_time_limit": wanted.time_limit,
        "task_soft_time_limit": wanted.soft_time_limit,
        "beat_scheduler": wanted.scheduler,
    }
    changes: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if wanted.include:
        changes["include"] = (*app.settings.include, *wanted.include)
    if changes:
        app.conf.update(changes)


def _plain_settings(app: Celeriac) -> dict[str, object]:
    """What was set and is plain data; routing functions and the like stay in the processes that have the code."""
    conf = app.settings
    plain: dict[str, object] = {}
    for name in conf.sources:
        value = getattr(conf, name)
        try:
            plain[name] = msgspec.json.decode(msgspec.json.encode(value))
        except TypeError:
            continue
    plain["broker_url"] = app.broker_url
    return plain


def _own_files() -> tuple[str, ...]:
    """Source files of imported modules that are neither Python's nor installed packages: what a developer edits."""
    foreign = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")})
    here = str(Path(__file__).resolve().parents[1]) + os.sep
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return tuple(sorted(file for file in files if file and not file.startswith((*foreign, here))))
