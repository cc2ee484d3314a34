"""The ways in which a step's task can end that are not a return or an exception: nothing waits for ever."""

from __future__ import annotations

from typing import Any

import pytest
from flow_shop import Shop

from celeriac import Flow, FlowFailed, Ignore, Reject
from celeriac.testing.embedded import RunningWorker

PATIENCE_S = 20.0


def ending(shop: Shop, task: Any) -> Any:
    @shop.app.flow(name=f"ending in {task.name}")
    def flow(flow: Flow) -> Any:
        return flow.step(shop.number, flow.step(task, name="odd"), name="then")

    return flow


def test_ignored(working: Shop) -> None:
    @working.app.task(name="shop.ignoring")
    def ignoring() -> int:
        raise Ignore

    with pytest.raises(FlowFailed, match=r"step 'odd'.*ignored"):
        ending(working, ignoring).start().get(PATIENCE_S)


def test_rejected(store_url: str) -> None:
    shop = Shop(store_url)

    @shop.app.task(name="shop.rejecting")
    def rejecting() -> int:
        raise Reject("not today")

    with RunningWorker(shop.app) as worker:
        with pytest.raises(FlowFailed, match=r"step 'odd'.*not today"):
            ending(shop, rejecting).start().get(PATIENCE_S)
        assert len(worker.dead_letters()) == 1
    shop.app.close()


def test_expired(working: Shop) -> None:
    @working.app.task(name="shop.late", expires=-1)
    def late() -> int:
        return 1

    with pytest.raises(FlowFailed, match=r"step 'odd'.*expired"):
        ending(working, late).start().get(PATIENCE_S)


def test_a_result_without_wire_form(working: Shop) -> None:
    @working.app.task(name="shop.odd")
    def odd() -> Any:
        return object()

    with pytest.raises(FlowFailed, match=r"step 'odd'.*has no JSON form"):
        ending(working, odd).start().get(PATIENCE_S)


def test_revoked_by_hand(store_url: str) -> None:
    shop = Shop(store_url)

    @shop.app.flow
    def one(flow: Flow) -> Any:
        return flow.step(shop.number, 1, name="odd")

    run = one.start()
    shop.app.control.revoke(run.steps["odd"].task_id)
    with RunningWorker(shop.app), pytest.raises(FlowFailed, match=r"step 'odd'.*revoked"):
        run.get(PATIENCE_S)
    shop.app.close()


def test_not_registered_on_the_worker(store_url: str) -> None:
    shop = Shop(store_url, task_unknown_wait=0)

    @shop.app.task(name="shop.only_here")
    def only_here() -> int:
        return 1

    run = ending(shop, only_here).start()
    del shop.app.tasks["shop.only_here"]
    with RunningWorker(shop.app) as worker:
        with pytest.raises(FlowFailed, match=r"step 'odd'.*not registered"):
            run.get(PATIENCE_S)
        worker.dead_letters()
    shop.app.close()


def test_a_step_that_replaces_itself(working: Shop) -> None:
    shop = working

    @shop.app.task(name="shop.replaced", bind=True)
    def replaced(self: Any) -> Any:
        raise self.replace(shop.add.s(20, 3))

    assert ending(shop, replaced).start().get(PATIENCE_S) == 23


def test_a_step_that_retries(working: Shop) -> None:
    shop = working
    tries: list[int] = []

    @shop.app.task(name="shop.retried", bind=True, max_retries=3)
    def retried(self: Any) -> Any:
        tries.append(1)
        if len(tries) < 3:
            raise self.retry(countdown=0)
        return 17

    assert ending(shop, retried).start().get(PATIENCE_S) == 17
