"""What it costs to start: processor time of whole processes that import the package, or print the command's help."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.figure import CELERY, Figure, Medians, Series, Target, Values
from benchmarks.processes import processor_s_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench

_RUNS = 11


def _started(bench: Bench, python: str, package: str) -> Values:
    runs = max(2, round(_RUNS * min(1.0, bench.scale)))
    script = Path(python).with_name(package)
    commands = {
        "bare": [python, "-c", "pass"],
        "import": [python, "-c", f"import {package}"],
        "import_app": [python, "-c", f"from {package} import {package.capitalize()}"],
        "help": [str(script), "--help"] if script.exists() else [python, "-m", package, "--help"],
    }
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    for command in commands.values():
        processor_s_of(command, environment)  # the first one writes and reads what later ones find in memory
    spent: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            spent[name].append(processor_s_of(command, environment))
    return {name: median(each) * 1000 for name, each in spent.items()}


def _ours(bench: Bench) -> Values:
    return _started(bench, sys.executable, "celeriac")


def _celery(bench: Bench) -> Values:
    return _started(bench, bench.celery_python(), "celery")


def _bare(found: Medians) -> str:
    return f"of which the interpreter alone {found['ours']['bare']:.0f} ms"


def _figure(name: str, what: str, key: str, limit_ms: float, beside: Callable[[Medians], str] = _bare) -> Figure:
    return Figure(
        name=name,
        what=what,
        unit="ms",
        better="less",
        value=lambda found: found["ours"][key],
        base=lambda found: found[CELERY][key],
        beside=beside,
        needs=("ours",),
        targets=(Target("value", "at most", limit_ms),),
    )


START = Series(
    name="start",
    contestants={"ours": _ours, CELERY: _celery},
    figures=(
        _figure(
            "import", "`import celeriac`, processor time of the process", "import", 120,
            lambda found: f"{_bare(found)}; with the application class imported {found['ours']['import_app']:.0f} ms",
        ),
        _figure("help", "`celeriac --help`, processor time of the process", "help", 250),
    ),
)  # fmt: skip
