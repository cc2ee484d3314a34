"""Signatures and workflows, which find the current application where none is given."""

from __future__ import annotations

from typing import Any

import celeriac
from celeriac.canvas import Signature as _Signature
from celeriac.compat.celery._state import get_current_app

__all__ = [
    "Signature",
    "StampingVisitor",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]

Signature = _Signature


def signature(varies: Any, *args: Any, **kwargs: Any) -> Any:
    """Make a signature of a task's name (or a task, or a decoded signature)."""
    app = kwargs.pop("app", None) or get_current_app()
    if isinstance(varies, _Signature):
        return varies.clone()
    made = Signature(varies, *args, app=app, **kwargs)
    return made


subtask = signature


def maybe_signature(d: Any, app: Any = None, clone: bool = False) -> Any:
    """A signature of a decoded one; None stays None."""
    if d is None:
        return None
    if isinstance(d, _Signature):
        return d.clone() if clone else d
    return signature(d, app=app) if isinstance(d, dict) else d


def __getattr__(name: str) -> Any:
    if name in ("chain", "chord", "chunks", "group", "xmap", "xstarmap", "StampingVisitor"):
        value = getattr(celeriac, name)
        globals()[name] = value
        return value
    if name == "_chord":
        return __getattr__("chord")
    raise AttributeError(f"module 'celery.canvas' has no attribute {name!r}")
