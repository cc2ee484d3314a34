"""How runs are traced; names that instrumentation looks for."""

from __future__ import annotations

from typing import Any

from celeriac.errors import NotSupportedError


def build_tracer(*args: Any, **kwargs: Any) -> Any:
    """Not there: celeriac runs tasks itself."""
    raise NotSupportedError("build_tracer: celeriac runs tasks itself; use the task signals, or middleware=")


def reset_worker_optimizations(app: Any = None) -> None:
    """There are none to reset."""


setup_worker_optimizations = reset_worker_optimizations
