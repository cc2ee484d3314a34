"""`celeriac multi`: several workers in the background, by name, with Celery's way of options per node.

Each is an ordinary `celeriac worker` in a session of its own, whose process id is kept in a file. A service manager
does the same with less to go wrong; this is for who has scripts that do it so.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import click

from celeriac.cli import exits
from celeriac.cli.root import Command
from celeriac.cli.session import session
from celeriac.clock import SYSTEM_CLOCK

_FLAGS: Final = frozenset(
    {"-B", "--beat", "-E", "--task-events", "--events", "--purge", "--without-gossip", "--without-mingle",
     "--without-heartbeat", "-q", "--quiet", "-C", "--no-color", "--as-celery", "--autoreload", "--json-logs",
     "--disable-prefetch", "--verbose", "--nosplash"}
)  # fmt: skip
_OWN: Final = frozenset({"--pidfile", "--logfile", "-f", "--verbose", "--nosplash"})
_LOOK_S: Final = 0.05
_START_S: Final = 0.5
"""A worker that ends within this has not started."""
_PIDFILE_S: Final = 10.0
"""What it may take until its process id is known."""
_STOP_S: Final = 600.0

_ACTIONS: Final = (
    "start", "restart", "stop", "stopwait", "stop_verify", "kill", "show", "names", "get", "expand",
)  # fmt: skip


class Node(NamedTuple):
    """One worker."""

    name: str
    """With its host."""
    options: tuple[str, ...]
    """Of `celeriac worker`."""
    pidfile: Path
    logfile: Path

    @property
    def pid(self) -> int | None:
        """Of the running process; None where there is none."""
        try:
            pid = int(self.pidfile.read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        return pid

    def command(self, *, as_celery: bool) -> list[str]:
        """What starts it."""
        flag = ["--as-celery"] if as_celery else []
        run = [sys.executable, "-m", "celeriac"]
        return [*run, *flag, "worker", "-n", self.name, "--pidfile", str(self.pidfile), *self.options]


@click.command(
    cls=Command,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="""\b
Examples:
  celeriac multi start w1 w2 -A shop -l INFO
  celeriac multi start 3 -A shop -Q:1 images -c:1 8 -c 2 --pidfile=/run/celeriac/%n.pid
  celeriac multi restart w1 w2 -A shop --pidfile=/run/celeriac/%n.pid
  celeriac multi stopwait w1 w2 --pidfile=/run/celeriac/%n.pid

\b
-c:1 8 is for the first node only, -c:w1,w2 8 for these; -c:1-3 8 for a range.
%n in --pidfile (default %n.pid) and --logfile (default %n.log) is the node's name without its host.""",
)
@click.argument("action", type=click.Choice(_ACTIONS), metavar="ACTION")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def command(*, action: str, words: tuple[str, ...]) -> int:
    """Do ACTION (start, restart, stop, stopwait, kill, show, names, get, expand) with workers by name, or a number."""
    here = session()
    if here.app_text is not None:
        words = (*words, "-A", here.app_text)
    template = None
    if action in ("get", "expand") and words:
        template, words = words[0], words[1:]
    nodes = read(words)
    match action:
        case "names":
            click.echo("\n".join(node.name for node in nodes))
        case "show":
            click.echo("\n".join(shlex.join(node.command(as_celery=here.as_celery)) for node in nodes))
        case "get":
            found = [node for node in nodes if template in (node.name, node.name.partition("@")[0])]
            if not found:
                return exits.FAILED
            click.echo(" ".join(found[0].options))
        case "expand":
            click.echo("\n".join(_filled(template or "", node.name) for node in nodes))
        case "start":
            return _start(nodes, as_celery=here.as_celery)
        case "kill":
            return _signal(nodes, signal.SIGKILL, wait=True)
        case "stop":
            return _signal(nodes, signal.SIGTERM, wait=False)
        case "stopwait" | "stop_verify":
            return _signal(nodes, signal.SIGTERM, wait=True)
        case "restart":
            _signal(nodes, signal.SIGTERM, wait=True)
            return _start(nodes, as_celery=here.as_celery)
    return exits.OK


def read(words: tuple[str, ...]) -> list[Node]:
    """The nodes that a command line means: names (or one number) and options, some for single nodes."""
    names: list[str] = []
    options: list[tuple[str, str | None, str | None]] = []  # (option, for whom, value)
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            names.append(word)
            continue
        option, equals, text = word.partition("=")
        option, colon, whose = option.partition(":")
        given = text if equals else None
        if not equals and option not in _FLAGS and rest and not rest[0].startswith("-"):
            given = rest.pop(0)
        options.append((option, whose if colon else None, given))
    if len(names) == 1 and names[0].isdigit():
        names = [f"celery{number}" for number in range(1, int(names[0]) + 1)]
    if not names:
        raise click.UsageError("multi needs the names of workers, or how many: celeriac multi start w1 w2 -A shop")
    import socket

    nodes = []
    for number, name in enumerate(names, 1):
        full = name if "@" in name else f"{name}@{socket.gethostname()}"
        # what is said of one node goes over what is said of all, wherever it stands
        mine = {option: value for option, whom, value in options if whom is None}
        mine |= {option: value for option, whom, value in options if whom is not None and _means(whom, number, name)}
        logfile = mine.get("--logfile") or mine.get("-f") or "%n.log"
        pidfile = mine.get("--pidfile") or "%n.pid"
        words_of = [
            word
            for option, value in mine.items()
            if option not in _OWN
            for word in ((option,) if value is None else (option, value))
        ]
        nodes.append(Node(full, tuple(words_of), Path(_filled(pidfile, full)), Path(_filled(logfile, full))))
    return nodes


def _means(whom: str, number: int, name: str) -> bool:
    """Whether `1`, `1-3`, `w1` or `w1,w2` means this node."""
    for part in whom.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is not None and int(match[1]) <= number <= int(match[2] or match[1]):
            return True
        if part in (name, name.partition("@")[0]):
            return True
    return False


def _filled(text: str, node: str) -> str:
    name, _, host = node.partition("@")
    first, _, domain = host.partition(".")
    keys = {"%n": name, "%N": name, "%h": host, "%H": host, "%d": domain, "%p": node, "%i": "", "%I": ""}
    return re.sub(r"%[nNhHdpiI]", lambda match: keys[match[0]], text) if first or name else text


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _start(nodes: list[Node], *, as_celery: bool) -> int:
    code = exits.OK
    for node in nodes:
        if (pid := node.pid) is not None:
            click.echo(f"{node.name}: runs already (process {pid}, {node.pidfile})", err=True)
            code = exits.FAILED
            continue
        node.pidfile.unlink(missing_ok=True)
        for file in (node.pidfile, node.logfile):
            file.parent.mkdir(parents=True, exist_ok=True)
        with open(node.logfile, "ab", opener=_private) as log:
            process = subprocess.Popen(
                node.command(as_celery=as_celery),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        began = SYSTEM_CLOCK.monotonic()
        while process.poll() is None and (
            (passed_s := SYSTEM_CLOCK.monotonic() - began) < _START_S
            or (passed_s < _PIDFILE_S and not node.pidfile.exists())
        ):
            SYSTEM_CLOCK.pause(_LOOK_S)
        if process.returncode is not None:
            click.echo(f"{node.name}: ended with {process.returncode}; see {node.logfile}", err=True)
            code = exits.FAILED
        else:
            process.returncode = 0  # it goes on without us
            click.echo(f"{node.name}: started")
    return code


def _signal(nodes: list[Node], number: signal.Signals, *, wait: bool) -> int:
    code = exits.OK
    asked: list[Node] = []
    for node in nodes:
        pid = node.pid
        if pid is None:
            click.echo(f"{node.name}: does not run ({node.pidfile})", err=True)
            node.pidfile.unlink(missing_ok=True)
            code = exits.FAILED
            continue
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        asked.append(node)
        if not wait:
            click.echo(f"{node.name}: told to stop")
    deadline = SYSTEM_CLOCK.monotonic() + _STOP_S
    for node in asked if wait else ():
        while node.pid is not None and SYSTEM_CLOCK.monotonic() < deadline:
            SYSTEM_CLOCK.pause(_LOOK_S)
        if node.pid is not None:
            click.echo(f"{node.name}: still runs", err=True)
            code = exits.FAILED
        else:
            node.pidfile.unlink(missing_ok=True)
            click.echo(f"{node.name}: stopped")
    return code
