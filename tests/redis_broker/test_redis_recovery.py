"""One consumer or producer at a time, and what it does when an answer, a connection or the server goes away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from celeriac.brokers.redis.consumer import _CLAIM, RedisConsumer
from celeriac.clock import SYSTEM_CLOCK
from celeriac.codec import Codec
from celeriac.codec.kombu import KombuForm
from celeriac.engine.submit import Submitter
from celeriac.errors import (
    BrokerError,
    BrokerUnavailableError,
    EnqueueRejectedError,
    EnqueueUnknownError,
    LeaseLostError,
    StorageError,
)
from celeriac.interfaces.deadline import GIVE_UP_AT
from celeriac.model import (
    Admission,
    Cancellation,
    Delivery,
    Done,
    Later,
    Outgoing,
    Release,
    Settled,
    Unique,
    new_incarnation,
)
from celeriac.storage.redis import Deployment, load
from celeriac.storage.redis.line import Line

CLAIM = load("celeriac.brokers.redis.lua", "claim")
ADOPT = load("celeriac.brokers.redis.lua", "adopt")


async def eventually(condition: Callable[[], Any], what: str, timeout_s: float = 5.0) -> Any:
    stop = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < stop, f"waited {timeout_s:g} s for {what}"
        await asyncio.sleep(0.01)
    return found


def message(**fields: Any) -> Outgoing:
    """One that may have been published before, unless it is `fresh`."""
    made = Submitter(Codec(), SYSTEM_CLOCK, "test").build("work", (), {}, queue="q")
    return msgspec.structs.replace(made, **{"fresh": False, **fields})


async def test_what_a_lost_reply_has_taken_is_had_by_the_next_claim(
    redis_server, start_proxy, open_broker, consume
) -> None:
    proxy = start_proxy(*redis_server.address)
    broker = open_broker(redis_server.url_at(proxy.port))
    consumer = await consume(broker)
    await consumer.claim(limit=1, wait_s=0)  # the server knows the script
    sent = [message() for _ in range(5)]
    broker.publish(sent)
    cut = proxy.lose_next_reply(CLAIM.digest.encode())
    with pytest.raises(BrokerUnavailableError):
        await consumer.claim(limit=3, wait_s=0)
    assert cut.is_done
    assert broker.depth(["q"])["q"].held == 3
    again = await consumer.claim(limit=10, wait_s=0)
    assert [each.id for each in again] == [each.id for each in sent]
    assert {each.deliveries for each in again} == {1}
    assert set(await consumer.settle([Done(delivery=each) for each in again])) == {Settled.OK}
    assert broker.depth(["q"])["q"].held == 0


async def test_what_a_lost_reply_has_adopted_is_had_by_the_next_try(
    redis_server, start_proxy, open_broker, consume
) -> None:
    """Of the simulator's histories: a supervisor whose adoption was not answered held the message for ever."""
    proxy = start_proxy(*redis_server.address)
    broker = open_broker(redis_server.url_at(proxy.port))
    dead, other, heir = await consume(broker), await consume(broker), await consume(broker)
    sent = [message() for _ in range(3)]
    broker.publish(sent)
    ids = [each.id for each in await dead.claim(limit=2, wait_s=0)]
    (third,) = await other.claim(limit=1, wait_s=0)
    assert await heir.adopt(new_incarnation(), ids) == []  # the server knows the script
    for _ in range(2):
        cut = proxy.lose_next_reply(ADOPT.digest.encode())
        with pytest.raises(BrokerUnavailableError):
            await heir.adopt(dead.incarnation, ids)
        assert cut.is_done
    assert [each.id for each in await heir.adopt(other.incarnation, [*ids, third.id])] == [third.id]
    await broker.abandon(dead.incarnation, running=ids)
    adopted = await heir.adopt(dead.incarnation, ids)
    assert [(each.id, each.deliveries) for each in adopted] == [(task_id, 1) for task_id in ids]
    assert await heir.adopt(dead.incarnation, ids) == []
    assert await heir.settle([Done(delivery=each) for each in adopted]) == [Settled.OK, Settled.OK]
    assert broker.depth(["q"])["q"].held == 1


async def test_what_the_server_has_forgotten_the_end_of_comes_again(start_redis, open_broker, consume) -> None:
    """It was killed, and read its last snapshot: there the consumer holds what it has settled since."""
    own_server = start_redis()
    broker = open_broker(own_server.url)
    consumer = await consume(broker)
    slow = message(limit=Admission(key="one", concurrency=1))
    sent = [message() for _ in range(4)]
    broker.publish([slow, *sent])
    limited, done, later, back, kept = await consumer.claim(limit=5, wait_s=0)
    own_server.cli().save()
    again = Outgoing(id=later.id, task="work", queue="q", headers=later.headers, body=later.body)
    outcomes = [
        Done(delivery=limited),
        Done(delivery=done),
        Later(delivery=later, message=again),
        Release(delivery=back),
    ]
    assert set(await consumer.settle(outcomes)) == {Settled.OK}
    await asyncio.to_thread(own_server.restart, how="kill")
    assert broker.depth(["q"])["q"].held == 5

    async def claim() -> list[Delivery]:
        try:
            return list(await consumer.claim(limit=10, wait_s=0))
        except BrokerUnavailableError:
            return []

    found = [each for _ in range(3) for each in await claim()]
    assert sorted((each.id, each.deliveries) for each in found) == sorted(
        (each.id, 2) for each in (limited, done, later, back)
    )
    assert set(await consumer.settle([Done(delivery=each) for each in (kept, *found)])) == {Settled.OK}
    assert broker.depth(["q"])["q"].held == 0


async def test_a_server_that_forgets_nothing_is_given_nothing_back(redis_server, open_broker, consume) -> None:
    broker = open_broker(redis_server.url)
    consumer = await consume(broker)
    broker.publish([message() for _ in range(6)])
    held = list(await consumer.claim(limit=2, wait_s=0))
    for _ in range(2):
        redis_server.cut_clients()
        with pytest.raises(BrokerUnavailableError):
            await consumer.claim(limit=2, wait_s=0)
        held += await consumer.claim(limit=2, wait_s=0)
    assert len({each.id for each in held}) == len(held) == 6
    assert set(await consumer.settle([Done(delivery=each) for each in held])) == {Settled.OK}


async def test_an_adoption_that_a_later_try_overtook_moves_nothing(redis_server, open_broker, consume) -> None:
    broker = open_broker(redis_server.url)
    dead, heir = await consume(broker), await consume(broker)
    broker.publish([message()])
    (held,) = await dead.claim(limit=1, wait_s=0)
    await heir._desk(heir._lanes[0].space).run(  # what a try with a lower tag has told the server
        load("celeriac.brokers.redis.lua", "adopt"),
        (heir._lanes[0].space.prefix,),
        (*heir._lanes[0].space.head(), new_incarnation(), heir.incarnation, 99, "", "", ",98,", held.id),
        "adopt in",
    )
    with pytest.raises(BrokerUnavailableError, match="overtook"):
        await heir.adopt(dead.incarnation, [held.id])
    assert await dead.settle([Done(delivery=held)]) == [Settled.OK]


async def test_what_two_lost_replies_have_taken_is_had_one_after_the_other(
    redis_server, start_proxy, open_broker, consume
) -> None:
    proxy = start_proxy(*redis_server.address)
    broker = open_broker(redis_server.url_at(proxy.port))
    consumer = await consume(broker)
    sent = {each.id for each in (message() for _ in range(5)) if not broker.publish([each])}
    for _ in range(2):
        proxy.lose_next_reply(CLAIM.digest.encode())
        with pytest.raises(BrokerUnavailableError):
            await consumer.claim(limit=2, wait_s=0)
    found: set[str] = set()
    for _ in range(3):
        found |= {each.id for each in await consumer.claim(limit=10, wait_s=0)}
    assert found == sent


async def test_what_kombus_lists_gave_to_a_lost_reply_is_had_again(
    redis_server, start_proxy, open_broker, consume
) -> None:
    """Of the claim and of the import behind it, in turn, with native messages between."""
    proxy = start_proxy(*redis_server.address)
    broker = open_broker(redis_server.url_at(proxy.port))
    form, imports = KombuForm(Codec()), load("celeriac.brokers.redis.lua", "import").digest.encode()
    consumer = await consume(broker)
    sent = [message() for _ in range(6)]
    broker.publish(sent[:2])
    redis_server.cli().lpush("q", *map(form.encode, sent[2:4]))
    for number, mark in enumerate((imports, CLAIM.digest.encode(), imports)):
        proxy.lose_next_reply(mark)
        with pytest.raises(BrokerUnavailableError):
            await consumer.claim(limit=10, wait_s=0)
        if number == 1:
            redis_server.cli().lpush("q", *map(form.encode, sent[4:]))
    found: list[str] = []
    for _ in range(4):
        found += [each.id for each in await consumer.claim(limit=10, wait_s=0)]
    assert sorted(found) == sorted(each.id for each in sent)


async def test_a_claim_that_comes_in_after_it_was_given_up_takes_nothing(redis_server, open_broker, consume) -> None:
    """A network may deliver what was sent on a connection long after its client has opened another."""
    broker = open_broker(redis_server.url)
    consumer: RedisConsumer = await consume(broker)
    (lane,) = consumer._lanes
    tag, keys, args = consumer._claim_command(lane, 10)  # held somewhere on its way
    lane.lost.append(tag)
    assert await consumer.claim(limit=10, wait_s=0) == []
    sent = message()
    broker.publish([sent])
    broker._deployment.run(CLAIM, keys, args, "claim late from")
    assert broker.depth(["q"])["q"].held == 0
    assert [each.id for each in await consumer.claim(limit=10, wait_s=0)] == [sent.id]


async def test_an_answer_that_comes_too_late_is_not_the_next_calls(
    redis_server, start_proxy, open_broker, consume
) -> None:
    proxy = start_proxy(*redis_server.address)
    broker = open_broker(redis_server.url_at(proxy.port), timeout_s=0.3)
    consumer = await consume(broker)
    broker.publish([message() for _ in range(4)])
    first, *claimed = await consumer.claim(limit=4, wait_s=0)
    assert await consumer.settle([Done(delivery=first)]) == [Settled.OK]
    await consumer.beat()  # the server knows the scripts
    for call in (
        lambda: consumer.settle([Done(delivery=claimed[0])]),
        lambda: consumer.beat(),
        lambda: consumer.claim(limit=1, wait_s=0),
    ):
        proxy.half_open("replies")
        with pytest.raises(BrokerUnavailableError, match="no answer within"):
            await call()
        proxy.heal()
        await consumer.beat()
        assert await consumer.claim(limit=1, wait_s=0) == []
        assert await consumer.cancelled([claimed[1].id]) == []
    assert await consumer.settle([Done(delivery=each) for each in claimed]) == [
        Settled.LEASE_LOST,  # it had been settled
        Settled.OK,
        Settled.OK,
    ]


@pytest.mark.parametrize("at", ["while it is made", "before"])
async def test_a_line_that_is_closed_opens_no_connection(redis_server, open_broker, at) -> None:
    """As when a lease is lost while a claim connects again: that claim failed with an error that said nothing."""
    deployment = Deployment(redis_server.url)
    entered, may_end = asyncio.Event(), asyncio.Event()

    async def on_connect(line: Line) -> None:
        entered.set()
        await may_end.wait()

    line = Line(deployment, "q", on_connect=on_connect)
    if at == "before":
        await line.close()
    call = asyncio.create_task(line.call("look at", "GET", "q"))
    if at != "before":
        await entered.wait()
        await line.close()
    may_end.set()
    with pytest.raises(BrokerUnavailableError):
        await call
    assert not line.is_open


async def test_a_claim_on_a_closed_consumer_says_that_the_lease_is_gone(
    redis_server, start_proxy, open_broker, consume
) -> None:
    proxy = start_proxy(*redis_server.address)
    consumer = await consume(open_broker(redis_server.url_at(proxy.port)))
    await consumer.claim(limit=1, wait_s=0)
    proxy.half_open("replies")
    claim = asyncio.create_task(consumer.claim(limit=1, wait_s=0))
    with pytest.raises(BrokerUnavailableError):  # nobody hears of its end
        await consumer.close()
    with pytest.raises(LeaseLostError):
        await claim


async def test_cancellations_that_went_unheard_show_in_the_stamp(redis_server, open_broker, consume) -> None:
    broker = open_broker(redis_server.url)
    consumer = await consume(broker)
    broker.publish([message(id="a")])
    await consumer.claim(limit=1, wait_s=0)
    before = consumer.cancel_stamp
    redis_server.cli().execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await asyncio.to_thread(broker.cancel, [Cancellation(id="a")])
    await eventually(lambda: consumer.cancel_stamp != before, "another stamp")
    assert [order.id for order in await consumer.cancelled(["a"])] == ["a"]


async def test_kombus_lists_are_watched_again_after_the_news_line_was_lost(redis_server, open_broker, consume) -> None:
    broker = open_broker(redis_server.url)
    consumer: RedisConsumer = await consume(broker)
    (lane,) = consumer._lanes
    waiting = asyncio.ensure_future(consumer.claim(limit=1, wait_s=20))
    await eventually(lambda: lane.is_tracked and consumer._waiting, "a claim that waits")
    first = consumer._news_id
    redis_server.cli().execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await eventually(lambda: consumer._news_id not in (0, first), "another news line")
    await eventually(lambda: lane.is_tracked and not lane.is_stale, "to be told again")
    sent = message()
    began = time.monotonic()
    redis_server.cli().lpush("q", KombuForm(Codec()).encode(sent))
    (taken,) = await asyncio.wait_for(waiting, 10)
    assert taken.id == sent.id
    assert time.monotonic() - began < 1.0


async def test_a_consumer_waits_on_while_its_news_line_is_down(redis_server, start_proxy, open_broker, consume) -> None:
    """Nobody tells of kombu's lists then; the claim looks by itself."""
    broker = open_broker(redis_server.url)
    consumer: RedisConsumer = await consume(broker)
    consumer._listener.cancel()
    await consumer._news.drop()
    await consumer._lanes[0].line.drop()
    waiting = asyncio.ensure_future(consumer.claim(limit=1, wait_s=20))
    await eventually(lambda: consumer._waiting, "a claim that waits")
    sent = message()
    redis_server.cli().lpush("q", KombuForm(Codec()).encode(sent))
    (taken,) = await asyncio.wait_for(waiting, 5)
    assert taken.id == sent.id


async def test_celerys_message_is_handed_out_though_it_was_cancelled(redis_server, open_broker, consume) -> None:
    """Others wait for it; the stamp tells who claims it, whatever was asked before."""
    broker = open_broker(redis_server.url)
    consumer = await consume(broker)
    sent = message(not_before=SYSTEM_CLOCK.time() + 3600)
    broker.cancel([Cancellation(id=sent.id, hand_out=True)])
    assert [order.hand_out for order in await consumer.cancelled([sent.id])] == [True]
    await eventually(lambda: consumer.cancel_stamp > 0, "the order is heard of")
    asked_at = consumer.cancel_stamp
    redis_server.cli().lpush("q", KombuForm(Codec()).encode(sent))
    (taken,) = await consumer.claim(limit=10, wait_s=10)
    assert taken.id == sent.id
    assert consumer.cancel_stamp != asked_at


async def test_what_a_lost_claim_took_is_known_to_be_cancelled(redis_server, open_broker, consume) -> None:
    broker = open_broker(redis_server.url)
    consumer = await consume(broker)
    broker.publish([sent := message()])
    broker.cancel([Cancellation(id=sent.id, hand_out=True)])
    lane = consumer._lanes[0]
    tag, keys, args = consumer._claim_command(lane, 10)
    await lane.line.run(_CLAIM, keys, args, "claim from")  # nobody reads the answer
    lane.lost.append(tag)
    asked_at = consumer.cancel_stamp
    (taken,) = await consumer.claim(limit=10, wait_s=10)
    assert (taken.id, taken.tag) == (sent.id, tag)
    assert consumer.cancel_stamp != asked_at


async def test_a_waiting_claim_survives_a_flush_of_the_scripts(redis_server, open_broker, consume) -> None:
    broker = open_broker(redis_server.url)
    consumer = await consume(broker)
    took = []
    for _ in range(4):
        waiting = asyncio.ensure_future(consumer.claim(limit=1, wait_s=20))
        await eventually(lambda: consumer._waiting, "a claim that waits")
        await eventually(lambda: "BZPOPMIN" in _commands(redis_server), "the server to hold it")
        redis_server.cli().script_flush()
        sent = message()
        began = time.monotonic()
        broker.publish([sent])
        (taken,) = await waiting
        assert taken.id == sent.id
        took.append(time.monotonic() - began)
    assert min(took) < 0.5


def _commands(server: Any) -> set[str]:
    return {one["cmd"].upper() for one in server.cli().client_list()}


# -- producers ----------------------------------------------------------------------------------------------------


def test_a_full_server_refuses_and_says_of_what(start_redis, open_broker) -> None:
    server = start_redis()
    broker = open_broker(server.url)
    broker.publish([message()])
    server.refuse_writes()
    for sent in ([message(fresh=True)], [message(), message(queue="other")]):
        with pytest.raises(EnqueueRejectedError, match="maxmemory") as caught:
            broker.publish(sent)
        assert caught.value.task_ids == tuple(each.id for each in sent)
    server.accept_writes()
    assert broker.depth(["q"])["q"].ready == 1


def test_an_outcome_stays_unknown_whatever_the_second_try_is_told(start_redis, start_proxy, open_broker) -> None:
    """The first try was carried out; the second meets a full server, or nobody."""
    server = start_redis()
    proxy = start_proxy(*server.address)
    broker = open_broker(server.url_at(proxy.port))
    for number, spoil in enumerate((server.refuse_writes, proxy.refuse), 1):
        broker.publish([message()])  # leaves an idle connection, for whose loss there is a second try
        sent = message(fresh=True)
        lost = proxy.lose_next_reply(b"EVALSHA")
        original, broker._deployment._drop_idle = broker._deployment._drop_idle, lambda spoil=spoil: spoil()
        try:
            with pytest.raises(EnqueueUnknownError) as caught:
                broker.publish([sent])
        finally:
            broker._deployment._drop_idle = original
        assert lost.is_done
        assert caught.value.task_ids == (sent.id,)
        server.accept_writes()
        proxy.heal()
        broker.publish([sent])
        assert broker.depth(["q"])["q"].ready == 2 * number


@pytest.mark.parametrize("fresh", [True, False])
async def test_what_ran_before_its_producer_heard_of_it_does_not_run_again(
    redis_server, start_proxy, open_broker, consume, fresh
) -> None:
    """No result tells that it has run; the server knows which calls it has carried out."""
    proxy = start_proxy(*redis_server.address)
    broker = open_broker(redis_server.url_at(proxy.port))
    consumer = await consume(open_broker(redis_server.url))
    broker.publish([message(fresh=True)])
    broker.publish([message()])  # the server knows the scripts
    broker.close()
    sent = [message(fresh=fresh) for _ in range(3)]
    proxy.lose_next_reply(b"EVALSHA")
    with pytest.raises(EnqueueUnknownError):
        broker.publish(sent)
    ran = await consumer.claim(limit=10, wait_s=0)
    assert len(ran) == 5
    await consumer.settle([Done(delivery=each) for each in ran])
    again = [msgspec.structs.replace(each, fresh=False) for each in sent]
    for _ in range(2):
        broker.publish(again[:2])
        assert await consumer.claim(limit=10, wait_s=0) == []
    broker.publish(again[2:])
    assert await consumer.claim(limit=10, wait_s=0) == []


def test_who_repeats_hears_again_what_was_dropped(redis_server, start_proxy, open_broker) -> None:
    """Of unique tasks, where the first answer was lost."""
    proxy = start_proxy(*redis_server.address)
    broker = open_broker(redis_server.url_at(proxy.port))
    unique = Unique(key="report", ttl_s=60.0)
    first, second = message(unique=unique), message(unique=unique)
    assert broker.publish([first]) == {}
    broker.close()
    proxy.lose_next_reply(b"EVALSHA")
    with pytest.raises(EnqueueUnknownError):
        broker.publish([second])
    assert broker.publish([second]) == {second.id: first.id}
    assert [each.id for each in broker.peek("q")] == [first.id]


async def test_a_publish_that_comes_in_after_it_was_repeated_is_not_carried_out(
    redis_server, start_proxy, open_broker, consume
) -> None:
    """A network holds it back until its message has come another way, and has run."""
    proxy = start_proxy(*redis_server.address)
    broker = open_broker(redis_server.url_at(proxy.port), timeout_s=0.3)
    consumer = await consume(open_broker(redis_server.url))
    broker.publish([message(fresh=True)])
    await consumer.claim(limit=1, wait_s=0)
    proxy.half_open("requests")
    sent = message(fresh=True)
    with pytest.raises(EnqueueUnknownError):
        broker.publish([sent])
    other = open_broker(redis_server.url)
    other._lost = dict(broker._lost)  # the same producer, by a way that works
    other.publish([msgspec.structs.replace(sent, fresh=False)])
    (ran,) = await consumer.claim(limit=10, wait_s=0)
    await consumer.settle([Done(delivery=ran)])
    calls = _calls(redis_server)
    proxy.heal()
    await eventually(lambda: _calls(redis_server) > calls, "the late one to come in")
    assert await consumer.claim(limit=10, wait_s=0) == []


def _calls(server: Any) -> int:
    return int(server.cli().info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


def test_the_record_of_calls_is_turned_over(redis_server, open_broker) -> None:
    broker = open_broker(redis_server.url)
    broker.publish([message(fresh=True)])
    server = redis_server.cli()
    assert server.hlen("celeriac:sent") == 1
    asyncio.run(broker.reap(limit=1))
    assert (server.hlen("celeriac:sent"), server.hlen("celeriac:sent:before")) == (0, 1)
    broker.publish([message(fresh=True)])
    assert server.hvals("celeriac:sent") == ["2"]
    asyncio.run(broker.reap(limit=1))
    assert server.hlen("celeriac:sent") == 1  # not before ten minutes are over


@pytest.mark.parametrize("trouble", ["blackhole", "replies", "requests"])
def test_no_call_takes_longer_than_its_timeout(redis_server, start_proxy, open_broker, trouble) -> None:
    proxy = start_proxy(*redis_server.address)
    broker = open_broker(redis_server.url_at(proxy.port, database=3), timeout_s=0.4)
    broker.publish([message()])
    proxy.blackhole() if trouble == "blackhole" else proxy.half_open(trouble)
    for _ in range(2):  # on an idle connection, and on a new one
        began = time.monotonic()
        with pytest.raises((EnqueueUnknownError, BrokerUnavailableError)):
            broker.publish([message(fresh=True)])
        assert time.monotonic() - began < 2.4
    took = []
    for _ in range(5):
        began = time.monotonic()
        token = GIVE_UP_AT.set(began + 0.1)
        try:
            with pytest.raises((EnqueueUnknownError, BrokerUnavailableError)):
                broker.publish([message()])
        finally:
            GIVE_UP_AT.reset(token)
        took.append(time.monotonic() - began)
    assert min(took) < 0.3


def test_a_batch_to_a_server_that_reads_nothing_ends_in_time(start_redis, open_broker) -> None:
    server = start_redis()
    broker = open_broker(server.url, timeout_s=0.5)
    broker.publish([message()])
    server.freeze()
    began = time.monotonic()
    with pytest.raises(EnqueueUnknownError):
        broker.publish([message(body=b"x" * 1_000_000) for _ in range(16)])
    assert time.monotonic() - began < 4.0
    server.thaw()


# -- what is wrong with a server ----------------------------------------------------------------------------------


def test_a_wrong_password_is_an_error_at_once(start_redis, open_broker) -> None:
    server = start_redis(password="right")
    open_broker(server.url).publish([message()])
    for url in (server.url.replace("right", "wrong"), server.url.replace(":right@", "")):
        began = time.monotonic()
        with pytest.raises(StorageError, match="check user and password") as caught:
            open_broker(url).publish([message()])
        assert "wrong" not in str(caught.value).replace("WRONGPASS", "")
        assert time.monotonic() - began < 4.0, "no second try"


def test_no_permission_names_the_guide(redis_server, open_broker) -> None:
    redis_server.cli().execute_command("ACL", "SETUSER", "poor", "on", ">pw", "~*", "+ping", "+select")
    with pytest.raises(StorageError, match=r"docs/how-to/redis\.md"):
        open_broker(redis_server.url.replace("redis://", "redis://poor:pw@")).publish([message()])
    redis_server.cli().execute_command("ACL", "DELUSER", "poor")


async def test_the_rights_that_the_guide_gives_are_enough(redis_server, open_broker, consume) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "how-to" / "redis.md").read_text()
    (rights,) = [line.split() for line in guide.splitlines() if line.startswith("ACL SETUSER")]
    redis_server.cli().execute_command(*rights)
    broker = open_broker(redis_server.url.replace("redis://", "redis://celeriac:secret@"))
    consumer = await consume(broker, "celery")
    waiting = asyncio.ensure_future(consumer.claim(limit=1, wait_s=10))
    await eventually(lambda: consumer._waiting, "a claim that waits")
    redis_server.cli().lpush("celery", KombuForm(Codec()).encode(message(queue="celery")))
    (taken,) = await waiting
    await asyncio.to_thread(broker.cancel, [Cancellation(id=taken.id)])
    assert await consumer.cancelled([taken.id])
    assert await consumer.settle([Done(delivery=taken)]) == [Settled.OK]
    broker.publish([message(fresh=True, queue="celery"), message(queue="celery")])
    await consumer.beat()
    await broker.reap(limit=10)
    assert broker.depth()["celery"].ready == 2
    assert broker.purge(["celery"]) == 2
    assert broker.check().role == "master"
    await consumer.close()
    redis_server.cli().execute_command("ACL", "DELUSER", "celeriac")


async def test_a_server_that_is_too_old_is_refused(open_broker, consume) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = b"# Server\r\nredis_version:6.0.16\r\nredis_mode:standalone\r\n"
        while await reader.readline():
            if b"INFO" in await reader.read(65536):
                writer.write(b"$%d\r\n%b\r\n" % (len(info), info))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        broker = open_broker(f"redis://127.0.0.1:{port}/0")
        with pytest.raises(StorageError, match=r"is Redis 6\.0\.16; celeriac needs 6\.2 or newer"):
            await consume(broker)
        broker.close()
        server.close()


async def test_a_server_that_deletes_tasks_is_warned_of_once(start_redis, open_broker, consume, caplog) -> None:
    server = start_redis(settings={"maxmemory-policy": "allkeys-lru", "maxmemory": "100mb"})
    broker = open_broker(server.url)
    for _ in range(2):
        supervisor = await broker.open_consumer((), incarnation=new_incarnation(), lease_s=30.0)
        await supervisor.close()
    (warning,) = [record.getMessage() for record in caplog.records if "maxmemory-policy" in record.getMessage()]
    assert "allkeys-lru" in warning
    assert "noeviction" in warning


@pytest.mark.parametrize("kind", ["tls", "socket", "password", "tls and password", "user"])
async def test_every_way_to_reach_a_server(start_redis, open_broker, consume, kind) -> None:
    server = start_redis(tls="tls" in kind)
    url = {"socket": server.socket_url}.get(kind, server.url)
    if "password" in kind:
        server.cli().config_set("requirepass", "p@ss/w:rd?%")
        url = url.replace("://", "://:p%40ss%2Fw%3Ard%3F%25@")
    if kind == "user":
        server.cli().execute_command("ACL", "SETUSER", "shop", "on", ">pw", "~*", "&*", "+@all")
        url = url.replace("redis://", "redis://shop:pw@")
    broker = open_broker(url)
    consumer = await consume(broker)
    waiting = asyncio.ensure_future(consumer.claim(limit=1, wait_s=10))
    sent = message()
    await asyncio.to_thread(broker.publish, [sent])
    (taken,) = await waiting
    assert taken.id == sent.id
    assert await consumer.settle([Done(delivery=taken)]) == [Settled.OK]
    assert "p@ss" not in broker.url
    assert "pw@" not in broker.url


async def test_tls_that_cannot_be_verified_is_an_error(start_redis, open_broker) -> None:
    server = start_redis(tls=True)
    with pytest.raises(BrokerError, match=r"(?i)certificate"):
        open_broker(server.url.partition("?")[0]).publish([message()])
    open_broker(f"{server.url.partition('?')[0]}?ssl_cert_reqs=none").publish([message()])
