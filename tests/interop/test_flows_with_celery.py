"""Flows of ours with steps that Celery's workers run: these send callbacks as messages, and ours take them up."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from interop_fleet import Fleet, only_newest

from celeriac import Flow, FlowFailed

pytestmark = [pytest.mark.processes, pytest.mark.slow]


@only_newest
def test_steps_on_both_sides(fleet: Fleet) -> None:
    shop: Any = fleet.shop

    @shop.app.flow(name=f"interop.{uuid.uuid4()}", queue="ours")
    def mixed(flow: Flow) -> Any:
        add = {"theirs": shop.add.options(queue="theirs"), "ours": shop.add.options(queue="ours")}
        first = flow.step(add["theirs"], 1, 2, name="first")
        second = flow.step(add["ours"], first, 10, name="second")
        third = flow.step(add["theirs"], second, first, name="third")
        many = flow.each(add["theirs"], [100, 200, third], 1, name="many")
        return flow.step(shop.echo.options(queue="ours"), first, second, third, many)

    run = mixed.start()
    assert run.get(timeout=20) == [[3, 13, 16, [101, 201, 17]], {}]
    assert {step.state for step in run.steps.values()} == {"SUCCESS"}


@only_newest
def test_a_failure_on_their_side(fleet: Fleet) -> None:
    shop: Any = fleet.shop

    @shop.app.flow(name=f"interop.{uuid.uuid4()}", queue="ours")
    def failing(flow: Flow) -> Any:
        fail = shop.fail.options(queue="theirs")
        first = flow.step(fail, "ValueError", "theirs", name="first")
        taken = flow.step(shop.echo.options(queue="ours"), first.default("instead"), name="taken")
        return flow.step(shop.echo.options(queue="ours"), first, name="second", after=taken)

    run = failing.start()
    with pytest.raises(FlowFailed, match=r"step 'first' of flow .* failed with ValueError: theirs"):
        run.get(timeout=20)
    assert {name: step.state for name, step in run.steps.items()} == {
        "first": "FAILURE",
        "taken": "SUCCESS",
        "second": "UPSTREAM_FAILED",
    }
