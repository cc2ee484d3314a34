"""A worker taken apart: claim, run and settle one message at a time, and look at every outcome."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from engine_hand import ByHand

from celeriac.app.application import Celeriac
from celeriac.testing import ManualClock


@pytest.fixture
def celeriac_clock(clock: ManualClock) -> ManualClock:
    return clock


@pytest.fixture
async def hand(celeriac_app: Celeriac, celeriac_clock: ManualClock) -> AsyncIterator[ByHand]:
    by_hand = ByHand(celeriac_app)
    yield by_hand
    if by_hand.consumer is not None:
        await by_hand.consumer.close()
