"""Fixtures that every room's tests share."""

from __future__ import annotations

import pytest

from celeriac.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
