"""What `publish` promises."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import warnings
from typing import TYPE_CHECKING

import pytest

from celeriac.errors import EnqueueRejectedError
from celeriac.model import Bury, Done
from celeriac.testing.conformance.stage import (
    BrokerStage,
    Consume,
    batch,
    ids_of,
    keeps_places,
    outgoing,
    result_of,
    skip_unless,
    take,
    take_one,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from celeriac.clock import Clock
    from celeriac.interfaces import Broker, ResultStore
    from celeriac.model import Outgoing

NAMES = ["celery", "köln-☃", "队列", "🥬", "two words", "quo'te\"d", "a:b.c/d\\e", "%_*?[x]", "Q", "q" * 180]


class PublishingTests(BrokerStage):
    async def test_traits_are_constant_and_sensible(self, broker: Broker) -> None:
        traits = broker.traits
        assert traits == broker.traits
        assert traits.name
        assert 1 <= traits.priorities <= 10
        assert traits.max_body >= 64 * 1024
        assert traits.max_batch >= 1
        assert 0 <= traits.time_precision_s <= 5

    async def test_two_adapters_on_one_store_have_one_url_and_one_queue(
        self, broker: Broker, broker_factory: Callable[[], Broker], consume: Consume
    ) -> None:
        other = broker_factory()
        assert other.url == broker.url
        sent = outgoing()
        other.publish([sent])
        assert ids_of(await take(await consume("q"))) == [sent.id]
        other.close()

    async def test_every_field_of_a_message_comes_back(self, broker: Broker, consume: Consume, clock: Clock) -> None:
        sent = outgoing("q", headers=b'{"task":"shop.tidy"}', body=b"[[],{},{}]", priority=broker.traits.priorities - 1)
        before = clock.time()
        broker.publish([sent])
        after = clock.time()
        got = await take_one(await consume("q"))
        assert (got.id, got.queue, got.headers, got.body) == (sent.id, "q", sent.headers, sent.body)
        assert got.priority == sent.priority
        assert got.deliveries == 1
        assert got.enqueued_at is None or before - 1 <= got.enqueued_at <= after + 1

    @pytest.mark.parametrize(
        "content", [b"", b"\x00", b"\xff\xfe not utf-8 \x80", bytes(range(256)) * 3, b"x" * 60_000], ids=len
    )
    async def test_bytes_are_stored_as_they_are(self, broker: Broker, consume: Consume, content: bytes) -> None:
        broker.publish([outgoing(headers=content, body=b"1"), outgoing(headers=b"2", body=content)])
        first, second = await take(await consume("q"))
        assert (first.headers, first.body) == (content, b"1")
        assert (second.headers, second.body) == (b"2", content)

    async def test_queues_and_tasks_may_have_any_name(self, broker: Broker, consume: Consume) -> None:
        sent = [outgoing(name, task=f"task {name}") for name in NAMES]
        broker.publish(sent)
        for name, message in zip(NAMES, sent, strict=True):
            assert broker.depth([name])[name].ready == 1
            assert [peeked.task for peeked in broker.peek(name)] == [message.task]
            got = await take_one(await consume(name))
            assert (got.id, got.queue) == (message.id, name)

    async def test_an_empty_batch_is_nothing(self, broker: Broker) -> None:
        broker.publish([])
        await broker.apublish([])
        assert not broker.peek()

    async def test_a_thousand_at_once_keep_their_order(self, broker: Broker, consume: Consume) -> None:
        sent = batch(1000)
        broker.publish(sent)
        consumer, got = await consume("q"), []
        while taken := await take(consumer, broker.traits.max_batch):
            got += taken
        if broker.traits.ordering == "fifo":
            assert ids_of(got) == ids_of(sent)
        assert sorted(ids_of(got)) == sorted(ids_of(sent))

    async def test_all_of_a_batch_is_stored_or_nothing(self, broker: Broker) -> None:
        if broker.traits.max_body > 256 * 1024 * 1024:
            pytest.skip(f"the engine's traits say max_body={broker.traits.max_body}: too much to try")
        too_large = outgoing(body=bytes(broker.traits.max_body + 1))
        with pytest.raises(EnqueueRejectedError) as refused:
            broker.publish([outgoing(), too_large, outgoing()])
        assert too_large.id in refused.value.task_ids
        assert not broker.peek()

    async def test_apublish_does_the_same(self, broker: Broker, consume: Consume) -> None:
        sent = batch(3)
        await within(broker.apublish(sent))
        if broker.traits.drops_doubles:
            await within(broker.apublish(sent))
        assert sorted(ids_of(await take(await consume("q")))) == sorted(ids_of(sent))

    async def test_a_live_id_is_dropped_and_the_first_stays(self, broker: Broker, consume: Consume) -> None:
        skip_unless(broker.traits.drops_doubles, "dropping of doubles")
        first = outgoing(body=b"first")
        broker.publish([first, outgoing(id=first.id, body=b"second of one batch")])
        broker.publish([outgoing(id=first.id, body=b"of another batch")])
        if broker.traits.spans_queues:
            broker.publish([outgoing("elsewhere", id=first.id)])
        consumer = await consume("q", "elsewhere")
        (got,) = await take(consumer)
        assert (got.queue, got.body) == ("q", b"first")
        broker.publish([outgoing(id=first.id, body=b"while it is held")])
        assert await take(consumer) == []

    async def test_a_delayed_id_is_live(self, broker: Broker, consume: Consume, clock: Clock, span: float) -> None:
        skip_unless(broker.traits.native_delay, "native_delay")
        skip_unless(broker.traits.drops_doubles, "dropping of doubles")
        message = outgoing(not_before=clock.time() + 100 * span)
        broker.publish([message])
        broker.publish([outgoing(id=message.id)])
        assert await take(await consume("q")) == []

    async def test_a_dead_id_is_dropped(self, broker: Broker, consume: Consume) -> None:
        skip_unless(broker.traits.drops_doubles, "dropping of doubles")
        broker.publish([message := outgoing()])
        consumer = await consume("q")
        await consumer.settle([Bury(delivery=await take_one(consumer), reason="why not")])
        broker.publish([message])
        assert await take(consumer) == []
        assert ids_of(broker.dead_letters()) == [message.id]

    @pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
    async def test_an_id_with_a_final_result_is_dropped(
        self, broker: Broker, consume: Consume, results: ResultStore, state: str
    ) -> None:
        broker.publish([message := outgoing(), other := outgoing()])
        consumer = await consume("q")
        for delivery in await take(consumer):
            await consumer.settle([Done(delivery=delivery, result=result_of(delivery.id, state))])
        results.put([result_of(never := outgoing().id, state)])
        broker.publish([message, other, outgoing(id=never)])
        assert await take(consumer) == []

    async def test_an_id_without_a_final_result_is_taken(
        self, broker: Broker, consume: Consume, results: ResultStore
    ) -> None:
        message = outgoing()
        results.put([result_of(message.id, "STARTED")])
        broker.publish([message])
        assert ids_of(await take(await consume("q"))) == [message.id]

    async def test_fifty_threads_publish_at_once(self, broker: Broker, consume: Consume) -> None:
        sent = [batch(8, task=str(thread)) for thread in range(50)]
        start, failures = threading.Barrier(50), []

        def publish(messages: list[Outgoing]) -> None:
            start.wait()
            try:
                for message in messages:
                    broker.publish([message])
            except Exception as exc:  # shown by the assertion below
                failures.append(exc)

        threads = [threading.Thread(target=publish, args=(messages,)) for messages in sent]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert not failures
        consumer, got = await consume("q"), []
        while taken := await take(consumer, min(100, broker.traits.max_batch)):
            got += ids_of(taken)
        assert sorted(got) == sorted(message.id for messages in sent for message in messages)
        if broker.traits.ordering == "fifo":
            for messages in sent:
                mine = set(ids_of(messages))
                assert [each for each in got if each in mine] == ids_of(messages), "a thread's own order is kept"

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
    async def test_a_forked_child_publishes(self, broker: Broker, consume: Consume) -> None:
        broker.publish([before := outgoing()])  # the connection is open when the process forks
        from_child, after = outgoing(), outgoing()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns that other threads are running
            pid = os.fork()
        if pid == 0:  # pragma: no cover - another process
            status = 1
            try:
                signal.alarm(20)
                broker.publish([from_child])
                status = 0 if from_child.id in ids_of(broker.peek("q")) else 2
            finally:
                os._exit(status)
        _, ended = await asyncio.to_thread(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(ended) == 0
        broker.publish([after])
        expected = [before.id, from_child.id, after.id] if broker.traits.cross_process else [before.id, after.id]
        got = ids_of(await take(await consume("q")))
        # where to look is to take and give back, the child has changed the order
        assert got == expected if keeps_places(broker) else sorted(got) == sorted(expected)

    async def test_a_closed_broker_opens_again(self, broker: Broker, broker_factory: Callable[[], Broker]) -> None:
        keeper = broker_factory()  # what is not durable lives as long as somebody has it open
        broker.publish([message := outgoing()])
        broker.close()
        broker.close()
        assert ids_of(broker.peek("q")) == [message.id]
        broker.publish([outgoing()])
        assert broker.depth(["q"])["q"].ready == 2
        keeper.close()

    async def test_what_is_due_already_is_ready_at_once(self, broker: Broker, consume: Consume, clock: Clock) -> None:
        broker.publish([message := outgoing(not_before=clock.time() - 5)])
        assert ids_of(await take(await consume("q"))) == [message.id]
