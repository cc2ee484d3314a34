"""What operators do with queues on RabbitMQ, where looking is taking and giving back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from rabbit_desk import message
from rabbit_view import PLAIN, View, viewing

from celeriac.brokers.amqp.layout import (
    BURIED_AT,
    DELIVERIES,
    DELIVERY_LIMIT,
    DETAIL,
    QUEUE,
    REASON,
    companion_name,
    dead_name,
)
from celeriac.brokers.amqp.notes import STREAM, Note
from celeriac.brokers.amqp.publisher import Parcel
from celeriac.codec import Codec
from celeriac.codec.amqp import AmqpForm
from celeriac.errors import NotSupportedError
from celeriac.interfaces import Notary
from celeriac.model import Cancellation, Cancelled, QueueDepth, QueuePlan, new_incarnation
from celeriac.model.tables import headers_of, with_headers
from celeriac.testing.conformance.stage import batch, outgoing


@pytest.fixture
def view(rabbit_url: str) -> Iterator[View]:
    with viewing(rabbit_url) as seen:
        yield seen


@pytest.fixture
def broker(rabbit_vhost, open_rabbit_broker) -> Any:
    return open_rabbit_broker(rabbit_vhost)


def bury(broker: Any, message: Any, *, at: float, reason: str = "poison", detail: str | None = None) -> None:
    """As a consumer does."""
    headers = {REASON: reason, BURIED_AT: at, DELIVERIES: 2, QUEUE: message.queue}
    properties = broker._publisher.parcel(message, headers | ({} if detail is None else {DETAIL: detail})).properties
    broker._deliver([Parcel.bare(dead_name(message.queue), message.queue, properties, message.body)])


def bring_back(view: View, queue: str, times: int) -> None:
    """Take its first message and return it, again and again."""
    with view.line.channel() as channel:
        for _ in range(times):
            arrived = None
            while arrived is None:
                arrived = channel.get(queue)
            channel.reject([arrived.delivery_tag], requeue=True)


# -- counting, purging


def test_all_parts_of_a_queue_are_counted_and_purged(broker, view) -> None:
    broker.publish([*batch(2), outgoing(priority=9), outgoing("other", priority=4)])
    bury(broker, outgoing(), at=1.0)
    assert broker.depth() == {"q": QueueDepth(ready=3, dead=1), "other": QueueDepth(ready=1)}
    assert broker.depth(["q", "nope"]) == {"q": QueueDepth(ready=3, dead=1), "nope": QueueDepth()}
    assert broker.purge(["q", "nope"]) == 3
    assert broker.depth() == {"q": QueueDepth(dead=1), "other": QueueDepth(ready=1)}


def test_who_never_used_a_queue_counts_what_is_there(broker, view, rabbit_vhost, open_rabbit_broker) -> None:
    broker.publish([outgoing(), outgoing(priority=9)])
    view.make_queue(companion_name("q"))
    view.put(companion_name("q"), b"x")
    other = open_rabbit_broker(rabbit_vhost)
    assert other.depth(["q"])["q"].ready == 3
    assert other.purge(["q"]) == 3
    assert view.count("q") == 0


# -- looking


def test_a_look_shows_what_runs_next_and_leaves_all_in_its_place(broker, view) -> None:
    low, high = batch(3), outgoing(priority=9)
    broker.publish([*low, high])
    for _ in range(2):
        assert [each.id for each in broker.peek("q")] == [high.id, *(each.id for each in low)]
    (seen,) = broker.peek("q", ids=[low[1].id])
    assert view.count("q") == 3
    assert (seen.task, seen.queue, seen.state, seen.priority, seen.body) == ("shop.tidy", "q", "ready", 0, low[1].body)
    assert len(broker.peek("q", limit=2)) == 2
    assert broker.peek("q", state="held") == broker.peek("nope") == broker.peek("q", state="dead") == []
    assert {each.body for each in view.take("q")} == {each.body for each in low}


def test_looking_often_buries_nothing(broker, view) -> None:
    sent = batch(3)
    broker.publish(sent)
    for _ in range(DELIVERY_LIMIT + 5):
        assert {each.id for each in broker.peek("q")} == {each.id for each in sent}
    assert (view.count("q"), view.count("q.dead")) == (3, 0)
    assert {each.body for each in view.take("q")} == {each.body for each in sent}


def test_what_is_not_a_message_does_not_hinder(rabbit_vhost, open_rabbit_broker, view) -> None:
    broker = open_rabbit_broker(rabbit_vhost, form=AmqpForm(Codec()))
    broker.publish([message("q")])
    for properties in (PLAIN, with_headers(PLAIN, {"task": 1, "id": {}}), b"\x80\x00\x01x"):
        view.put("q", b"\xff not one of ours", properties)
        view.put("q.dead", b"\xff not one of ours", properties)
    assert len(broker.peek("q")) == 4 + 3
    letters = broker.dead_letters()
    assert [each.body for each in letters] == [b"\xff not one of ours"] * 3
    assert "the server has put it aside" in letters[0].reason
    assert broker.drop_dead([each.id for each in letters]) == 3


# -- dead letters


def test_dead_letters_say_why_and_come_newest_first(broker) -> None:
    letters = [outgoing(priority=9), outgoing("other"), outgoing()]
    broker.publish([outgoing(), outgoing("other")])
    for at, each in enumerate(letters, 1):
        bury(broker, each, at=float(at), reason=f"reason {at}", detail="Traceback" if at == 1 else None)
    found = broker.dead_letters()
    assert [each.id for each in found] == [each.id for each in reversed(letters)]
    last = found[-1]
    assert (last.reason, last.detail, last.buried_at, last.deliveries) == ("reason 1", "Traceback", 1.0, 2)
    assert (last.queue, last.task, last.body) == ("q", "shop.tidy", letters[0].body)
    assert [each.id for each in broker.dead_letters("other")] == [letters[1].id]
    assert [each.id for each in broker.dead_letters(ids=[letters[2].id])] == [letters[2].id]
    assert len(broker.dead_letters(limit=2)) == 2
    assert broker.depth()["q"].dead == 2


def test_the_dead_go_back_to_where_they_came_from_without_their_history(broker, view) -> None:
    broker.publish([outgoing()])
    view.take("q")
    some = [outgoing(priority=9), outgoing(), outgoing()]
    for each in some:
        bury(broker, each, at=1.0)
    assert broker.revive([some[0].id, some[1].id, "nobody"]) == 2
    assert [view.count(name) for name in ("q.p9", "q", "q.dead")] == [1, 1, 1]
    (arrived,) = view.take("q.p9")
    assert arrived.body == some[0].body
    assert not any(name.startswith(("celeriac-", "x-death")) for name in headers_of(arrived.properties))
    assert broker.drop_dead([some[2].id, some[2].id]) == 1
    assert view.count("q.dead") == 0
    assert broker.revive([some[2].id]) == broker.drop_dead([]) == 0


def test_beside_a_shared_queue_they_go_where_only_ours_look(rabbit_vhost, open_rabbit_broker, view) -> None:
    broker = open_rabbit_broker(rabbit_vhost, plan_of=lambda name: QueuePlan(name=name, form="celery"))
    letter = outgoing()
    broker.publish([outgoing(native=True)])
    bury(broker, letter, at=1.0)
    assert broker.revive([letter.id]) == 1
    assert [view.count(name) for name in ("q", "q.celeriac", "q.dead")] == [0, 2, 0]


def test_what_the_server_buried_is_shown_and_revived(broker, view) -> None:
    killer = outgoing(priority=3)
    broker.publish([killer])
    bring_back(view, "q.p3", DELIVERY_LIMIT + 1)
    view.wait(lambda: view.count("q.dead") == 1, "the server has not buried it")
    (letter,) = broker.dead_letters("q")
    assert letter.id == killer.id
    assert "delivered it 20 times" in letter.reason
    assert letter.buried_at > 1e9
    assert broker.revive([killer.id]) == 1
    (arrived,) = view.take("q.p3")
    assert "x-death" not in headers_of(arrived.properties)


# -- word for the workers


async def test_word_is_left_in_the_stream_that_all_workers_read(broker, view) -> None:
    assert isinstance(broker, Notary)
    orders = [Cancellation(id="a"), Cancellation(id="b", terminate=True)]
    assert await asyncio.to_thread(broker.cancel, orders) == [Cancelled.MARKED] * 2
    await broker.note_lost({"c": b"killed"})
    await broker.note_lost({})
    assert broker.cancel([]) == []
    read: list[Any] = []
    with view.line.channel() as channel:
        channel.consume(STREAM, read.append, prefetch=10, arguments={"x-stream-offset": "first"})
        assert channel.listen(lambda: len(read) == 2, timeout_s=20.0)
    notes = [msgspec.json.decode(each.body, type=Note) for each in read]
    assert notes[0].cancel == tuple(orders)
    assert notes[1].lost == {"c": b"killed"}


async def test_where_the_connection_is_the_lease_there_is_nothing_to_renew_or_reap(broker) -> None:
    dead = new_incarnation()
    assert await broker.beat([dead]) == frozenset()
    assert await broker.abandon(dead, running=["a"]) == await broker.reap(limit=10) == 0


def test_schedules_are_kept_elsewhere(broker) -> None:
    with pytest.raises(NotSupportedError, match="keep them in Redis or SQLite"):
        broker.schedules("app")
    assert not broker.traits.schedules


def test_its_url_hides_the_password_and_names_the_store(rabbit_server, rabbit_vhost, broker) -> None:
    assert broker.url == f"amqp://guest:***@127.0.0.1:{rabbit_server.port}/{rabbit_vhost}"
