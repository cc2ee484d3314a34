"""Colours of a terminal."""

from __future__ import annotations

from typing import Any

__all__ = ["colored"]


class colored:
    """Text, without its colours."""

    def __init__(self, *s: Any, **kwargs: Any) -> None:
        self.s = s

    def __str__(self) -> str:
        return "".join(map(str, self.s))

    def __getattr__(self, name: str) -> Any:
        return lambda *s: colored(*s)
