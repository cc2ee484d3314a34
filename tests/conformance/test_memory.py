"""What is the memory adapters' own: named spaces, waits on a clock moved by hand, control within the process."""

from __future__ import annotations

import asyncio
import gc

import pytest

from celeriac.brokers.memory import MemoryBroker, MemoryControl
from celeriac.errors import ConfigError
from celeriac.model import Admission, Done, Outgoing, StoredResult, Unique, new_incarnation, new_task_id
from celeriac.probe import Probe
from celeriac.results.memory import MemoryResultStore


@pytest.fixture
def url():
    return f"memory://{new_task_id()}"


def message(queue="q", **fields):
    return Outgoing(**{"id": new_task_id(), "task": "t", "queue": queue, "headers": b"{}", "body": b"", **fields})


def test_a_name_is_a_space(url):
    broker, same, other = MemoryBroker(url), MemoryBroker(url), MemoryBroker(f"{url}-2")
    broker.publish([message()])
    assert same.depth()["q"].ready == 1
    assert not other.depth()


def test_a_space_ends_with_its_last_adapter(url):
    broker, results = MemoryBroker(url), MemoryResultStore(url)
    broker.publish([message()])
    del broker
    gc.collect()
    assert MemoryBroker(url).depth()["q"].ready == 1, "the result store keeps it"
    del results
    gc.collect()
    assert not MemoryBroker(url).depth()


@pytest.mark.parametrize("bad", ["sqlite:///x.db", "memory://a/b", "memory:///some/file", "memory://a?x=1", "nonsense"])
def test_another_kind_of_url_is_refused(bad):
    for kind in (MemoryBroker, MemoryResultStore, MemoryControl):
        with pytest.raises(ConfigError, match="expected 'memory://'"):
            kind(bad)


async def test_settling_reaches_the_result_store_of_the_same_url(url):
    broker, results = MemoryBroker(url), MemoryResultStore(url)
    broker.publish([sent := message()])
    consumer = await broker.open_consumer(["q"], incarnation=new_incarnation(), lease_s=30)
    (delivery,) = await consumer.claim(limit=1, wait_s=0)
    waiting = asyncio.create_task(results.await_final([sent.id], timeout_s=60))
    await asyncio.sleep(0)
    final = StoredResult(id=sent.id, state="SUCCESS", payload=b"1")
    await consumer.settle([Done(delivery=delivery, result=final)])
    assert await asyncio.wait_for(waiting, 10) == {sent.id: final}


async def test_a_wait_is_measured_by_the_clock(url, clock):
    probe = Probe()
    broker = MemoryBroker(url, clock=clock, probe=probe)
    consumer = await broker.open_consumer(["q"], incarnation=new_incarnation(), lease_s=30)
    claim = asyncio.create_task(consumer.claim(limit=1, wait_s=60))
    await asyncio.to_thread(probe.wait, "waiting")
    await asyncio.to_thread(clock.wait_for_sleepers)
    for _ in range(12):
        assert not claim.done()
        clock.advance(5)
        await asyncio.wait((claim,), timeout=0.01)
    async with asyncio.timeout(10):
        assert await claim == []


async def test_a_wall_clock_set_forward_is_noticed(url, clock):
    broker = MemoryBroker(url, clock=clock)
    broker.publish([sent := message(not_before=clock.time() + 3600)])
    consumer = await broker.open_consumer(["q"], incarnation=new_incarnation(), lease_s=30)
    claim = asyncio.create_task(consumer.claim(limit=1, wait_s=60))
    await asyncio.to_thread(clock.wait_for_sleepers)
    clock.step(3600)
    clock.advance(5)
    async with asyncio.timeout(10):
        assert [each.id for each in await claim] == [sent.id]


async def test_an_incarnation_is_used_once(url):
    broker, incarnation = MemoryBroker(url), new_incarnation()
    await broker.open_consumer(["q"], incarnation=incarnation, lease_s=30)
    with pytest.raises(ValueError, match=incarnation):
        await broker.open_consumer(["q"], incarnation=incarnation, lease_s=30)


async def test_waiters_and_messages_leave_nothing_behind(url):
    broker, results = MemoryBroker(url), MemoryResultStore(url)
    consumer = await broker.open_consumer(["q"], incarnation=new_incarnation(), lease_s=30)
    assert await consumer.claim(limit=1, wait_s=0.01) == []
    assert await results.await_final(["x"], timeout_s=0.01) == {}
    assert results.wait(["x"], timeout_s=0.01) == {}
    broker.publish([message() for _ in range(10)])
    await consumer.settle([Done(delivery=each) for each in await consumer.claim(limit=10, wait_s=0)])
    queues = broker._queues
    assert not queues._waiters
    assert not results._results._waiters
    assert not queues.entries
    assert not any(heap for lane in queues.ready.values() for heap in lane)
    assert not queues.holders[consumer.incarnation].held


async def test_limited_and_unique_ones_leave_nothing_behind_and_stand_in_nobodys_way(url, clock):
    broker = MemoryBroker(url, clock=clock)
    consumer = await broker.open_consumer(["q"], incarnation=new_incarnation(), lease_s=3600)
    one = Admission(key="one", concurrency=1)
    broker.publish([message(limit=one) for _ in range(5000)])
    broker.publish(
        [message(limit=Admission(key=f"k{n}", interval_s=5.0), unique=Unique(key=f"u{n}", ttl_s=9)) for n in range(9)]
    )
    queues = broker._queues
    assert sum(len(heap) for heap in queues.ready["q"]) == 10, "the heads of lines, not the lines"
    ended = 0
    while taken := await consumer.claim(limit=100, wait_s=0):
        ended += len(taken)
        await consumer.settle([Done(delivery=each) for each in taken])
    assert ended == 5009
    assert not queues.locks
    assert len(queues.gates) == 9, "their pace is not forgotten yet"
    clock.advance(5)
    await broker.reap(limit=9)
    assert not queues.gates
    assert not queues.agenda
    assert not any(heap for lane in queues.ready.values() for heap in lane)


# -- control ------------------------------------------------------------------------------------------------------


async def echo(method, arguments):
    return {"method": method, "arguments": arguments}


async def call(control, *args, **options):
    return await asyncio.to_thread(control.call, *args, **options)


async def test_everybody_answers(url):
    control = MemoryControl(url)
    servers = [await MemoryControl(url).serve(node, echo) for node in ("celery@a", "celery@b")]
    expected = {"method": "ping", "arguments": {"x": [1, None]}}
    assert await call(control, "ping", {"x": [1, None]}, timeout_s=10) == {"celery@a": expected, "celery@b": expected}
    assert set(await call(control, "ping", destination=["celery@b", "celery@c"], timeout_s=10)) == {"celery@b"}
    await servers[0].close()
    await servers[0].close()
    assert set(await call(control, "ping", timeout_s=10)) == {"celery@b"}
    await servers[1].close()
    assert await call(control, "ping", timeout_s=10) == {}


async def test_what_a_handler_raises_is_its_answer(url):
    async def fail(method, arguments):
        raise KeyError("no such task")

    async def unspeakable(method, arguments):
        return object()

    control = MemoryControl(url)
    first, second = await control.serve("a", fail), await control.serve("b", unspeakable)
    answers = await call(control, "x", timeout_s=10)
    assert answers["a"] == {"error": "'no such task'"}
    assert "object" in answers["b"]["error"]
    await first.close()
    await second.close()


async def test_the_silent_are_waited_for_no_longer_than_asked(url):
    started, never = asyncio.Event(), asyncio.Event()

    async def hang(method, arguments):
        started.set()
        await never.wait()

    control = MemoryControl(url)
    hanging, quick = await control.serve("a", hang), await control.serve("b", echo)
    assert set(await call(control, "x", timeout_s=0.1)) == {"b"}
    assert await call(control, "x", timeout_s=0.0, reply=False) == {}
    asked = asyncio.create_task(call(control, "x", timeout_s=60))
    await asyncio.wait_for(started.wait(), 10)
    while len(hanging._answering) < 3:
        await asyncio.sleep(0)
    await hanging.close()  # who leaves is not waited for
    assert set(await asyncio.wait_for(asked, 10)) == {"b"}
    await quick.close()


async def test_a_worker_whose_loop_is_gone_is_passed_over(url):
    control = MemoryControl(url)

    def vanish():
        loop = asyncio.new_event_loop()
        loop.run_until_complete(control.serve("gone", echo))
        loop.close()

    await asyncio.to_thread(vanish)
    here = await control.serve("here", echo)
    assert set(await call(control, "x", timeout_s=60)) == {"here"}
    await here.close()
