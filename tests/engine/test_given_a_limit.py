"""A message of a limited task that was sent by someone who does not know its limit."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from celeriac import Celeriac, Limit
from celeriac.model import Admission, Later, Outgoing, new_task_id

pytestmark = pytest.mark.usefixtures("celeriac_clock")


class Order(msgspec.Struct):
    customer: str


@pytest.fixture
def sync(celeriac_app: Celeriac) -> Any:
    @celeriac_app.task(name="sync", limit=Limit(key="{order.customer}", concurrency=1), acks_late=False)
    def sync(order: Order) -> str:
        return order.customer

    return sync


def foreign(app: Celeriac, *args: Any) -> Outgoing:
    message = app.submitter.build("sync", args, {}, queue="celery", task_id=new_task_id(), retries=2, priority=4)
    app.broker.publish([message])
    return message


async def test_it_is_put_back_with_its_limit_which_is_no_retry(celeriac_app: Celeriac, sync: Any, hand: Any) -> None:
    sent = foreign(celeriac_app, {"customer": "x"})
    outcome = await hand.step()
    assert isinstance(outcome, Later)
    assert outcome.message.limit == Admission(key="x", concurrency=1)
    delivery = await hand.claim()
    assert (delivery.id, delivery.limit_key, delivery.deliveries, delivery.priority) == (sent.id, "x", 1, 4)
    assert (delivery.headers, delivery.body) == (sent.headers, sent.body)
    assert hand.meta(sent.id) is None, "nobody sees it as a retry"
    await hand.settler.settle(hand.consumer, [await hand.run(delivery)])
    assert hand.meta(sent.id).result == "x"


async def test_what_has_its_limit_runs(celeriac_app: Celeriac, sync: Any, hand: Any) -> None:
    handle = sync.delay(Order("y"))
    await hand.step()
    assert hand.meta(handle.id).result == "y"


async def test_what_cannot_be_limited_runs_and_says_what_is_wrong(
    celeriac_app: Celeriac, sync: Any, hand: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sent = foreign(celeriac_app, 5)
    await hand.step()
    assert hand.meta(sent.id).status == "FAILURE"
    assert "runs without its limit" in caplog.text


async def test_an_engine_without_limits_runs_it(celeriac_app: Celeriac, sync: Any, hand: Any) -> None:
    sent = foreign(celeriac_app, {"customer": "x"})
    hand.executor = celeriac_app.executor("hand", results=celeriac_app.results, fused=True, eager=True)
    await hand.step()
    assert hand.meta(sent.id).result == "x"
