"""F19: a message whose task a worker does not have waits for one that has, and is not given up before its time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from engine_hand import ByHand

from celeriac import Celeriac, signals
from celeriac.model import Bury, Done, Later
from celeriac.testing import ManualClock


@pytest.fixture
async def hand(tmp_path: Path, clock: ManualClock) -> AsyncIterator[ByHand]:
    app = Celeriac("parked", broker=f"sqlite:///{tmp_path}/q.db", clock=clock, task_unknown_wait=600)
    by_hand = ByHand(app)
    yield by_hand
    if by_hand.consumer is not None:
        await by_hand.consumer.close()
    app.close()


def state(hand: ByHand) -> tuple[int, int, int]:
    depth = hand.app.broker.depth()["celery"]
    return depth.ready, depth.delayed, depth.dead


async def test_it_runs_when_a_worker_has_it(hand: ByHand, clock: ManualClock) -> None:
    told: list[str] = []

    def on_unknown(sender: Any, name: str, **_: Any) -> None:
        told.append(name)

    signals.task_unknown.connect(on_unknown)
    try:
        result = hand.app.send_task("coming", (2,), headers={"mine": 1})
        for waited_s in (2, 2, 2, 30, 60):
            assert type(await hand.step()) is Later
            assert state(hand) == (0, 1, 0)
            assert result.state == "PENDING"
            clock.advance(waited_s)
    finally:
        signals.task_unknown.disconnect(on_unknown)
    assert told == ["coming"], "each look at it is no news"
    seen: list[Any] = []

    @hand.app.task(name="coming", bind=True)
    def coming(self: Any, number: int) -> int:
        seen.append((self.request.headers["mine"], self.request.retries, self.request.delivery_info["redelivered"]))
        return number

    assert type(await hand.step()) is Done
    assert result.get(timeout=1) == 2
    assert seen == [(1, 0, False)]


async def test_it_is_a_dead_letter_when_nobody_has_come(hand: ByHand, clock: ManualClock) -> None:
    result = hand.app.send_task("never")
    looks = 0
    while type(outcome := await hand.step()) is Later:
        looks += 1
        clock.advance(61)
    assert type(outcome) is Bury
    assert 9 <= looks <= 11, "each minute, at last"
    assert "'never' is not registered" in hand.app.broker.dead_letters()[0].reason
    assert result.state == "FAILURE"


async def test_one_that_expires_or_is_revoked_meanwhile_ends_so(hand: ByHand, clock: ManualClock) -> None:
    result = hand.app.send_task("never", expires=5)
    assert type(await hand.step()) is Later
    clock.advance(6)
    assert type(await hand.step()) is Done
    assert result.state == "REVOKED"
    other = hand.app.send_task("never")
    assert type(await hand.step()) is Later
    other.revoke()
    assert other.state == "REVOKED"
    assert "celery" not in hand.app.broker.depth()


async def test_one_that_cannot_be_read_is_given_up(hand: ByHand) -> None:
    hand.app.send_task("never", compression="zlib")
    delivery = await hand.claim()
    outcome = await hand.run(msgspec.structs.replace(delivery, body=b"junk"))
    assert type(outcome) is Bury


async def test_it_waits_for_nobody_where_that_is_set(tmp_path: Path) -> None:
    with Celeriac("parked", broker=f"sqlite:///{tmp_path}/other.db", task_unknown_wait=0) as app:
        hand = ByHand(app)
        app.send_task("never")
        assert type(await hand.step()) is Bury
        await hand.consumer.close()
