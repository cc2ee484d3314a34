"""Joins that Celery's workers and ours fill together: Celery's own code on one side, the newest and the oldest."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator
from itertools import product
from typing import Any

import pytest
import pytest_asyncio
import redis

from celeriac.brokers.redis import RedisBroker
from celeriac.model import Arrival, Done, Join, Workflow, new_incarnation, new_task_id
from celeriac.results.redis import RedisResultStore
from celeriac.testing.conformance.stage import batch, ids_of, take
from servers.celery_env import CelerySide

_PART = """
from types import SimpleNamespace

def part(join, member, position, value, body):
    request = SimpleNamespace(id=member, group=join, group_index=position, chord=body)
    app.backend.on_chord_part_return(request, "SUCCESS", value)
"""


class Chord:
    """Three members with ids, a body, and both sides that may end a member."""

    def __init__(self, celery: CelerySide, broker: RedisBroker, consumer: Any, store: RedisResultStore) -> None:
        self.shell = celery.shell()
        self.shell.run(_PART)
        self.is_old: bool = not self.shell("hasattr(app.backend, 'set_chord_size')")
        """Celery 5.0 has the size in the body's signature, and no protection against what comes again."""
        self.broker, self.consumer, self.store = broker, consumer, store
        self.renew()

    def renew(self) -> None:
        self.joins: tuple[Join, ...] = ()
        self.join, self.body_id = new_task_id(), new_task_id()
        self.members = [new_task_id() for _ in range(3)]
        self.body = {
            "task": "interop.echo", "args": [], "kwargs": {}, "options": {"task_id": self.body_id},
            "subtask_type": None, "immutable": False, "chord_size": 3,
        }  # fmt: skip

    def open(self, side: str) -> None:
        if side == "theirs" and self.is_old:
            self.joins = (Join(id=self.join, size=3),)  # as the message says; whoever of ours arrives may open it
        elif side == "theirs":
            self.shell("app.backend.set_chord_size(join, 3)", join=self.join)
        else:
            self.store.open_joins([Join(id=self.join, size=3)])

    def arrival(self, position: int) -> Arrival:
        member = self.members[position]
        (release,) = batch(1, queue="releases", id=f"release-{self.join}")
        payload = json.dumps([1, member, "SUCCESS", position * 10]).encode()
        return Arrival(join=self.join, member=member, position=position, payload=payload, release=release)

    async def end(self, side: str, position: int) -> None:
        if side == "theirs":
            self.shell(
                "part(join, member, position, position * 10, body)",
                join=self.join, member=self.members[position], position=position, body=self.body,
            )  # fmt: skip
            return
        self.broker.publish(batch(1))
        (delivery,) = await take(self.consumer)
        workflow = Workflow(joins=self.joins, arrivals=(self.arrival(position),))
        await self.consumer.settle([Done(delivery=delivery, workflow=workflow)])

    def published(self, server: redis.Redis) -> tuple[list[str], list[str]]:
        """Ids of the bodies that Celery published, and of the releases of ours."""
        bodies = [json.loads(each) for each in server.lrange("celery", 0, -1)]
        ours = ids_of(self.broker.peek("releases"))
        return [each["headers"]["id"] for each in bodies], ours


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as link:
        yield link


@pytest_asyncio.fixture
async def chord(celery: CelerySide, redis_url: str) -> AsyncIterator[Chord]:
    broker, store = RedisBroker(redis_url), RedisResultStore(redis_url)
    consumer = await broker.open_consumer(("q",), incarnation=new_incarnation(), lease_s=600.0)
    yield Chord(celery, broker, consumer, store)
    await consumer.close()
    broker.close()
    store.close()


async def test_whoever_ends_last_goes_on(chord: Chord, server: redis.Redis) -> None:
    for opener in ("ours", "theirs"):
        for sides in product(("ours", "theirs"), repeat=3):
            for order in ((0, 1, 2), (2, 0, 1)):
                about = f"opened by {opener}, {sides} in order {order}"
                chord.renew()
                server.delete("celery")
                chord.broker.purge(["releases"])
                chord.open(opener)
                for position in order:
                    assert chord.published(server) == ([], []), about
                    await chord.end(sides[position], position)
                last = sides[order[-1]]
                expected = ([chord.body_id], []) if last == "theirs" else ([], [f"release-{chord.join}"])
                assert chord.published(server) == expected, about
                if last == "theirs":
                    (envelope,) = server.lrange("celery", 0, -1)
                    assert "[[0, 10, 20]]" in _body_of(envelope), about
                else:
                    arrived = [json.loads(each) for each in chord.store.members(chord.join) or ()]
                    assert [each[3] for each in arrived] == [0, 10, 20], about


def _body_of(envelope: bytes) -> str:
    return base64.b64decode(json.loads(envelope)["body"]).decode()


@pytest.mark.parametrize("last", ["ours", "theirs"])
async def test_whatever_comes_again_changes_nothing(chord: Chord, server: redis.Redis, last: str) -> None:
    chord.open("theirs")
    for side, position in (("theirs", 0), ("ours", 1), ("ours", 0), (last, 2)):
        assert chord.published(server) == ([], [])
        await chord.end(side, position)
    published = chord.published(server)
    assert sum(map(len, published)) == 1
    for position in range(3):
        await chord.end("ours", position)
        if last == "ours" or not chord.is_old:
            await chord.end("theirs", position)
    if last == "ours":
        await chord.store.aclose_joins([chord.join])
        for position in range(3):
            await chord.end("ours", position)
            if not chord.is_old:
                await chord.end("theirs", position)
        assert chord.store.members(chord.join) is None
    assert chord.published(server) == published


async def test_what_a_worker_of_celerys_has_taken_is_left_to_it(chord: Chord, server: redis.Redis) -> None:
    chord.open("theirs")
    await chord.end("ours", 0)
    await chord.end("ours", 1)
    key = f"celery-taskset-meta-{chord.join}.c"
    server.set(key, "a token", ex=100)
    server.set(f"celery-taskset-meta-{chord.join}.s", 3)
    assert list(chord.store.arrive([chord.arrival(2)])) == [False]
    await chord.end("ours", 2)
    assert chord.published(server) == ([], [])
    server.delete(key)  # it died, and its claim ran out; its message comes again
    await chord.end("ours", 2)
    assert chord.published(server) == ([], [f"release-{chord.join}"])


async def test_a_join_extended_by_either_side_waits_for_more(chord: Chord, server: redis.Redis) -> None:
    chord.open("ours")
    chord.store.extend_join(chord.join, "more")
    chord.store.extend_join(chord.join, "more")
    chord.shell("app.backend.add_to_chord(join, None)", join=chord.join)
    for position in range(3):
        await chord.end("ours", position)
    for member in ("more", "theirs"):
        assert chord.published(server) == ([], [])
        chord.shell("part(join, member, None, 1, body)", join=chord.join, member=member, body=chord.body)
    assert chord.published(server) == ([chord.body_id], [])
