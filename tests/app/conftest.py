"""Applications in memory, by celeriac's own pytest plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celeriac.engine.signals import Signal
from celeriac.testing import ManualClock


@pytest.fixture
def celeriac_clock(clock: ManualClock) -> ManualClock:
    return clock


@pytest.fixture
def connected() -> Iterator[Callable[[Signal, Callable[..., Any]], None]]:
    """Connect receivers for the length of a test."""
    connections: list[tuple[Signal, Callable[..., Any]]] = []

    def connect(signal: Signal, receiver: Callable[..., Any], **options: Any) -> None:
        signal.connect(receiver, **options)
        connections.append((signal, receiver))

    yield connect
    for signal, receiver in connections:
        signal.disconnect(receiver)
