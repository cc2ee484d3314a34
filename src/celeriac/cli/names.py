"""Lists of names on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def split_names(values: Iterable[str]) -> tuple[str, ...]:
    """`-Q a,b -Q c` names a, b and c."""
    return tuple(name for value in values for part in value.split(",") if (name := part.strip()))
