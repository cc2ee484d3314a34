"""Celery's top-level names, imported when they are first used."""

from __future__ import annotations

import importlib
from collections import namedtuple
from typing import Any

from celeriac.compat.install import VERSION as _TEXT

version_info_t = namedtuple("version_info_t", ("major", "minor", "micro", "releaselevel", "serial"))
_major, _minor, _micro = map(int, _TEXT.split("."))
SERIES = "celeriac"
__version__ = _TEXT
VERSION = version_info = version_info_t(_major, _minor, _micro, "", "")
VERSION_BANNER = f"{__version__} ({SERIES})"
__author__ = "the celeriac project"
__homepage__ = "https://docs.celeryq.dev/"
__docformat__ = "restructuredtext"

_HOME = {
    "Celery": "app.base",
    "Signature": "canvas",
    "Task": "app.task",
    "app_or_default": "_state",
    "bugreport": "app",
    "chain": "canvas",
    "chord": "canvas",
    "chunks": "canvas",
    "current_app": "_state",
    "current_task": "_state",
    "group": "canvas",
    "maybe_patch_concurrency": "concurrency",
    "maybe_signature": "canvas",
    "shared_task": "app",
    "signature": "canvas",
    "subtask": "canvas",
    "uuid": "utils",
    "xmap": "canvas",
    "xstarmap": "canvas",
}
_MODULES = ("app", "canvas", "exceptions", "local", "result", "schedules", "signals", "states", "utils")

__all__ = ["VERSION", "__version__", *_HOME]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is not None:
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value
    if name in _MODULES:  # `import celery; celery.signals.…`, which Celery's own imports make possible
        return importlib.import_module(f"celery.{name}")
    raise AttributeError(f"module 'celery' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
