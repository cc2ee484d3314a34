"""Pools by name."""

from __future__ import annotations

from typing import Any

from celeriac.errors import NotSupportedError

__all__ = ["get_available_pool_names", "get_implementation"]


def get_available_pool_names() -> tuple[str, ...]:
    """Names that `-P` takes."""
    return ("prefork", "processes", "threads", "solo", "gevent", "eventlet")


def get_implementation(cls: Any) -> Any:
    """Not there: pools are celeriac's own."""
    raise NotSupportedError(f"pool {cls!r}: pools of one's own are not there; there are {get_available_pool_names()}")


def maybe_patch_concurrency(*args: Any, **kwargs: Any) -> None:
    """Nothing is patched: there are no green threads."""
