"""What somebody else has written into the native store of Redis: it is buried, and costs its neighbours nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest
import redis

from celeriac.brokers.redis import RedisBroker
from celeriac.codec import Codec
from celeriac.codec.kombu import KombuForm
from celeriac.engine.submit import Submitter
from celeriac.model import Bury, Delivery, Done, Settled, new_incarnation
from celeriac.testing import ManualClock

BASE = "celeriac:{q}"
BLOBS = {
    "nothing": b"",
    "one byte": b"x",
    "text": b"what is this",
    "another array": b"\x93\x01\x02\x03",
    "cut short": b"\x97\x00\xcb",
    "of wrong types": b"\x97\xa1a\xa1b\x01\x02\x03\x04\x05",
    "special, with terms that are none": b"\x99\x00\xa1a\x01" + bytes(20),
    "special, with a limit of wrong types": b"\x99\x00\x91\xc0\xc0" + b"\xc0" * 6,
    "special, cut short": b"\x99\x05\x94\xa1k",
    "special, and no more": b"\x99",
}


@pytest.fixture
def broker(redis_url: str) -> Any:
    with closing(RedisBroker(redis_url, timeout_s=2.0, foreign=KombuForm(Codec()))) as broker:
        yield broker


@pytest.fixture
def store(redis_url: str) -> Any:
    with closing(redis.Redis.from_url(redis_url)) as store:
        yield store


@pytest.fixture
async def consumer(broker: RedisBroker) -> AsyncIterator[Any]:
    consumer = await broker.open_consumer(["q"], incarnation=new_incarnation(), lease_s=30.0)
    yield consumer
    await consumer.close()


def publish(broker: RedisBroker, *ids: str) -> None:
    build = Submitter(Codec(), ManualClock(), "test").build
    broker.publish([build("t", (), {}, queue="q", task_id=each) for each in ids])


def put(store: Any, name: bytes | str, blob: bytes, *, score: float = 9e14) -> None:
    """As who knows the keys and not the form."""
    store.hset(f"{BASE}:m", name, blob)
    store.zadd(f"{BASE}:r", {name: score})


async def claim(consumer: Any) -> dict[str, Delivery]:
    found: dict[str, Delivery] = {}
    while deliveries := await consumer.claim(limit=50, wait_s=0):
        found |= {each.id: each for each in deliveries}
    return found


async def bury(broker: RedisBroker, consumer: Any, deliveries: list[Delivery]) -> list[str]:
    """Settle all; the reasons of the dead letters."""
    answers = await consumer.settle([Bury(delivery=each, reason=f"is {each.id!a}") for each in deliveries])
    assert set(answers) == {Settled.OK}
    letters = broker.dead_letters("q", limit=100)
    return sorted(letter.reason for letter in letters)


@pytest.mark.parametrize("blob", BLOBS.values(), ids=BLOBS)
async def test_bytes_that_are_no_message_are_handed_out_to_be_buried(
    broker: RedisBroker, store: Any, consumer: Any, blob: bytes
) -> None:
    publish(broker, "a", "b")
    put(store, "bad", blob, score=0.0)
    publish(broker, "c")
    assert broker.depth(["q"])["q"].ready == 4
    assert len(broker.peek("q")) == 4
    found = await claim(consumer)
    assert found.keys() == {"a", "b", "bad", "c"}
    assert await bury(broker, consumer, [found.pop("bad")]) == ["is 'bad'"]
    assert await consumer.settle([Done(delivery=each) for each in found.values()]) == [Settled.OK] * 3
    assert broker.depth(["q"])["q"].held == 0


@pytest.mark.parametrize("blob", [BLOBS["one byte"], BLOBS["special, with terms that are none"]])
async def test_bytes_that_are_no_message_become_due(
    broker: RedisBroker, store: Any, consumer: Any, blob: bytes
) -> None:
    store.hset(f"{BASE}:m", "bad", blob)
    store.zadd(f"{BASE}:z", {"bad": 1.0, "gone": 2.0})
    publish(broker, "a")
    assert (await claim(consumer)).keys() == {"a", "bad"}


async def test_a_message_that_was_taken_away_costs_its_neighbours_nothing(
    broker: RedisBroker, store: Any, consumer: Any
) -> None:
    """The claim took up to 64 messages off the queue before it failed at the missing one; nobody held them then."""
    publish(broker, "a", "gone", "b", "c", "gone-too")
    store.hdel(f"{BASE}:m", "gone", "gone-too")
    found = await claim(consumer)
    assert found.keys() == {"a", "b", "c"}
    assert set(await consumer.settle([Done(delivery=each) for each in found.values()])) == {Settled.OK}
    assert broker.depth(["q"])["q"].ready == 0


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\0b", b"../x\n", b"{other}", b"z" * 10_000, b""])
async def test_ids_that_are_none(broker: RedisBroker, store: Any, consumer: Any, name: bytes) -> None:
    publish(broker, "a")
    put(store, name, BLOBS["text"])
    found = await claim(consumer)
    del found["a"]
    ((task_id, delivery),) = found.items()
    assert await bury(broker, consumer, [delivery]) == [f"is {task_id!a}"]
    assert broker.drop_dead([task_id]) == 1


async def test_what_is_no_news_is_passed_over(broker: RedisBroker, store: Any, consumer: Any) -> None:
    for message in (b"", b"\xff", b"a b c", b"1 2", b"1 2 3 4", b"9" * 5000 + b" a b"):
        assert store.publish("celeriac:news", message) == 1
    publish(broker, "a")
    assert (await claim(consumer)).keys() == {"a"}
    stamp = consumer.cancel_stamp
    store.publish("celeriac:news", b"%d nonce %b" % (stamp + 5, consumer.incarnation.encode()))
    await consumer.claim(limit=1, wait_s=0.01)
    store.blpop("celeriac:heard:nonce", timeout=5)  # who listens still does
    assert consumer.cancel_stamp == stamp + 5


@pytest.mark.parametrize("payload", [b"", b"what is this", b'{"body":"' + bytes(range(256)) * 30_000, b"[" * 300_000])
async def test_what_lies_in_a_list_of_kombu_s_and_cannot_be_read_is_kept_whole(
    broker: RedisBroker, store: Any, consumer: Any, payload: bytes
) -> None:
    """It is not sent back to the server, which has it: an envelope of 13 MB made a worker 106 MiB larger."""
    store.lpush("q", payload)
    ((task_id, delivery),) = (await claim(consumer)).items()
    assert delivery.body == payload
    await bury(broker, consumer, [delivery])
    (letter,) = broker.dead_letters("q")
    assert (letter.id, letter.body) == (task_id, payload)
    assert Codec().salvage(letter.headers)[0] == task_id
    assert broker.revive([task_id]) == 1
    ((again_id, again),) = (await claim(consumer)).items()
    assert (again_id, again.body) == (task_id, payload)
