"""The consumer of RabbitMQ: lanes, prefetch, the connection as a lease, what goes back and what is counted."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec
import pytest
from pamqp import commands
from rabbit_desk import Desk, ids_of, message, take, take_all, wait_for

from celeriac.brokers.amqp.consumer import HOLD_BACK_S
from celeriac.brokers.amqp.methods import QueueDeclare
from celeriac.brokers.amqp.prefetch import FEW, MOST, fitting
from celeriac.clock import SYSTEM_CLOCK, SystemClock
from celeriac.errors import CodecError, LeaseLostError
from celeriac.model import Binding, Bury, Done, ExchangePlan, Later, Outgoing, QueuePlan, Release, Settled
from celeriac.model.tables import headers_of
from celeriac.storage.amqp import Channel, ChannelClosed
from celeriac.testing import TcpProxy
from servers.rabbit_server import RabbitServer

OK, LOST = Settled.OK, Settled.LEASE_LOST


@pytest.fixture
async def desk(rabbit_url: str) -> AsyncIterator[Desk]:
    async with Desk(rabbit_url) as desk:
        yield desk


def _celery(name: str) -> QueuePlan:
    return QueuePlan(name=name, form="celery")


def _broadcast(name: str) -> QueuePlan:
    return QueuePlan(name=name, form="broadcast", bindings=(Binding(exchange=ExchangePlan(name=name, type="fanout")),))


# -- prefetch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [0, 1, 7, 100, 1500])
@pytest.mark.parametrize("limit", [1, FEW, FEW + 1, 100, 512])
def test_prefetch_has_room_for_the_claim_and_settles(held: int, limit: int) -> None:
    found = fitting(0, held=held, limit=limit)
    assert found >= min(held + limit, MOST)
    assert fitting(found, held=held, limit=limit) == found
    assert found <= MOST


def test_few_are_sent_exactly() -> None:
    assert fitting(0, held=0, limit=1) == 1
    assert fitting(1, held=0, limit=1) == 1
    assert fitting(4, held=3, limit=1) == 4


def test_it_shrinks_only_when_it_is_far_too_large() -> None:
    assert fitting(256, held=0, limit=100) == 256
    assert fitting(2048, held=0, limit=100) == 256


# -- claiming --------------------------------------------------------------------------------------------------------


async def test_levels_go_before_queues_and_queues_take_turns(desk: Desk) -> None:
    sent = [message(queue, priority=priority) for priority in (0, 9, 3, 6) for queue in ("a", "b")]
    await desk.publish(*sent)
    consumer = await desk.open("a", "b")
    got = [*await take(consumer, 3), *await take(consumer)]
    assert [each.priority for each in got] == [9, 9, 6, 6, 3, 3, 0, 0]
    assert {each.queue for each in got} == {"a", "b"}


async def test_what_is_published_reaches_a_waiting_claim(desk: Desk) -> None:
    consumer = await desk.open()
    waiting = asyncio.ensure_future(wait_for(consumer))
    await desk.publish(one := message())
    assert ids_of(await waiting) == [one.id]


async def test_a_thousand_come_in_a_few_claims(desk: Desk) -> None:
    sent = [message() for _ in range(1000)]
    await desk.publish(*sent)
    consumer = await desk.open()
    got = await take_all(consumer, 1000)
    assert ids_of(got) == ids_of(sent)
    assert set(await consumer.settle([Done(delivery=each) for each in got])) == {OK}
    await consumer.close()
    assert await desk.count("q") == 0


async def test_a_claim_that_is_called_off_swallows_nothing(desk: Desk) -> None:
    consumer, other = await desk.open(), await desk.open()
    waiting = asyncio.ensure_future(wait_for(consumer))
    await desk.until(lambda: any(lane.prefetch for lane in consumer._lanes.all), "the lanes wake")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await desk.publish(one := message())
    assert ids_of(await take(other)) == [one.id]


async def test_what_nobody_claims_goes_to_others(desk: Desk) -> None:
    busy, idle = await desk.open(), await desk.open()
    await desk.publish(*(message() for _ in range(3)))
    waiting = asyncio.ensure_future(wait_for(busy, 1))
    (first,) = await waiting
    rest = await take_all(idle, 2)
    assert first.id not in ids_of(rest)
    assert {each.deliveries for each in rest} == {1}


async def test_a_busy_worker_leaves_the_next_message_to_others(desk: Desk) -> None:
    """One that waited, got a task and asks no more holds back nothing that comes later for longer than a second."""
    busy = await desk.open()
    waiting = asyncio.ensure_future(wait_for(busy, 4))
    await desk.publish(message())
    await waiting
    await desk.publish(late := message())
    other = await desk.open()
    assert ids_of(await wait_for(other)) == [late.id]


async def test_a_slow_worker_fetches_the_highest_first_and_no_more(desk: Desk) -> None:
    consumer = await desk.open()
    waiting = asyncio.ensure_future(wait_for(consumer, 1))
    await desk.publish(first := message())
    await waiting
    await desk.until(
        lambda: consumer._is_slow and not any(lane.prefetch for lane in consumer._lanes.all), "it is known to be slow"
    )
    await desk.publish(low := message(), high := message(priority=9), message())
    assert ids_of(await wait_for(consumer, 1)) == [high.id]
    assert await desk.count("q") == 2, "nothing else was taken"
    assert ids_of(await wait_for(consumer, 1)) == [low.id]
    assert first.id != low.id


async def test_an_interrupt_ends_a_wait(desk: Desk) -> None:
    consumer = await desk.open()
    waiting = asyncio.ensure_future(wait_for(consumer))
    await asyncio.sleep(0)
    consumer.interrupt()
    assert await waiting == []


async def test_one_queue_of_celerys_and_its_companion(rabbit_url: str) -> None:
    async with Desk(rabbit_url, plan_of=_celery) as desk:
        await desk.publish(shared := message(), ours := message(native=True))
        assert (await desk.count("q"), await desk.count("q.celeriac")) == (1, 1)
        got = await take(await desk.open())
        assert sorted(ids_of(got)) == sorted([shared.id, ours.id])
        assert {each.queue for each in got} == {"q"}


async def test_each_node_gets_a_copy_of_a_broadcast(rabbit_url: str) -> None:
    async with Desk(rabbit_url, plan_of=_broadcast) as desk:
        first, second = await desk.open("news", name="one@x"), await desk.open("news", name="one@x")
        third = await desk.open("news", name="two@x")
        await desk.publish(one := message("news"))
        got = [*await take(first), *await take(second)]
        assert ids_of(got) == [one.id], "the processes of a node share one copy"
        (copy,) = await take(third)
        assert (copy.id, copy.is_copy, copy.queue) == (one.id, True, "news")


async def test_what_becomes_of_a_copy_is_of_this_node_only(rabbit_url: str) -> None:
    async with Desk(rabbit_url, plan_of=_broadcast) as desk:
        first, second = await desk.open("news", name="one@x"), await desk.open("news", name="two@x")
        await desk.publish(one := message("news"))
        (copy,), (other,) = await take(first), await take(second)
        due = SYSTEM_CLOCK.time() + 0.3
        assert await first.settle([Later(delivery=copy, message=message("news", id=one.id))]) == [OK]
        (copy,) = await wait_for(first)
        later = message("news", id=one.id, not_before=due)
        assert await first.settle([Later(delivery=copy, message=later)]) == [OK]
        (copy,) = await wait_for(first)
        assert (copy.id, copy.is_copy) == (one.id, True)
        assert SYSTEM_CLOCK.time() >= due
        assert await first.settle([Release(delivery=copy, spent=True)]) == [OK]
        (copy,) = await wait_for(first)
        assert copy.deliveries == 2
        assert await first.settle([Bury(delivery=copy, reason="no")]) == [OK]
        assert await desk.count("news.dead") == 1
        assert await take(second) == []
        assert await second.settle([Done(delivery=other, successors=(message("news"),))]) == [OK]
        assert len(await wait_for(first)) == len(await wait_for(second)) == 1, "what a task sends is for all"


# -- what is not due -------------------------------------------------------------------------------------------------


async def test_a_message_that_is_not_due_goes_to_the_ladder(desk: Desk) -> None:
    consumer = await desk.open()
    due = SYSTEM_CLOCK.time() + 0.6
    # as Celery's producers publish one with an eta: to the queue itself
    parcel = desk.publisher.parcel(early := message(not_before=due, headers=_with_eta(message(), due)))
    await desk.sender.send([msgspec.structs.replace(parcel, message=None, target="q")])
    await desk.publish(other := message())
    first = await wait_for(consumer)
    assert other.id in ids_of(first)
    (got,) = await wait_for(consumer)
    assert got.queue == early.queue
    assert SYSTEM_CLOCK.time() >= due
    assert got.deliveries == 1
    assert await consumer.settle([Done(delivery=each) for each in (*first, got)]) == [OK, OK]


@pytest.mark.parametrize("wrong_s", [-3600.0, 3600.0])
@pytest.mark.parametrize("delay_s", [0.6, 0.03, -0.1])
async def test_a_worker_with_a_wrong_clock_takes_what_has_waited_when_it_is_due(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, delay_s: float, wrong_s: float
) -> None:
    """F11 on RabbitMQ: a worker one hour behind sent what had come down the ladder up again, for an hour; one that was
    ahead ran it up to 50 ms early, when what came down was held for its last moments by the worker's clock.
    """
    consumer = await desk.open()
    due = SYSTEM_CLOCK.time() + delay_s
    await desk.publish(late := message(not_before=due, headers=_with_eta(message(), due)))
    real = SystemClock.time
    monkeypatch.setattr(SystemClock, "time", lambda self: real(self) + wrong_s)
    (got,) = await wait_for(consumer)
    assert got.queue == late.queue
    assert real(SYSTEM_CLOCK) >= due
    assert await consumer.settle([Done(delivery=got)]) == [OK]


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
async def test_a_countdown_is_as_long_though_the_clock_steps_while_it_is_sent(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    """F11 on RabbitMQ, seed 349935: the producer's clock stepped one hour ahead between two looks at it."""
    consumer = await desk.open()
    due, end = SYSTEM_CLOCK.time() + 0.4, SYSTEM_CLOCK.monotonic() + 0.4
    late = message(not_before=due, timer=end, headers=_with_eta(message(), due))
    real = SystemClock.time
    monkeypatch.setattr(SystemClock, "time", lambda self: real(self) + step_s)
    await desk.publish(late)
    (got,) = await wait_for(consumer)
    assert got.queue == late.queue
    assert SYSTEM_CLOCK.monotonic() >= end
    assert await consumer.settle([Done(delivery=got)]) == [OK]


@pytest.mark.parametrize("spent", [False, True])
async def test_a_copy_of_what_has_waited_does_not_wait_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, spent: bool
) -> None:
    """F11 on RabbitMQ, seed 936954: what had come down the ladder was given back, and published anew for it; a worker
    one hour behind put that on the ladder for an hour.
    """
    consumer = await desk.open()
    due = SYSTEM_CLOCK.time() + 0.05
    await desk.publish(late := message(not_before=due, headers=_with_eta(message(), due)))
    real = SystemClock.time
    monkeypatch.setattr(SystemClock, "time", lambda self: real(self) - 3600.0)
    for _ in range(3):
        (got,) = await wait_for(consumer)
        assert got.body == late.body
        assert await consumer.settle([Release(delivery=got, spent=spent)]) == [OK]
    (got,) = await wait_for(consumer)
    assert await consumer.settle([Done(delivery=got)]) == [OK]


def _with_eta(outgoing: Outgoing, due: float) -> bytes:
    from datetime import UTC, datetime

    head = msgspec.json.decode(outgoing.headers)
    return msgspec.json.encode({**head, "eta": datetime.fromtimestamp(due, UTC).isoformat()})


# -- settling --------------------------------------------------------------------------------------------------------


async def test_every_kind_in_one_batch(desk: Desk) -> None:
    sent = [message() for _ in range(6)]
    await desk.publish(*sent)
    consumer = await desk.open("q", "r")
    a, b, c, d, e, f = await take(consumer)
    assert await consumer.settle([Done(delivery=f)]) == [OK]
    answers = await consumer.settle(
        [
            Done(delivery=a, successors=(following := message("s"),)),
            Done(delivery=f, successors=(message("s"),)),
            Later(delivery=b, message=message("r", id=b.id)),
            Release(delivery=c),
            Bury(delivery=d, reason="no", detail="nö\n2"),
            Release(delivery=e, spent=True),
            Release(delivery=a),
        ]
    )
    assert answers == [OK, LOST, OK, OK, OK, OK, LOST]
    (successor,) = await desk.drain("s")
    assert following.id.encode() in successor.properties
    (dead,) = await desk.drain("q.dead")
    about = headers_of(dead.properties)
    assert (about["celeriac-reason"], about["celeriac-detail"], about["celeriac-queue"]) == ("no", "nö\n2", "q")
    assert (about["celeriac-deliveries"], about["id"], dead.body) == (1, d.id, sent[3].body)
    assert {each.id: each.deliveries for each in await take(consumer)} == {b.id: 1, c.id: 1, e.id: 2}


async def test_only_a_spent_release_counts(desk: Desk) -> None:
    await desk.publish(message())
    consumer = await desk.open()
    counts = []
    for spent in (False, False, True, False, True):
        (delivery,) = await take(consumer)
        counts.append(delivery.deliveries)
        await consumer.settle([Release(delivery=delivery, spent=spent)])
    (last,) = await take(consumer)
    assert [*counts, last.deliveries] == [1, 1, 1, 2, 2, 3]


async def test_nothing_dies_of_being_given_back(desk: Desk) -> None:
    """The server buries what was returned more than twenty times."""
    await desk.publish(one := message())
    consumer = await desk.open()
    for _ in range(25):
        (delivery,) = await take(consumer)
        assert (delivery.id, delivery.deliveries) == (one.id, 1)
        await consumer.settle([Release(delivery=delivery)])
    assert await desk.count("q.dead") == 0


async def test_what_cannot_be_written_leaves_everything_as_it_was(desk: Desk) -> None:
    await desk.publish(message(), message())
    consumer = await desk.open()
    first, second = await take(consumer)
    broken = message("s", headers=b"not a header block")
    with pytest.raises(CodecError):
        await consumer.settle([Done(delivery=first), Done(delivery=second, successors=(broken,))])
    assert await consumer.settle([Done(delivery=first), Done(delivery=second)]) == [OK, OK]


async def test_closing_gives_back_in_order(desk: Desk) -> None:
    sent = [message() for _ in range(5)]
    await desk.publish(*sent)
    consumer = await desk.open()
    first, *_ = await take(consumer, 3)
    await consumer.close()
    await consumer.close()
    assert await consumer.settle([Done(delivery=first)]) == [LOST]
    with pytest.raises(LeaseLostError):
        await consumer.beat()
    got = await take(await desk.open())
    assert ids_of(got) == ids_of(sent)
    assert {each.deliveries for each in got} == {1}


# -- the lease -------------------------------------------------------------------------------------------------------


@pytest.fixture
def proxied(
    rabbit_server: RabbitServer, rabbit_vhost: str, start_proxy: Callable[..., TcpProxy]
) -> tuple[TcpProxy, str]:
    """A proxy in front of the server, and the URL by way of it."""
    proxy = start_proxy(*rabbit_server.address)
    return proxy, rabbit_server.url_of(rabbit_vhost, port=proxy.port)


async def test_with_the_connection_the_lease_is_lost(desk: Desk, proxied: tuple[TcpProxy, str]) -> None:
    proxy, url = proxied
    consumer = await desk.open(url=url)
    await desk.publish(one := message())
    (delivery,) = await take(consumer)
    waiting = asyncio.ensure_future(wait_for(consumer))
    await asyncio.sleep(0)
    await asyncio.to_thread(proxy.cut)
    with pytest.raises(LeaseLostError):
        await waiting
    with pytest.raises(LeaseLostError):
        await consumer.beat()
    assert await consumer.settle([Done(delivery=delivery, successors=(message("s"),))]) == [LOST]
    other = await desk.open()
    (again,) = await wait_for(other)
    assert (again.id, again.deliveries, again.was_out, again.lost) == (one.id, 1, True, ())
    assert await other.settle([Done(delivery=delivery)]) == [LOST], "a tag of another connection means nothing"
    assert await other.settle([Done(delivery=again)]) == [OK]


async def test_a_note_counts_a_delivery_and_comes_with_it(desk: Desk) -> None:
    first, other = await desk.open(), await desk.open()
    await desk.publish(one := message())
    await take(first)
    assert await first.drop() == 1
    waiting = asyncio.ensure_future(wait_for(other))
    await asyncio.sleep(0)
    await desk.note_lost(**{one.id: b"signal 9"})
    (again,) = await waiting
    assert (again.deliveries, again.lost, again.was_out) == (2, (b"signal 9",), True)
    await other.settle([Later(delivery=again, message=message(id=one.id))])
    (later,) = await take(other)
    assert (later.deliveries, later.lost) == (1, ()), "put in another's place, it counts anew"


async def test_what_was_out_waits_for_a_note(desk: Desk) -> None:
    first, other = await desk.open(), await desk.open()
    await desk.publish(message())
    await take(first)
    waiting = asyncio.ensure_future(wait_for(other))
    await asyncio.sleep(0)
    before = SYSTEM_CLOCK.monotonic()
    await first.drop()
    await waiting
    assert SYSTEM_CLOCK.monotonic() - before >= HOLD_BACK_S


async def test_what_is_committed_is_settled_whatever_happens(desk: Desk) -> None:
    first = await desk.open()
    await desk.publish(message(), message(), message())
    a, b, c = await take(first)
    assert await first.commit([a, b]) == [OK, OK]
    assert await first.commit([a]) == [LOST], "once only"
    assert await first.settle([Done(delivery=a, successors=(message("s"),))]) == [OK]
    assert await first.settle([Done(delivery=a)]) == [LOST]
    await first.drop()
    assert await first.commit([c]) == [LOST]
    second = await desk.open()
    outcomes = [Done(delivery=b, successors=(message("s"),)), Done(delivery=c, successors=(message("s"),))]
    assert await second.settle(outcomes) == [OK, LOST]
    assert await desk.count("s") == 2
    assert ids_of(await take(second)) == [c.id], "what was committed does not come again"


async def test_history_f16_rabbitmq_what_goes_back_as_a_copy_is_there_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The history of workers that left one after another: what had gone back before went back as a copy, and the server
    forgot with the channel that the original was acknowledged. It is busy when it forgets; so that it has read all is
    what we see to.
    """
    messages = [message() for _ in range(20)]
    await desk.publish(*messages)
    first = await desk.open()
    await take_all(first, len(messages))
    await first.close()
    second = await desk.open()
    assert sorted(ids_of(await take_all(second, len(messages)))) == sorted(ids_of(messages))
    said: list[str] = []
    ack, call = Channel.ack, Channel.call

    def acknowledging(channel: Channel, tags: Sequence[int]) -> None:
        said.append("ack")
        ack(channel, tags)

    async def calling(channel: Channel, method: Any) -> Any:
        answer = await call(channel, method)
        said.append(method.name)
        return answer

    monkeypatch.setattr(Channel, "ack", acknowledging)
    monkeypatch.setattr(Channel, "call", calling)
    await second.close()
    assert "ack" in said
    assert "Channel.Flow" in said[said.index("ack") :]
    found = [desk.form.decode(one.properties, one.body, "q").id for one in await desk.drain("q")]
    assert sorted(found) == sorted(ids_of(messages))


async def test_what_the_server_took_back_is_not_copied_as_well(desk: Desk, proxied: tuple[TcpProxy, str]) -> None:
    """It went back before, so it would go back as a copy now; the connection was lost on the way."""
    proxy, url = proxied
    await desk.publish(*(message() for _ in range(3)))
    first = await desk.open()
    await take_all(first, 3)
    await first.close()
    second = await desk.open(url=url)
    waiting = asyncio.ensure_future(wait_for(second))
    await desk.until(lambda: len(second._early) == 3, "nothing was held back")
    await asyncio.to_thread(proxy.cut)
    with pytest.raises(LeaseLostError):
        await waiting
    await second._rest()
    await second._finish_moves()

    async def is_there() -> bool:
        return await desk.count("q") >= 3

    await desk.until(is_there, "the server did not take them back")
    assert len(await desk.drain("q")) == 3


async def test_history_f5_rabbitmq_who_has_stood_still_asks_what_it_still_holds(desk: Desk, rabbit_url: str) -> None:
    """The history of a worker that was stopped for three leases: in its socket lay a task that was others' by then, in
    front of the news that the server had given its connection up.
    """
    consumer = await desk.open(url=f"{rabbit_url}?heartbeat=1")
    await consumer.beat()
    SYSTEM_CLOCK.pause(4.5)  # the loop stands still, and with it the heartbeats; the server waits for three of them
    with pytest.raises(LeaseLostError):
        await consumer.beat()


async def test_who_has_stood_still_for_a_moment_keeps_its_lease(desk: Desk, rabbit_url: str) -> None:
    consumer = await desk.open(url=f"{rabbit_url}?heartbeat=1")
    await desk.publish(message())
    [held] = await take(consumer)
    assert consumer.sure_until > SYSTEM_CLOCK.monotonic()
    SYSTEM_CLOCK.pause(1.5)
    assert consumer.sure_until < SYSTEM_CLOCK.monotonic()
    await consumer.beat()
    assert consumer.sure_until > SYSTEM_CLOCK.monotonic()
    assert await consumer.settle([Done(delivery=held)]) == [OK]


async def test_without_heartbeats_nothing_is_known(desk: Desk, rabbit_url: str) -> None:
    consumer = await desk.open(url=f"{rabbit_url}?heartbeat=0")
    assert consumer.sure_until == math.inf
    await consumer.beat()


async def test_what_is_committed_is_settled_by_a_lost_consumer_too(desk: Desk) -> None:
    first = await desk.open()
    await desk.publish(message())
    (a,) = await take(first)
    await first.commit([a])
    await first.drop()
    assert await first.settle([Done(delivery=a, successors=(message("s"),))]) == [OK]
    assert await desk.count("s") == 1


async def test_a_queue_deleted_under_the_consumer_is_made_again(
    desk: Desk, rabbit_server: RabbitServer, rabbit_vhost: str
) -> None:
    consumer = await desk.open()
    waiting = asyncio.ensure_future(wait_for(consumer))
    lanes = consumer._lanes.all
    await desk.until(lambda: all(lane.prefetch for lane in lanes), "the lanes wake")
    tags = {lane.tag for lane in lanes}
    await asyncio.to_thread(rabbit_server.delete_queue, "q", rabbit_vhost)
    await asyncio.to_thread(rabbit_server.delete_queue, "q.p9", rabbit_vhost)
    await desk.until(lambda: len(tags & {lane.tag for lane in lanes}) == 2, "it hears of both")
    await desk.until(lambda: all(lane.prefetch and not lane.broken for lane in consumer._lanes.all), "consumed again")
    await desk.publish(one := message(priority=9))
    assert ids_of(await waiting) == [one.id]


# -- suspects --------------------------------------------------------------------------------------------------------


async def test_a_queue_that_is_missed_first_by_us_costs_no_lease(desk: Desk) -> None:
    """Over the first question to a queue that was deleted, its channel falls. What was in it is gone, what is held of
    it is nobody else's, and what is held of others is still ours.
    """
    consumer = await desk.open("q", "r")
    await desk.publish(*(message() for _ in range(3)), message("r"))
    by_queue: dict[str, list[Any]] = {"q": [], "r": []}
    for each in await take_all(consumer, 4):
        by_queue[each.queue].append(each)
    one, two, three = by_queue["q"]
    (lane,) = (each for each in consumer._lanes if each.name == "q")
    await desk.publish(message())
    await desk.until(lambda: lane.tag is None, "it did not go to sleep")
    await desk.sender.call(commands.Queue.Delete(queue="q"))
    with pytest.raises(ChannelClosed):
        await lane.channel.get("q")
    await consumer.beat()
    outcomes = [Done(delivery=one), Done(delivery=two, successors=(message("s"),)), Release(delivery=three)]
    assert await consumer.settle(outcomes) == [OK, OK, OK]
    assert await consumer.settle([Done(delivery=one)]) == [LOST]
    assert await consumer.settle([Done(delivery=by_queue["r"][0])]) == [OK]
    assert await desk.count("s") == 1
    assert ids_of(await wait_for(consumer)) == [three.id], "given back to the queue that was made again"


async def test_what_ended_hosts_runs_alone(desk: Desk) -> None:
    sent = [message() for _ in range(3)]
    await desk.publish(*sent)
    for _ in range(3):
        victim = await desk.open()
        await take_all(victim, 3)
        await victim.drop()
    consumer = await desk.open()
    seen: list[str] = []
    while len(seen) < 3:
        got = await wait_for(consumer)
        assert len(got) == 1, "alone"
        assert got[0].was_out
        assert await take(consumer) == [], "and nothing beside it"
        seen += ids_of(got)
        assert await consumer.settle([Done(delivery=each) for each in got]) == [OK]
    assert sorted(seen) == sorted(ids_of(sent))
    await desk.publish(*(message() for _ in range(3)))
    assert len(await take_all(consumer, 3)) == 3


async def test_what_lies_beside_a_suspect_goes_to_others(desk: Desk) -> None:
    await desk.publish(guilty := message(priority=9))
    for _ in range(3):
        victim = await desk.open()
        await take_all(victim, 1)
        await victim.drop()
    await desk.publish(*(message() for _ in range(5)))
    consumer, other = await desk.open(), await desk.open()
    waiting = asyncio.ensure_future(wait_for(consumer))
    got = await waiting
    while guilty.id not in ids_of(got):
        got = await wait_for(consumer)
    assert ids_of(got) == [guilty.id]
    beside = asyncio.ensure_future(consumer.claim(limit=10, wait_s=10))
    await desk.publish(late := message())
    assert late.id in ids_of(await take_all(other, 1)) or beside.done() is False
    assert not beside.done()
    await consumer.settle([Done(delivery=got[0])])
    await desk.publish(message(), message())
    assert await beside


async def test_whose_deaths_are_known_is_no_suspect(desk: Desk) -> None:
    sent = [message() for _ in range(2)]
    await desk.publish(*sent)
    for _ in range(3):
        victim = await desk.open()
        await take_all(victim, 2)
        await victim.drop()
        await desk.note_lost(**{each.id: b"signal 11" for each in sent})
    consumer = await desk.open()
    got = await take(consumer)
    assert sorted((each.id, each.deliveries) for each in got) == sorted((each.id, 4) for each in sent)


async def test_a_queue_that_exists_otherwise_is_used_as_it_is(desk: Desk) -> None:
    await desk.sender.call(QueueDeclare(queue="q", durable=True, arguments={"x-max-length": 50}))
    await desk.publish(one := message(), two := message(native=True))
    got = await take(await desk.open())
    assert sorted(ids_of(got)) == sorted([one.id, two.id])


def test_entries_are_any() -> None:
    """Numbers in headers are anybody's."""
    from celeriac.brokers.amqp.consumer import _number

    values: list[Any] = ["x", None, float("nan"), 1e300, {}, True, 3]
    assert [_number(each) for each in values] == [0, 0, 0, 0, 0, 1, 3]
