"""Representations of limited length."""

from __future__ import annotations

import reprlib
from typing import Any

__all__ = ["reprstream", "saferepr"]


def saferepr(o: Any, maxlen: int | None = None, maxlevels: int = 3, seen: Any = None) -> str:
    """As `repr`, not longer than `maxlen`, and not deeper than `maxlevels`."""
    made = reprlib.Repr()
    made.maxlevel = maxlevels
    made.maxstring = made.maxother = maxlen or 10_000
    made.maxlist = made.maxtuple = made.maxdict = made.maxset = 1000
    text = made.repr(o)
    return text if not maxlen or len(text) <= maxlen else text[: maxlen - 3] + "..."


def reprstream(stack: Any, seen: Any = None, maxlevels: int = 3, isinstance: Any = isinstance) -> Any:
    for one in stack:
        yield saferepr(one, maxlevels=maxlevels), one
