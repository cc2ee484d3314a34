"""Automatic retries are the engine's; see `autoretry_for`."""

from __future__ import annotations

from typing import Any


def add_autoretry_behaviour(task: Any, **options: Any) -> None:
    """Set the options of automatic retries on a task."""
    for name, value in options.items():
        setattr(task, name, value)
