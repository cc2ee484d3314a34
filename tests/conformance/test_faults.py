"""The faulty broker fails as planned, and is a whole broker where the plan is empty."""

from __future__ import annotations

import asyncio

import pytest
from engines_under_test import fresh_url, open_broker, open_results

from celeriac.errors import BrokerUnavailableError, EnqueueUnknownError
from celeriac.model import Done, Outgoing, Settled, Tick, new_incarnation, new_task_id
from celeriac.testing import Fault, FaultyBroker, ManualClock, Script, SeededPlan
from celeriac.testing.conformance import BrokerSuite


class TestAnEmptyPlan(BrokerSuite):
    @pytest.fixture
    def url(self, tmp_path):
        return fresh_url("memory", tmp_path)

    @pytest.fixture
    def broker_factory(self, url, clock):
        return lambda: FaultyBroker(open_broker(url, clock), Script({}))

    @pytest.fixture
    def result_store_factory(self, url, clock):
        return lambda: open_results(url, clock)


@pytest.fixture
def broker(tmp_path):
    return open_broker(fresh_url("memory", tmp_path), ManualClock())


def message():
    return Outgoing(id=new_task_id(), task="t", queue="q", headers=b"{}", body=b"")


def test_before_it_took_effect(broker):
    plan = Script({"publish": [None, Fault()]})
    faulty = FaultyBroker(broker, plan)
    faulty.publish([message()])
    assert not plan.is_spent
    with pytest.raises(BrokerUnavailableError, match="publish failed before"):
        faulty.publish([message()])
    assert plan.is_spent
    faulty.publish([message()])
    assert broker.depth()["q"].ready == 2


def test_the_answer_to_a_publish_is_lost(broker):
    faulty = FaultyBroker(broker, Script({"publish": [Fault(when="after")]}))
    sent = message()
    with pytest.raises(EnqueueUnknownError) as lost:
        faulty.publish([sent])
    assert lost.value.task_ids == (sent.id,)
    faulty.publish([sent])
    assert broker.depth()["q"].ready == 1


async def test_the_answer_to_a_settlement_is_lost(broker):
    faulty = FaultyBroker(broker, Script({"consumer.settle": [Fault(when="after"), Fault(error=OSError("cable"))]}))
    faulty.publish([message()])
    consumer = await faulty.open_consumer(["q"], incarnation=new_incarnation(), lease_s=30)
    outcomes = [Done(delivery=each) for each in await consumer.claim(limit=1, wait_s=0)]
    with pytest.raises(BrokerUnavailableError, match="answer was lost"):
        await consumer.settle(outcomes)
    with pytest.raises(OSError, match="cable"):
        await consumer.settle(outcomes)
    assert await consumer.settle(outcomes) == [Settled.LEASE_LOST]
    assert not broker.peek()


async def test_a_delay_is_slept_on_the_clock(broker):
    clock = ManualClock()
    slow = {"apublish": [Fault(when="never", delay_s=5)], "publish": [Fault(when="never", delay_s=5)]}
    faulty = FaultyBroker(broker, Script(slow), clock=clock)
    for work in (faulty.apublish([message()]), asyncio.to_thread(faulty.publish, [message()])):
        before = len(broker.peek())
        hanging = asyncio.ensure_future(work)
        await asyncio.to_thread(clock.wait_for_sleepers)
        clock.advance(4)
        assert not hanging.done()
        assert len(broker.peek()) == before
        clock.advance(1)
        await asyncio.wait_for(hanging, 10)
        assert len(broker.peek()) == before + 1


def test_a_seed_is_a_plan():
    def planned(seed):
        plan = SeededPlan(seed, rate=0.3, methods=["publish", "consumer.settle"], max_delay_s=2)
        return [plan.next(method) for _ in range(200) for method in ("publish", "depth", "consumer.settle")]

    faults = planned(7)
    assert faults == planned(7) != planned(8)
    assert all(fault is None for fault in faults[1::3])
    found = [fault for fault in faults if fault is not None]
    assert 60 < len(found) < 180
    assert {fault.when for fault in found} == {"before", "after"}
    assert all(0 <= fault.delay_s <= 2 for fault in found)


async def test_nothing_is_lost_or_doubled_under_faults(broker):
    """The contract's own recipe: repeat what is unknown, reap what is cut off."""
    plan = SeededPlan(3, rate=0.3)
    faulty = FaultyBroker(broker, plan)
    sent = [message() for _ in range(100)]
    for each in sent:
        while True:
            try:
                faulty.publish([each])
                break
            except (BrokerUnavailableError, EnqueueUnknownError):
                continue
    assert sorted(each.id for each in broker.peek(limit=1000)) == sorted(each.id for each in sent)
    ended = 0
    while broker.peek():
        incarnation = new_incarnation()
        try:
            consumer = await faulty.open_consumer(["q"], incarnation=incarnation, lease_s=30)
            while taken := await consumer.claim(limit=5, wait_s=0):
                outcomes = [Done(delivery=each) for each in taken]
                before = len(broker.peek(limit=1000))
                try:
                    await consumer.settle(outcomes)
                finally:
                    ended += before - len(broker.peek(limit=1000))
        except BrokerUnavailableError:
            await broker.abandon(incarnation, running=())
    assert ended == len(sent)


def test_the_answer_to_a_tick_is_lost(broker):
    plan = Script({"schedules.tick": [Fault(), Fault(when="after")]})
    schedules = FaultyBroker(broker, plan).schedules("shop")
    sent = message()
    tick = Tick(name="e", queue="q", after=0, at=1, message=sent)
    for count in (0, 1):
        with pytest.raises(BrokerUnavailableError, match="planned fault"):
            schedules.tick([tick])
        assert len(broker.peek()) == count
    (again,) = schedules.tick([tick])
    assert (again.verdict, again.mark.task_id) == ("lost", sent.id)
    assert plan.is_spent
    assert len(broker.peek()) == 1
