"""The model test of beats, and that it finds what it is there for."""

from __future__ import annotations

import pytest
from beat_machine import check_beats

from celeriac.scheduler import beat as beating


@pytest.fixture(autouse=True)
def few_are_a_rush(monkeypatch):
    """So that messages that go out before they are due are among what is tried."""
    monkeypatch.setattr(beating, "_RUSH", 2)


def test_beats_keep_to_the_rules() -> None:
    check_beats()
