"""All that an application sends, and all that its workers send for it, is signed: nothing of it is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from guarded_shop import Shop, headers_of

from celeriac import chain, chord, group
from celeriac.engine import signals
from celeriac.engine.middleware import Middleware
from servers import wait_until

SOON_S = 20.0


@pytest.fixture(params=[False, True], ids=["signed", "sealed"])
def guarded(request: pytest.FixtureRequest, start_shop: Callable[..., Shop]) -> Shop:
    return start_shop(security_encryption=request.param)


def test_calls(guarded: Shop) -> None:
    with guarded.worker():
        assert guarded.add.delay(1, 2).get(timeout=SOON_S) == 3
        assert guarded.add.apply_async((1, 3), countdown=0.05, priority=7, expires=60).get(timeout=SOON_S) == 4
        assert (
            guarded.add.apply_async(
                (1, 4),
                headers={"who": {"deep": [1, 2.5, None, True]}},
                shadow="sum",
                time_limit=30,
                soft_time_limit=20.5,
            ).get(timeout=SOON_S)
            == 5
        )
        assert [one.get(timeout=SOON_S) for one in guarded.add.delay_many([(n, 1) for n in range(20)])] == [
            *range(1, 21)
        ]


def test_retries_and_failures(guarded: Shop) -> None:
    with guarded.worker():
        assert guarded.flaky.delay("a").get(timeout=SOON_S) == "a"
        with pytest.raises(LookupError, match="lost"):
            guarded.fail.apply_async(("lost",), link_error=guarded.told.s()).get(timeout=SOON_S)
    assert guarded.count("flaky") == 3
    assert guarded.count("told") == 1


def test_workflows(guarded: Shop) -> None:
    add, total = guarded.add, guarded.total
    with guarded.worker():
        assert chain(add.s(1, 2), add.s(10), add.s(100)).delay().get(timeout=SOON_S) == 113
        assert group(add.s(n, 1) for n in range(5)).delay().get(timeout=SOON_S) == [1, 2, 3, 4, 5]
        assert chord((add.s(n, 1) for n in range(5)), total.s()).delay().get(timeout=SOON_S) == 15
        nested = chain(add.s(1, 1), group(add.s(1), add.s(2)), total.s(), add.s(5))
        assert nested.delay().get(timeout=SOON_S) == 12
        assert guarded.replaced.delay(5).get(timeout=SOON_S) == 105
        guarded.parent.delay(1000)
        with pytest.raises(LookupError, match="x"):
            chord([add.s(1, 1), guarded.fail.s("x")], total.s()).delay().get(timeout=SOON_S)
        wait_until(lambda: ("add", 1000) in guarded.runs, "the child's run", SOON_S)


def test_flows(guarded: Shop) -> None:
    @guarded.app.flow(name="sums")
    def sums(flow: Any) -> Any:
        some = flow.each(guarded.add, [1, 2, 3], 1)
        return flow.step(guarded.total, some)

    with guarded.worker():
        assert sums.start().get(timeout=SOON_S) == 9


def test_what_signals_and_middleware_change_is_signed(start_shop: Callable[..., Shop]) -> None:
    class Marking(Middleware):
        def publish(self, messages: Any, send: Any) -> None:
            import msgspec

            send([msgspec.structs.replace(each, priority=5) for each in messages])

    shop = start_shop()
    shop.app.middleware.append(Marking())

    def trace(headers: dict[str, Any], **_: Any) -> None:
        headers["traceparent"] = "00-1"

    signals.before_task_publish.connect(trace)
    try:
        with shop.worker():
            assert shop.add.delay(1, 2).get(timeout=SOON_S) == 3
    finally:
        signals.before_task_publish.disconnect(trace)


def test_a_signed_message_is_only_longer_by_its_signature(start_shop: Callable[..., Shop]) -> None:
    signed, plain = start_shop(), start_shop(security_signing="off")
    message = signed.message(signed.add, 1, 2)
    assert headers_of(message).signature is not None
    assert len(message.headers) < len(plain.message(plain.add, 1, 2).headers) + 200
    assert headers_of(plain.message(plain.add, 1, 2)).signature is None


def test_ticks_of_a_schedule(guarded: Shop) -> None:
    if guarded.app.broker_url.startswith("amqp"):
        guarded.app.conf["beat_store"] = guarded.app.settings.result_backend
    guarded.app.add_periodic_task(0.2, guarded.add.s(5, 5), name="often")
    beat = guarded.app.make_beat()
    thread = threading.Thread(target=beat.run)
    with guarded.worker() as worker:
        thread.start()
        try:
            wait_until(lambda: guarded.count("add") >= 3, "three ticks")
        finally:
            beat.stop()
            thread.join()
        assert worker.dead_letters() == []


def test_what_was_rejected_or_revoked_comes_back_signed(guarded: Shop) -> None:
    """A dead letter that was signed needs no new signature; a revoked one tells who waits for it."""
    from celeriac.errors import Reject, TaskRevokedError

    @guarded.app.task(name="once", ignore_result=True)
    def once() -> None:
        guarded.runs.append(("once", None))
        if guarded.count("once") == 1:
            raise Reject("not now")

    with guarded.worker() as worker:
        sent = once.delay()
        wait_until(worker.dead_letters, "the dead letter")
        assert guarded.app.control.revive([sent.id]) == 1
        wait_until(lambda: guarded.count("once") == 2, "the second run")
        waiting = guarded.add.apply_async((1, 1), countdown=600, link_error=guarded.told.s())
        guarded.app.control.revoke(waiting.id)
        with pytest.raises(TaskRevokedError):
            waiting.get(timeout=SOON_S)
