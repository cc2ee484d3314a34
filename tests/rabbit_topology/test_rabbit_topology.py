"""Exchanges, bindings, broadcasts, dead letters and arguments, on a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from control_fleet import Fleet, wait_until
from rabbit_town import Town

from celeriac import Binding, Broadcast, Exchange, Queue
from celeriac.app.queues import worker_direct
from celeriac.brokers.amqp.methods import ExchangeDeclare, QueueBind, QueueDeclare
from celeriac.errors import ConfigError, StorageError, UnroutableError
from celeriac.model import Done, new_incarnation
from celeriac.storage.amqp.faults import ChannelClosed

Found = Callable[..., Town]
MEDIA = Exchange("media", "topic")


def test_topics_reach_each_queue_whose_pattern_fits(found_town: Found) -> None:
    queues = [Queue("video", MEDIA, "media.video.#"), Queue("cut", MEDIA, "media.*.cut"), Queue("celery")]
    town = found_town(task_queues=queues)
    town.start("v", "video")
    town.start("c", "cut")
    town.send("both", exchange="media", routing_key="media.video.cut")
    town.send("one", queue="video", routing_key="media.video.long")
    town.send("other", exchange=MEDIA, routing_key="media.audio.cut")
    assert town.wait_count(4) == [("c", "both"), ("c", "other"), ("v", "both"), ("v", "one")]
    with pytest.raises(UnroutableError, match="no queue is bound to exchange 'media' with routing key 'text'"):
        town.send("nobody", exchange="media", routing_key="text")


def test_direct_and_fanout_exchanges_and_bindings(found_town: Found) -> None:
    paid = Exchange("orders")
    queues = [
        Queue("a", Exchange("all", "fanout")),
        Queue("b", Exchange("all", "fanout"), bindings=(Binding(paid, "paid"), Binding(MEDIA, "#"))),
        Queue("c", paid, "open"),
    ]
    town = found_town(task_queues=queues, task_default_queue="a")
    for name in "abc":
        town.start(name, name)
    town.send("fan", exchange="all")
    town.send("paid", exchange="orders", routing_key="paid")
    town.send("open", exchange="orders", routing_key="open")
    town.send("media", exchange="media", routing_key="x")
    town.send("straight", queue="c")
    assert town.wait_count(6) == [
        ("a", "fan"), ("b", "fan"), ("b", "media"), ("b", "paid"), ("c", "open"), ("c", "straight")
    ]  # fmt: skip


def test_headers_decide(found_town: Found) -> None:
    heads = Exchange("heads", "headers")
    queues = [
        Queue("red", heads, binding_arguments={"x-match": "all", "colour": "red"}),
        Queue("blue", heads, binding_arguments={"x-match": "all", "colour": "blue"}),
    ]
    town = found_town(task_queues=queues, task_default_queue="red")
    town.start("r", "red")
    town.start("b", "blue")
    town.send("sky", exchange="heads", headers={"colour": "blue"})
    town.send("rose", exchange="heads", headers={"colour": "red"})
    assert town.wait_count(2) == [("b", "sky"), ("r", "rose")]


def test_what_is_due_later_waits_for_each_queue_behind_an_exchange(found_town: Found) -> None:
    queues = [Queue("one", MEDIA, "m.#"), Queue("two", MEDIA, "#"), Queue("celery")]
    town = found_town(task_queues=queues)
    town.start("w", "one")
    town.start("x", "two")
    due = time.time() + 1.0
    town.send("later", exchange="media", routing_key="m.x", countdown=1.0)
    town.send("now", exchange="media", routing_key="m.x")
    assert town.wait_count(4) == [("w", "later"), ("w", "now"), ("x", "later"), ("x", "now")]
    assert all(at >= due - 0.01 for at in town.times("later"))


def test_each_worker_gets_a_copy_of_a_broadcast(found_town: Found) -> None:
    town = found_town(task_queues=["celery", Broadcast("news")])
    town.send("lost", queue="news")  # nobody listens, and nobody need
    town.start("a")
    town.start("b", "celery", "news")
    town.start("c", "celery")
    town.send("hello", queue="news")
    town.send("hello again", exchange="news")
    assert town.wait_count(4) == [("a", "hello"), ("a", "hello again"), ("b", "hello"), ("b", "hello again")]


def test_a_broadcast_is_retried_put_off_and_buried_by_each_for_itself(found_town: Found) -> None:
    town = found_town(task_queues=["celery", Broadcast("news")])
    for node in ("a", "b", "c"):
        town.start(node)
    due = time.time() + 1.0
    town.send("later", queue="news", countdown=1.0)
    town.send("twice", task="again", args=(0.3,), queue="news")
    town.send("at once", task="again", args=(0,), queue="news")
    town.send("no", task="refuse", queue="news")
    expected = [(node, what) for node in "abc" for what in ("at once", "at once", "later", "no", "twice", "twice")]
    assert town.wait_count(len(expected)) == expected
    assert all(at >= due - 0.01 for at in town.times("later"))
    town.send("end", queue="news")  # nothing more was on its way
    assert town.wait_count(len(expected) + 3)
    assert [letter.queue for letter in town.app.broker.dead_letters("news")] == ["news"] * 3


def test_queues_are_as_celery_declares_them(found_town: Found) -> None:
    queues = [
        Queue("limits", max_length=5, message_ttl=60, expires=3600, queue_arguments={"x-overflow": "reject-publish"}),
        Queue("urgent", max_priority=9),
        Queue("transient", Exchange("t", durable=False, auto_delete=True), durable=False),
        Queue("quorum", queue_arguments={"x-queue-type": "quorum"}),
    ]
    town = found_town(task_queues=queues, task_default_queue="made", task_create_missing_queue_type="classic")
    for name in ("limits", "urgent", "transient", "quorum", "missing"):
        town.send("x", queue=name)
    limits = {"x-max-length": 5, "x-message-ttl": 60_000, "x-expires": 3_600_000, "x-overflow": "reject-publish"}
    town.call(QueueDeclare(queue="limits", durable=True, arguments=limits))
    town.call(QueueDeclare(queue="urgent", durable=True, arguments={"x-max-priority": 9}))
    town.call(QueueDeclare(queue="transient", durable=False))
    town.call(QueueDeclare(queue="quorum", durable=True, arguments={"x-queue-type": "quorum"}))
    town.call(QueueDeclare(queue="missing", durable=True))
    town.call(ExchangeDeclare(exchange="missing", exchange_type="direct", durable=True))
    town.call(ExchangeDeclare(exchange="t", exchange_type="direct", durable=False, auto_delete=True))
    with pytest.raises(ChannelClosed, match="406"):
        town.call(QueueDeclare(queue="urgent", durable=True))


def test_priorities_of_a_queue_that_has_them(found_town: Found) -> None:
    town = found_town(task_queues=[Queue("urgent", max_priority=9)], task_default_queue="urgent")
    for number in (1, 5, 9, 3):
        town.send(str(number), priority=number)
    town.start("w", threads=1)
    town.wait_count(4)
    assert [what for _, what in town.seen()] == ["9", "5", "3", "1"]


def test_what_exists_otherwise_is_used_as_it_is(found_town: Found) -> None:
    town = found_town(task_queues=[Queue("q", Exchange("e", "topic"), "k.#", max_priority=3)], task_default_queue="q")
    town.call(QueueDeclare(queue="q", durable=True, arguments={"x-max-length": 100}))
    town.call(ExchangeDeclare(exchange="e", exchange_type="fanout", durable=True))
    town.start("w")
    town.send("straight", queue="q", exchange="", routing_key="q")
    town.send("through", exchange="e", routing_key="other")
    assert town.wait_count(2) == [("w", "straight"), ("w", "through")]
    town.call(QueueDeclare(queue="q", durable=True, arguments={"x-max-length": 100}))


def test_what_others_declare(found_town: Found) -> None:
    theirs = Queue("theirs", Exchange("owned", no_declare=True), "k", no_declare=True)
    town = found_town(task_queues=["celery", theirs])
    with pytest.raises(StorageError, match=r"'theirs' is not there.*no_declare"):
        town.send("x", queue="theirs")
    town.call(QueueDeclare(queue="theirs", durable=False))
    town.call(ExchangeDeclare(exchange="owned", exchange_type="direct", durable=False))
    town.start("w", "theirs")
    town.send("straight", queue="theirs")
    town.call(QueueBind(queue="theirs", exchange="owned", routing_key="k"))
    town.send("through", exchange="owned", routing_key="k")
    assert town.wait_count(2) == [("w", "straight"), ("w", "through")]


def test_exchanges_of_others(found_town: Found) -> None:
    town = found_town()
    with pytest.raises((UnroutableError, StorageError), match="nowhere"):
        town.send("x", exchange="nowhere", routing_key="k")
    town.call(ExchangeDeclare(exchange="theirs", exchange_type="topic", durable=True))
    with pytest.raises(UnroutableError, match=r"'theirs' with routing key 'a\.b'"):
        town.send("x", exchange="theirs", routing_key="a.b")
    town.call(QueueDeclare(queue="theirs", durable=True))
    town.call(QueueBind(queue="theirs", exchange="theirs", routing_key="a.*"))
    town.send("x", exchange="theirs", routing_key="a.b")
    assert town.call(QueueDeclare(queue="theirs", passive=True)).message_count == 1


def test_dead_letters_go_where_the_queue_says(found_town: Found) -> None:
    lost = Exchange("lost", "fanout")
    queues = [
        Queue("strict", queue_arguments={"x-dead-letter-exchange": "lost"}),
        Queue("plain"),
        Queue("morgue", lost),
    ]
    town = found_town(task_queues=queues, task_default_queue="plain")
    town.start("m", "morgue")
    town.start("w", "strict", "plain")
    town.send("ours", task="refuse", queue="plain")
    town.send("theirs", task="refuse", queue="strict")
    # the worker of the morgue refuses it, too
    assert town.wait_count(3) == [("m", "theirs"), ("w", "ours"), ("w", "theirs")]
    town.send("end", queue="plain")
    town.wait_count(4)
    assert [letter.queue for letter in town.app.broker.dead_letters("plain")] == ["plain"]
    assert not town.app.broker.dead_letters("strict")


async def test_a_queue_that_goes_with_its_last_consumer_keeps_one(found_town: Found) -> None:
    town = found_town(task_queues=[Queue("fleeting", auto_delete=True)], task_default_queue="fleeting")
    broker = town.app.broker
    consumer = await broker.open_consumer(["fleeting"], incarnation=new_incarnation(), lease_s=30.0, name="w@town")
    try:
        town.send("first")
        [first] = await consumer.claim(limit=1, wait_s=5.0)
        for number in range(5):
            town.send(str(number))
        give_up = time.monotonic() + 1.8  # a second unclaimed, and what is sent here goes back
        while time.monotonic() < give_up:
            town.call(QueueDeclare(queue="fleeting", passive=True))
            await asyncio.to_thread(town.open.wait, 0.1)
        await consumer.settle([Done(delivery=first)])
        left: list[Any] = []
        while len(left) < 5:
            claimed = await consumer.claim(limit=5, wait_s=5.0)
            assert claimed, left
            await consumer.settle([Done(delivery=one) for one in claimed])
            left += claimed
    finally:
        await consumer.close()
    with pytest.raises(ChannelClosed, match="404"):
        town.call(QueueDeclare(queue="fleeting", passive=True))


def test_arguments_of_consumers(found_town: Found) -> None:
    town = found_town(task_queues=["celery"])
    low = town.start("low", task_queues=[Queue("celery", consumer_arguments={"x-priority": -5})])
    town.start("high", task_queues=[Queue("celery", consumer_arguments={"x-priority": 5})])
    assert low.started
    town.send("warm up")
    town.wait_count(1)
    for number in range(5):
        town.send(str(number))
        town.wait_count(number + 2)
    assert {node for node, what in town.seen() if what != "warm up"} == {"high"}


def test_a_worker_has_a_queue_of_its_own(found_town: Found) -> None:
    town = found_town(worker_direct=True)
    town.start("a")
    town.start("b")
    town.send("for b", queue=worker_direct("b@town"))
    town.send("for a", queue="a@town.dq2")
    town.send("by key", exchange="C.dq2", routing_key="b@town")
    assert town.wait_count(3) == [("a", "for a"), ("b", "by key"), ("b", "for b")]
    town.call(QueueDeclare(queue="a@town.dq2", durable=True))  # as Celery declares it


def test_chains_go_through_exchanges(found_town: Found) -> None:
    town = found_town(
        task_queues=[Queue("one", MEDIA, "m.one"), Queue("all", MEDIA, "#"), "celery"],
        task_routes={"note": {"queue": "one", "routing_key": "m.one"}},
        worker_concurrency=1,
    )
    town.start("w", "one", "celery")
    town.start("l", "all")
    first, second = (town.app.signature("note", (what,), immutable=True) for what in ("first", "second"))
    (first.set(queue="celery") | second).apply_async()
    assert town.wait_count(3) == [("l", "second"), ("w", "first"), ("w", "second")]


def test_contradictions_are_told_before_anything_is_sent(found_town: Found) -> None:
    town = found_town()
    for broken in (Queue("q", exclusive=True), Queue("q", no_ack=True)):
        app: Any = town.make("broken", task_queues=[broken])
        with pytest.raises(ConfigError, match="queue 'q'"):
            app.send_task("note", ("x",))


@pytest.mark.processes
def test_workers_are_told_of_queues(rabbit_fleet: Fleet) -> None:
    fleet = rabbit_fleet
    fleet.start()
    way = {"exchange": "media", "exchange_type": "topic", "routing_key": "media.clips.#"}
    assert fleet.ask("add_consumer", queue="clips", **way) == {"ok": "add consumer clips"}
    refused = fleet.ask("add_consumer", queue="mine", exclusive=True)
    assert "exclusive=True is for one connection" in refused["error"]

    def known() -> Any:
        return {queue["name"]: queue for queue in fleet.ask("active_queues")}

    assert sorted(known()) == ["celery", "clips"]
    clips = known()["clips"]
    assert (clips["exchange"]["name"], clips["exchange"]["type"], clips["routing_key"]) == (
        "media", "topic", "media.clips.#"
    )  # fmt: skip
    assert known()["celery"]["exchange"]["name"] == "", "the default exchange, as it is"
    wait_until(lambda: _is_bound(fleet), "a process to have declared it")
    assert fleet.send("work", "x", exchange="media", routing_key="media.clips.long").get(timeout=10.0) == "x"


def _is_bound(fleet: Fleet) -> bool:
    try:
        fleet.send("work", "y", exchange="media", routing_key="media.clips")
    except (UnroutableError, StorageError):
        return False
    return True
