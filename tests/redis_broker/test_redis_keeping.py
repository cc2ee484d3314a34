"""What follows a task stays with the worker that ran it, unless it is somebody else's turn; nothing is lost by that."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from celeriac import Celeriac, chain
from celeriac.app.runtime import WorkerOverrides, make_runtime, worker_options
from celeriac.clock import SYSTEM_CLOCK
from celeriac.codec import Codec, ResultMeta
from celeriac.engine.submit import Submitter
from celeriac.errors import BrokerUnavailableError
from celeriac.interfaces import Keeper
from celeriac.model import Admission, Cancellation, Delivery, Done, Outgoing, Settled, StoredResult
from celeriac.storage.redis import load
from celeriac.worker.embedded import EmbeddedWorker

PASS_ON = load("celeriac.brokers.redis.lua", "pass_on")


def message(**fields: Any) -> Outgoing:
    made = Submitter(Codec(), SYSTEM_CLOCK, "test").build("work", (), {}, queue="q")
    return msgspec.structs.replace(made, **{"fresh": False, **fields})


class Hands:
    """Takes what is kept, while it is idle."""

    def __init__(self, consumer: Keeper) -> None:
        assert isinstance(consumer, Keeper)
        self.taken: list[Delivery] = []
        self.is_idle = True
        consumer.keep_for(lambda delivery, stamp: self.taken.append(delivery), when=lambda: self.is_idle)


async def claimed(broker: Any, consumer: Any) -> Delivery:
    broker.publish([message()])
    (delivery,) = await consumer.claim(limit=1, wait_s=0)
    return delivery


async def test_a_follower_is_held_without_a_claim_and_settled_like_any_other(
    redis_server, open_broker, consume
) -> None:
    broker = open_broker(redis_server.url)
    consumer = await consume(broker)
    hands = Hands(consumer)
    delivery = await claimed(broker, consumer)
    for _ in range(3):
        follower = message()
        assert await consumer.settle([Done(delivery=delivery, successors=(follower,))]) == (Settled.OK,)
        await asyncio.sleep(0)
        (delivery,) = hands.taken
        hands.taken.clear()
        assert (delivery.id, delivery.body, delivery.deliveries) == (follower.id, follower.body, 1)
        depth = broker.depth(["q"])["q"]
        assert (depth.ready, depth.held) == (0, 1)
        assert await consumer.claim(limit=10, wait_s=0) == []
    assert await consumer.settle([Done(delivery=delivery)]) == [Settled.OK]
    assert broker.depth(["q"])["q"].held == 0


async def test_a_second_settlement_of_the_same_is_refused_and_publishes_nothing(
    redis_server, open_broker, consume
) -> None:
    broker = open_broker(redis_server.url)
    consumer = await consume(broker)
    hands = Hands(consumer)
    done = Done(delivery=await claimed(broker, consumer), successors=(message(),))
    assert [(await consumer.settle([done]))[0] for _ in range(2)] == [Settled.OK, Settled.LEASE_LOST]
    await asyncio.sleep(0)
    assert len(hands.taken) == 1
    assert broker.depth(["q"])["q"].held == 1


@pytest.mark.parametrize(
    "follower",
    [
        pytest.param(message(queue="other"), id="of another queue"),
        pytest.param(message(not_before=time.time() + 3600), id="delayed"),
        pytest.param(message(limit=Admission(key="k", concurrency=1)), id="limited"),
    ],
)
async def test_only_what_a_claim_would_hand_out_now_is_kept(redis_server, open_broker, consume, follower) -> None:
    broker = open_broker(redis_server.url)
    consumer = await consume(broker)
    hands = Hands(consumer)
    done = Done(delivery=await claimed(broker, consumer), successors=(follower,))
    assert list(await consumer.settle([done])) == [Settled.OK]
    await asyncio.sleep(0)
    assert hands.taken == []
    depth = broker.depth([follower.queue])[follower.queue]
    assert (depth.ready + depth.delayed, depth.held) == (1, 0)


async def test_nobody_is_overtaken_and_a_busy_process_keeps_nothing(redis_server, open_broker, consume) -> None:
    broker = open_broker(redis_server.url)
    consumer = await consume(broker)
    hands = Hands(consumer)
    first = await claimed(broker, consumer)
    earlier, follower, last = message(), message(), message()
    broker.publish([earlier])
    await consumer.settle([Done(delivery=first, successors=(follower,))])
    assert [each.id for each in await consumer.claim(limit=1, wait_s=0)] == [earlier.id]
    (second,) = await consumer.claim(limit=1, wait_s=0)
    assert second.id == follower.id
    hands.is_idle = False
    await consumer.settle([Done(delivery=second, successors=(last,))])
    await asyncio.sleep(0)
    assert hands.taken == []
    assert [each.id for each in await consumer.claim(limit=1, wait_s=0)] == [last.id]


async def test_a_follower_that_was_cancelled_before_it_came_is_not_kept(redis_server, open_broker, consume) -> None:
    broker = open_broker(redis_server.url)
    consumer = await consume(broker)
    hands = Hands(consumer)
    follower = message()
    broker.cancel([Cancellation(id=follower.id)])
    await consumer.settle([Done(delivery=await claimed(broker, consumer), successors=(follower,))])
    await asyncio.sleep(0)
    assert hands.taken == []
    depth = broker.depth(["q"])["q"]
    assert (depth.ready, depth.held) == (0, 0)


async def test_what_a_lost_reply_has_kept_is_had_by_the_next_claim(
    redis_server, start_proxy, open_broker, consume
) -> None:
    proxy = start_proxy(*redis_server.address)
    broker = open_broker(redis_server.url_at(proxy.port))
    consumer = await consume(broker)
    hands = Hands(consumer)
    await consumer.settle([Done(delivery=await claimed(broker, consumer), successors=(message(),))])
    await asyncio.sleep(0)
    (delivery,) = hands.taken
    follower = message()
    done = Done(delivery=delivery, successors=(follower,))
    cut = proxy.lose_next_reply(PASS_ON.digest.encode())
    with pytest.raises(BrokerUnavailableError):
        await consumer.settle([done])
    assert cut.is_done
    assert await consumer.settle([done]) == (Settled.LEASE_LOST,)  # it has been
    (again,) = await consumer.claim(limit=10, wait_s=0)
    assert (again.id, again.deliveries) == (follower.id, 1)
    assert await consumer.settle([Done(delivery=again)]) == [Settled.OK]
    assert len(hands.taken) == 1


async def test_a_settlement_that_comes_in_after_it_was_asked_for_keeps_nothing(
    redis_server, open_broker, consume
) -> None:
    """A network may deliver what was sent on a connection long after its client has opened another."""
    broker = open_broker(redis_server.url)
    consumer = await consume(broker)
    Hands(consumer)
    delivery = await claimed(broker, consumer)
    (lane,) = consumer._lanes
    sent: list[Any] = []

    async def held_on_its_way(script: Any, keys: Any, args: Any, doing: str) -> Any:
        sent.append((script, keys, args))
        raise BrokerUnavailableError("no answer")

    line = consumer._desk(lane.space)
    run, line.run = line.run, held_on_its_way
    follower = message()
    with pytest.raises(BrokerUnavailableError):
        await consumer.settle([Done(delivery=delivery, successors=(follower,))])
    line.run = run
    assert await consumer.claim(limit=10, wait_s=0) == []  # asks for it
    ((script, keys, args),) = sent
    assert broker._deployment.run(script, keys, args, "settle late in") == 1
    assert [each.id for each in await consumer.claim(limit=10, wait_s=0)] == [follower.id]


async def test_what_is_kept_goes_back_with_its_consumer(redis_server, open_broker, consume) -> None:
    broker = open_broker(redis_server.url)
    consumer, other = await consume(broker), await consume(broker)
    Hands(consumer)
    follower = message()
    await consumer.settle([Done(delivery=await claimed(broker, consumer), successors=(follower,))])
    await consumer.close()
    (again,) = await other.claim(limit=10, wait_s=0)
    assert (again.id, again.deliveries) == (follower.id, 1)


async def test_with_results_elsewhere_nothing_is_kept_that_has_run_before(redis_server, tmp_path) -> None:
    """Only a claim asks whether it has: the broker cannot know."""
    ran: list[str] = []
    app = Celeriac("keeping", broker=redis_server.url, backend=f"sqlite:///{tmp_path}/results.db")

    @app.task(name="first")
    def first() -> int:
        return 1

    @app.task(name="second")
    def second(number: int) -> int:
        ran.append("second")
        return number

    @app.task(name="third")
    def third(number: int) -> int:
        ran.append("third")
        return number

    assert app.results is not None
    meta = ResultMeta(task_id="ended-before", status="SUCCESS", result=7)
    app.results.put([StoredResult(id="ended-before", state="SUCCESS", payload=app.codec.encode_result(meta))])
    options = worker_options(app, WorkerOverrides(pool="solo"))
    with EmbeddedWorker(lambda: make_runtime(app, options)):
        result = chain(first.s(), second.s().set(task_id="ended-before"), third.s()).delay()
        assert await result.aget(timeout=10) == 7
    assert ran == ["third"]
    app.close()
