"""Holds a history against the invariants, in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path


def check(folder: Path) -> Verdict:
    """Read the history in `folder`, with its `terms.json`, and say what it shows."""
    raise NotImplementedError(folder)
