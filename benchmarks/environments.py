"""What the rivals run in: found, or built once in the user's cache directory, by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_PATIENCE_S = 900


class UnavailableError(Exception):
    """A rival cannot be measured here; the message says why."""


def home() -> Path:
    """Where environments are kept: `BENCH_VENVS`, or `celeriac-bench` in the user's cache directory."""
    if chosen := os.environ.get("BENCH_VENVS"):
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "celeriac-bench"


def python_environment(name: str, requirements: Sequence[str], *, pip: str = "") -> str:
    """The interpreter of a virtual environment with `requirements`.

    Args:
        name: Of the environment. `BENCH_<NAME>_PYTHON` in the environment names an interpreter that is ready.
        requirements: For pip; another list makes the environment anew.
        pip: The requirement that pip itself has to meet, where packages need an old one.

    Raises:
        UnavailableError: It cannot be built.
    """
    if ready := os.environ.get(f"BENCH_{name.upper()}_PYTHON"):
        return ready

    def build(place: Path) -> None:
        venv.create(place, with_pip=True, clear=True)
        install = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if pip:
            _run([*install, pip])
        _run([*install, *requirements])

    wanted = [pip, *requirements] if pip else requirements
    place = _built(f"{name}-py{sys.version_info[0]}.{sys.version_info[1]}", wanted, build)
    return str(place / "bin" / "python")


def node_environment(name: str, packages: Sequence[str]) -> Path:
    """A directory whose `node_modules` holds `packages`.

    Raises:
        UnavailableError: There is no node or npm and none can be installed, or npm failed.
    """
    debian_program("node", "nodejs")
    npm = debian_program("npm", "npm")

    def build(place: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / "package.json").write_text("{}\n")
        _run([npm, "install", "--prefix", str(place), "--no-audit", "--no-fund", "--loglevel=error", *packages])

    return _built(name, packages, build)


def debian_program(program: str, package: str) -> str:
    """The path of a program; its Debian package is installed when it is missing and this process may do that.

    Raises:
        UnavailableError: It is missing, and stays so.
    """
    if found := shutil.which(program):
        return found
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        raise UnavailableError(f"no {program} on the PATH (in Debian: apt-get install {package})")
    with _alone(f"debian-{package}"):
        if shutil.which(program) is None:
            # a run level of 1: the program is wanted, and no service that starts with the machine
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
            _run([apt, "-qq", "update"], environment)
            _run([apt, "-qq", "install", "--yes", "--no-install-recommends", package], environment)
    if found := shutil.which(program):
        return found
    raise UnavailableError(f"Debian's {package} was installed, but {program} is not on the PATH")


def python_versions(python: str, packages: Sequence[str]) -> dict[str, str]:
    """Of installed packages, and of `python` itself.

    Raises:
        UnavailableError: One is missing, or the interpreter does not start.
    """
    code = (
        "import json, sys; from importlib.metadata import version; from platform import python_version;"
        "print(json.dumps({'Python': python_version(), **{name: version(name) for name in sys.argv[1:]}}))"
    )
    found: dict[str, str] = json.loads(_run([python, "-c", code, *packages]))
    return found


def _built(name: str, wanted: Sequence[str], build: Callable[[Path], None]) -> Path:
    place = home() / name
    complete = place / "complete"
    order = "\n".join(wanted)
    with _alone(name):
        if not complete.exists() or complete.read_text() != order:
            build(place)
            complete.write_text(order)
    return place


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """Hold the lock of `name` against other processes; it is free again when its holder dies."""
    try:
        home().mkdir(parents=True, exist_ok=True)
        lock = (home() / f"{name}.lock").open("w")
    except OSError as exc:
        raise UnavailableError(f"no environment can be kept in {home()}: {exc}") from exc
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    words = " ".join(Path(part).name if os.sep in part else part for part in command[:6])
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_PATIENCE_S, env=environment)
    except subprocess.CalledProcessError as exc:
        last = (exc.stderr or "").strip().splitlines()[-1:] or ["no message"]
        raise UnavailableError(f"`{words} …` failed: {last[0]}") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise UnavailableError(f"`{words} …` could not be run: {exc}") from exc
    return done.stdout
