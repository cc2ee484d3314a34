"""A scenario: what happens on a stage, how often, on which engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.stage import Stage


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table of faults."""

    key: str
    """As in `F1`."""
    title: str
    run: Callable[[Stage], None]
    """Starts workers and load and makes trouble; the stage drains, collects and checks afterwards."""
    repetitions: dict[str, int]
    """By engine, in the ten-minute profile: how many faults. Engines that are not in it have no such fault."""
    seconds: dict[str, float]
    """By engine: about how long that takes, drain included."""
    settings: dict[str, Any] = {}
    """Over the campaign's own."""
    terms: dict[str, Any] = {}
    """Over the `Terms` of the engine."""
