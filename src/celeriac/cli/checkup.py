"""The doctor's checks. Each looks at one thing and says what it found and, where it is not well, what to do.

A check never repairs anything, and one that cannot look says so as a finding, so that the others still run.
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import stat
import sys
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import msgspec

from celeriac import __version__
from celeriac.app.urls import parse
from celeriac.cli.screen import age, size
from celeriac.errors import BrokerError, CeleriacError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from celeriac.app.application import Celeriac
    from celeriac.model import QueueDepth

Level = Literal["ok", "note", "wrong"]

_LEAST_FREE_BYTES: Final = 256 << 20
_LARGE_WAL_BYTES: Final = 256 << 20
"""A worker cuts its log back long before; above this a reader keeps it from doing so."""
_LEAST_FILES: Final = 1024
_LONG_WAIT_S: Final = 60.0
_QUICK_BYTES: Final = 1 << 30
"""Larger databases are only read whole when asked for: it would take minutes."""
_SAFE_SQLITE: Final = (3, 51, 3)
_CLOCK_SLACK_S: Final = 60.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found."""

    check: str
    level: Level
    found: str
    advice: str = ""


class Patient:
    """What is examined.

    Args:
        app: The application.
        named: It was given with `-A`; else it is a plain one that only knows its broker.
        timeout_s: How long workers get to answer.
        thorough: Also what takes long.
    """

    def __init__(self, app: Celeriac, *, named: bool, timeout_s: float, thorough: bool) -> None:
        self.app = app
        self.named = named
        self.timeout_s = timeout_s
        self.thorough = thorough
        self._serving: dict[str, list[str]] | None = None

    @property
    def file(self) -> Path | None:
        """The database file of a broker that is one."""
        path = parse(self.app.settings.broker_url).path
        return None if path is None else Path(path)

    @property
    def is_shared(self) -> bool:
        """Whether there is a store that other processes use too. A file that does not exist is not made by looking."""
        file = self.file
        return self.app.broker.traits.cross_process and (file is None or file.exists())

    @property
    def place(self) -> Path:
        """The nearest directory that exists, of the database or the working directory."""
        place = self.file.parent if self.file is not None else Path.cwd()
        while not place.is_dir():
            place = place.parent
        return place

    def serving(self) -> dict[str, list[str]]:
        """Nodes by queue, as the workers say."""
        if self._serving is None:
            self._serving = {}
            replies = self.app.control.inspect(timeout=self.timeout_s).active_queues()
            for node, queues in sorted(replies.items()):
                for queue in queues if isinstance(queues, list) else ():
                    name = queue.get("name") if isinstance(queue, dict) else queue
                    self._serving.setdefault(str(name), []).append(node)
        return self._serving

    def depth(self) -> Mapping[str, QueueDepth]:
        return self.app.broker.depth()


def examine(patient: Patient) -> Iterator[Finding]:
    """Run every check, in the order in which a person would ask."""
    yield from _python(patient)
    reached = True
    for name, check in _CHECKS.items():
        if name in _ASKING and not reached:
            continue  # the same words again, each after its own timeout
        try:
            yield from check(patient)
        except (CeleriacError, OSError) as exc:
            reached = reached and not (name == "broker" and isinstance(exc, BrokerError) and patient.file is None)
            yield Finding(check=name, level="wrong", found=str(exc) or type(exc).__name__)


def _python(patient: Patient) -> Iterator[Finding]:
    found = f"celeriac {__version__} on {platform.python_implementation()} {platform.python_version()}, {sys.platform}"
    if sys.platform == "win32":
        yield Finding(
            check="python", level="note", found=found, advice="on Windows, run workers with --pool threads or solo"
        )
    else:
        yield Finding(check="python", level="ok", found=found)


def _application(patient: Patient) -> Iterator[Finding]:
    if not patient.named:
        yield Finding(
            check="application", level="note", found="none given", advice="add -A MODULE to check your own as well"
        )
        return
    app = patient.app
    modules = app.import_modules()
    found = f"{app.main!r} with {len(app.tasks)} tasks" + (f" from {len(modules)} modules" if modules else "")
    if app.tasks:
        yield Finding(check="application", level="ok", found=found)
    else:
        yield Finding(
            check="application",
            level="wrong",
            found=found,
            advice="a worker would have nothing to run; name the modules with tasks in `include`",
        )


def _settings(patient: Patient) -> Iterator[Finding]:
    settings = patient.app.settings
    yield Finding(check="settings", level="ok", found=f"{len(settings.sources)} set, all valid")
    for each in settings.ignored:
        yield Finding(
            check="settings", level="note", found=f"{each.name} (from {each.source}) has no effect", advice=each.reason
        )


def _keys(patient: Patient) -> Iterator[Finding]:
    settings = patient.app.settings
    if settings.security_key_file is None:
        return
    from celeriac.codec import KeyFile

    path = Path(settings.security_key_file)
    keys = KeyFile(path).ring.by_kid.values()  # raises where one of them is of no use
    active = sum(usable.key.status == "active" for usable in keys)
    is_encrypting = "on" if settings.security_encryption else "off"
    found = (
        f"{path}: {len(keys)} keys, {active} active; signing {settings.security_signing!r}, encryption {is_encrypting}"
    )
    signer = patient.app.codec.signer
    if signer is not None and not signer.can_sign_results:
        yield Finding(
            check="keys",
            level="wrong",
            found=found,
            advice="none may sign results, so no worker starts with it: `celeriac keys generate` makes one that may",
        )
    elif signer is None and not settings.security_encryption:
        yield Finding(
            check="keys",
            level="note",
            found=found,
            advice="the keys are not used: set security_signing, security_encryption or both",
        )
    else:
        yield Finding(check="keys", level="ok", found=found)


def _broker(patient: Patient) -> Iterator[Finding]:
    broker = patient.app.broker
    if patient.file is not None and not patient.file.exists():
        yield Finding(
            check="broker",
            level="note",
            found=f"{patient.file} does not exist yet",
            advice="it is made when first used",
        )
        return
    broker.depth()  # opens it, so it fails here and with its own words
    found = f"{broker.url} answers"
    if not broker.traits.cross_process:
        yield Finding(
            check="broker", level="note", found=found, advice="it lives in one process: for tests, not for workers"
        )
    else:
        yield Finding(check="broker", level="ok", found=found)
    results = patient.app.results
    if results is None:
        yield Finding(check="results", level="note", found="disabled", advice="no task's result can be read")
    else:
        results.get(["doctor"])
        together = "with the broker, in one transaction" if patient.app.fused else "apart from the broker"
        yield Finding(check="results", level="ok", found=f"{results.url}, {together}")


def _sqlite(patient: Patient) -> Iterator[Finding]:
    if patient.file is None:
        return
    found = f"SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < (3, 35):
        yield Finding(check="sqlite", level="wrong", found=found, advice="3.35 or newer is needed: use a newer Python")
    elif sqlite3.sqlite_version_info < _SAFE_SQLITE:
        yield Finding(
            check="sqlite",
            level="note",
            found=found,
            advice="before 3.51.3 two checkpoints at once could, very rarely, corrupt a file; workers take turns with "
            "them, so do not checkpoint this file with other programs",
        )
    else:
        yield Finding(check="sqlite", level="ok", found=found)


def _redis(patient: Patient) -> Iterator[Finding]:
    if not patient.app.broker.traits.name.startswith("redis"):
        return
    from celeriac.cli.checkup_redis import lines

    examine_server: Callable[[], Any] = getattr(patient.app.broker, "check")  # noqa: B009 - the protocol has none
    for check, level, found, advice in lines(examine_server()):
        yield Finding(check=check, level=cast("Level", level), found=found, advice=advice)


def _rabbitmq(patient: Patient) -> Iterator[Finding]:
    app = patient.app
    if app.broker.traits.name != "rabbitmq":
        return
    from celeriac.cli.checkup_rabbitmq import lines, names

    settings = app.settings
    examine_server: Callable[..., Any] = getattr(app.broker, "check")  # noqa: B009 - the protocol has none
    results = None if app.results is None else app.results.url.partition("://")[0].partition("+")[0]
    health = examine_server(names(settings.control_exchange, settings.event_exchange, rpc=results == "rpc"))
    for check, level, found, advice in lines(health, results=results):
        yield Finding(check=check, level=cast("Level", level), found=found, advice=advice)


def _file(patient: Patient) -> Iterator[Finding]:
    file = patient.file
    if file is None or not file.exists():
        return
    health = getattr(patient.app.broker, "check", None)
    bytes_ = file.stat().st_size
    if health is None or (bytes_ > _QUICK_BYTES and not patient.thorough):
        yield Finding(
            check="database", level="note", found=f"{size(bytes_)}, not read", advice="--thorough reads all of it"
        )
    else:
        facts = health()
        kind = f" on {facts.file_system}" if facts.file_system else ""
        found = f"{size(bytes_)}{kind}: {facts.messages} messages, {facts.results} results, schema {facts.schema}"
        if facts.problems:
            yield Finding(
                check="database",
                level="wrong",
                found=f"damaged: {'; '.join(facts.problems[:3])}",
                advice="stop all workers, keep a copy of the file and its -wal, restore a backup or use "
                "sqlite3's .recover",
            )
        else:
            yield Finding(check="database", level="ok", found=f"{found}; sound")
    wal = file.with_name(f"{file.name}-wal")
    bytes_ = wal.stat().st_size if wal.exists() else 0
    if bytes_ > _LARGE_WAL_BYTES:
        yield Finding(
            check="write-ahead log",
            level="wrong",
            found=size(bytes_),
            advice="something reads the file without end; find it with: fuser " + file.name,
        )
    else:
        yield Finding(check="write-ahead log", level="ok", found=size(bytes_))


def _permissions(patient: Patient) -> Iterator[Finding]:
    file = patient.file
    place = patient.place
    if file is None:
        return
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding(
            check="permissions",
            level="wrong",
            found=f"this user may not write in {place}",
            advice="SQLite makes files beside the database: allow it, or use another directory",
        )
        return
    if not file.exists():
        return
    status = file.stat()
    mode = stat.S_IMODE(status.st_mode)
    if not os.access(file, os.R_OK | os.W_OK):
        yield Finding(
            check="permissions",
            level="wrong",
            found=f"this user may not read and write {file} ({stat.filemode(status.st_mode)})",
            advice="run producers and workers as the user who owns it",
        )
    elif mode & 0o022:
        yield Finding(
            check="permissions",
            level="wrong",
            found=f"others may write {file} ({stat.filemode(status.st_mode)})",
            advice=f"whoever writes there gives your workers orders: chmod 600 {file}",
        )
    elif mode & 0o044:
        yield Finding(
            check="permissions",
            level="note",
            found=f"others may read {file} ({stat.filemode(status.st_mode)})",
            advice=f"arguments and results are in it: chmod 600 {file}",
        )
    else:
        yield Finding(check="permissions", level="ok", found=f"{stat.filemode(status.st_mode)}, only its owner")


def _space(patient: Patient) -> Iterator[Finding]:
    usage = shutil.disk_usage(patient.place)
    found = f"{size(usage.free)} of {size(usage.total)} free in {patient.place}"
    if usage.free < _LEAST_FREE_BYTES:
        yield Finding(
            check="disk space",
            level="wrong",
            found=found,
            advice="when it is full, tasks are refused and results wait; make room",
        )
    else:
        yield Finding(check="disk space", level="ok", found=found)


def _limits(patient: Patient) -> Iterator[Finding]:
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = soft == resource.RLIM_INFINITY
    open_files = Path("/proc/self/fd")
    used = f", {len(list(open_files.iterdir()))} open here" if open_files.is_dir() else ""
    found = f"{'any number of' if unlimited else soft} files may be open{used}"
    if not unlimited and soft < _LEAST_FILES:
        yield Finding(
            check="limits", level="note", found=found, advice=f"async tasks may need more: ulimit -n {_LEAST_FILES}"
        )
    else:
        yield Finding(check="limits", level="ok", found=found)
    largest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if largest != resource.RLIM_INFINITY:
        yield Finding(
            check="limits",
            level="note",
            found=f"files may grow to {size(largest)} only",
            advice="a database that reaches it refuses tasks: ulimit -f unlimited",
        )


def _clock(patient: Patient) -> Iterator[Finding]:
    now = patient.app.clock.time()
    file = patient.file
    ahead_s = 0.0
    for path in (file, file.with_name(f"{file.name}-wal")) if file is not None else ():
        if path.exists():
            ahead_s = max(ahead_s, path.stat().st_mtime - now)
    if ahead_s > _CLOCK_SLACK_S:
        yield Finding(
            check="clock",
            level="wrong",
            found=f"the database was last written {age(ahead_s)} in the future",
            advice="delayed tasks are due by this clock: set it, and keep it set (NTP)",
        )
    elif now < Path(__file__).stat().st_mtime - 86400:
        yield Finding(
            check="clock",
            level="wrong",
            found="it is earlier than the day this package was installed",
            advice="set it, and keep it set (NTP)",
        )
    else:
        from datetime import datetime

        shown = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        yield Finding(check="clock", level="ok", found=f"{shown}; zone of schedules {patient.app.settings.timezone}")


def _workers(patient: Patient) -> Iterator[Finding]:
    if not patient.is_shared:
        return
    serving = patient.serving()
    if not serving:
        waiting = sum(each.ready for each in patient.depth().values())
        yield Finding(
            check="workers",
            level="wrong" if waiting else "note",
            found=f"none replied, and {waiting} messages are ready" if waiting else "none replied",
            advice="start one: celeriac -A MODULE worker",
        )
        return
    for queue, nodes in sorted(serving.items()):
        yield Finding(check="workers", level="ok", found=f"queue {queue}: {', '.join(nodes)}")
    if not patient.named:
        return
    known = set(patient.app.tasks)
    for node, names in sorted(patient.app.control.inspect(timeout=patient.timeout_s).registered().items()):
        # a task with a rate limit is shown with it
        if isinstance(names, list) and (missing := sorted(known - {str(each).partition(" [")[0] for each in names})):
            more = ", …" if len(missing) > 5 else ""
            yield Finding(
                check="workers",
                level="note",
                found=f"{node} does not know {', '.join(missing[:5])}{more}",
                advice="does it run older code, or another application? Restart it after a deployment",
            )


def _queues(patient: Patient) -> Iterator[Finding]:
    if not patient.is_shared:
        return
    serving = patient.serving()
    depth = patient.depth()
    quiet = True
    for name, each in sorted(depth.items()):
        if each.ready and serving and name not in serving:
            quiet = False
            yield Finding(
                check="queues",
                level="wrong",
                found=f"{each.ready} messages are ready in {name}, and no worker serves it",
                advice=f"celeriac -A MODULE worker -Q {name}",
            )
        elif each.ready and name in serving and (each.oldest_ready_s or 0.0) > _LONG_WAIT_S:
            quiet = False
            yield Finding(
                check="queues",
                level="note",
                found=f"{each.ready} messages are ready in {name}, the oldest for {age(each.oldest_ready_s)}",
                advice="its workers do not keep up: more processes (-c), or look at what runs: celeriac inspect active",
            )
    if quiet and serving:
        yield Finding(
            check="queues", level="ok", found=f"{sum(each.ready for each in depth.values())} messages ready, none stuck"
        )
    dead = {name: each.dead for name, each in sorted(depth.items()) if each.dead}
    if dead:
        yield Finding(
            check="dead letters",
            level="note",
            found=", ".join(f"{count} in {name}" for name, count in dead.items()),
            advice="tasks that will not run by themselves any more: celeriac dead list, then retry or drop",
        )
    else:
        yield Finding(check="dead letters", level="ok", found="none")


def _schedule(patient: Patient) -> Iterator[Finding]:
    app = patient.app
    if not (patient.named and patient.is_shared and app.has_marks):
        return
    entries = app.schedules.list()
    beats = app.schedules.beats()
    for entry in entries:
        if entry.error:
            anew = f"every beat leaves it out: celeriac schedule remove {entry.name!r}, and add it anew"
            advice = anew if entry.state == "faulty" else "only one of them can be meant"
            yield Finding(check="schedule", level="wrong", found=entry.error, advice=advice)
    live = sum(entry.state == "active" for entry in entries)
    found = (
        f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}, {live} active, "
        f"{len(beats)} {'beat' if len(beats) == 1 else 'beats'}"
    )
    if live and not beats:
        yield Finding(
            check="schedule",
            level="note",
            found=found,
            advice="nothing is sent: celeriac -A MODULE beat, or start workers with --beat",
        )
    elif entries or beats:
        yield Finding(check="schedule", level="ok", found=found)


_CHECKS: Final[dict[str, Callable[[Patient], Iterator[Finding]]]] = {
    "settings": _settings,
    "application": _application,
    "keys": _keys,
    "sqlite": _sqlite,
    "permissions": _permissions,
    "disk space": _space,
    "broker": _broker,
    "redis": _redis,
    "rabbitmq": _rabbitmq,
    "database": _file,
    "limits": _limits,
    "clock": _clock,
    "workers": _workers,
    "queues": _queues,
    "schedule": _schedule,
}
_ASKING: Final = frozenset({"redis", "rabbitmq", "workers", "queues", "schedule"})
"""Those that ask the broker's server."""


def as_data(findings: list[Finding]) -> list[dict[str, Any]]:
    """Findings for JSON."""
    return [msgspec.structs.asdict(each) for each in findings]
