"""Faults with real processes and real signals: nothing lost, no second lease."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest
from sqlite_stage import consume, eventually, outgoing

from celeriac.brokers.sqlite import SqliteBroker
from celeriac.brokers.sqlite.broker import _is_over
from celeriac.clock import boot_id
from celeriac.errors import LeaseLostError
from celeriac.model import Bury, Done, Later, Release, Settled, StoredResult
from celeriac.storage.sqlite import processes

PUBLISHER = """
import sys
from celeriac.brokers.sqlite import SqliteBroker
from celeriac.model import Outgoing, new_task_id
broker = SqliteBroker(sys.argv[1])
while True:
    batch = [Outgoing(id=new_task_id(), task="t", queue="q", headers=b"{}", body=b"[]") for _ in range(3)]
    broker.publish(batch)
    print(" ".join(each.id for each in batch), flush=True)
"""

HOLDER = """
import asyncio, sys
from celeriac.brokers.sqlite import SqliteBroker
from celeriac.model import new_incarnation
async def main():
    broker = SqliteBroker(sys.argv[1])
    incarnation = new_incarnation()
    consumer = await broker.open_consumer(["q"], incarnation=incarnation, lease_s=3600)
    held = await consumer.claim(limit=2, wait_s=20)
    print(incarnation, *[each.id for each in held], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""

DRAINER = """
import asyncio, sys
from celeriac.brokers.sqlite import SqliteBroker
from celeriac.model import Done, Settled, StoredResult, new_incarnation
async def main():
    broker = SqliteBroker(sys.argv[1])
    consumer = await broker.open_consumer(["q"], incarnation=new_incarnation(), lease_s=60)
    while taken := await consumer.claim(limit=7, wait_s=0.5):
        outcomes = [Done(delivery=each, result=StoredResult(id=each.id, state="SUCCESS", payload=b"{}"))
                    for each in taken]
        assert set(await consumer.settle(outcomes)) == {Settled.OK}
        print(*[each.id for each in taken], flush=True)
    await consumer.close()
    broker.close()
asyncio.run(main())
"""

FILLER = """
import resource, sys
from celeriac.brokers.sqlite import SqliteBroker
from celeriac.errors import EnqueueRejectedError
from celeriac.model import Outgoing, new_task_id
broker = SqliteBroker(sys.argv[1])
def message():
    return Outgoing(id=new_task_id(), task="t", queue="q", headers=b"{}", body=bytes(20_000))
stored = []
def publish():
    batch = [message(), message()]
    broker.publish(batch)
    stored.extend(each.id for each in batch)
publish()
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
try:
    for _ in range(100):
        publish()
except EnqueueRejectedError as exc:
    assert len(exc.task_ids) == 2, exc
    print("rejected", flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
publish()
print(*stored, flush=True)
"""


REFUSED = """
import gc, os, resource, sys
from celeriac.brokers.sqlite import SqliteBroker
from celeriac.errors import EnqueueRejectedError
from celeriac.model import Outgoing, new_task_id
broker = SqliteBroker(sys.argv[1])
def publish():
    broker.publish([Outgoing(id=new_task_id(), task="t", queue="q", headers=b"{}", body=bytes(99_000)) for _ in "ab"])
publish()
gc.disable()
print(len(os.listdir("/proc/self/fd")))
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
refused = 0
while refused < 50:
    try:
        publish()
    except EnqueueRejectedError:
        refused += 1
print(len(os.listdir("/proc/self/fd")))
"""


@pytest.mark.processes
async def test_what_a_killed_producer_was_told_is_there(broker, url, run_python):
    process = run_python(PUBLISHER, url)
    told: list[str] = []
    for _ in range(30):
        told += (await asyncio.to_thread(process.stdout.readline)).split()
    process.send_signal(signal.SIGKILL)
    told += [task_id for line in process.communicate()[0].splitlines() for task_id in line.split()]
    there = {each.id for each in broker.peek(limit=1_000_000)}
    whole = {task_id for task_id in told if len(task_id) == 36}
    assert whole <= there
    assert len(there) % 3 == 0, "a batch is stored whole or not at all"
    assert broker.check().problems == ()


@pytest.mark.processes
async def test_two_processes_share_a_file_without_a_double_lease(broker, store, url, run_python):
    sent = [outgoing() for _ in range(2000)]
    broker.publish(sent)
    drainers = [run_python(DRAINER, url) for _ in range(2)]
    outputs = [await asyncio.to_thread(each.communicate, None, 60) for each in drainers]
    assert [each.returncode for each in drainers] == [0, 0], outputs
    got = " ".join(out for out, _ in outputs).split()
    assert sorted(got) == sorted(each.id for each in sent)
    assert len(store.get([each.id for each in sent])) == 2000
    assert not broker.depth()


@pytest.mark.processes
async def test_a_killed_workers_messages_are_back_after_one_scan(broker, url, run_python):
    sent = [outgoing(), outgoing(), outgoing()]
    broker.publish(sent)
    process = run_python(HOLDER, url)
    _, *held = (await asyncio.to_thread(process.stdout.readline)).split()
    assert held == [each.id for each in sent[:2]]
    assert await broker.reap(limit=10) == 0, "it lives"
    process.kill()
    process.wait()
    assert await broker.reap(limit=10) == 2
    consumer = await consume(broker)
    taken = await consumer.claim(limit=10, wait_s=0)
    assert [(each.id, each.deliveries) for each in taken] == [
        (sent[0].id, 2),
        (sent[1].id, 2),
        (sent[2].id, 1),
    ]
    await consumer.close()


@pytest.mark.processes
async def test_a_dead_process_with_a_living_guardian_is_left_to_him(broker, url, run_python):
    broker.publish([message := outgoing()])
    process = run_python(HOLDER, url)
    incarnation, held = (await asyncio.to_thread(process.stdout.readline)).split()
    assert held == message.id
    assert await broker.beat([incarnation]) == frozenset()  # this process is the guardian from now on
    process.kill()
    process.wait()
    assert await broker.reap(limit=10) == 0
    heir = await consume(broker, lease_s=60)
    (delivery,) = await heir.adopt(incarnation, [message.id])
    assert await broker.abandon(incarnation, running=[message.id]) == 0
    assert await heir.settle([Done(delivery=delivery)]) == [Settled.OK]
    await heir.close()


@pytest.mark.processes
async def test_a_stopped_worker_is_reaped_by_time_and_refused_afterwards(broker, url, run_python):
    broker.publish([outgoing()])
    process = run_python(HOLDER, url)
    incarnation, _ = (await asyncio.to_thread(process.stdout.readline)).split()
    process.send_signal(signal.SIGSTOP)
    broker._database.run(
        "age", lambda link: link.execute("UPDATE incarnation SET expires = 0 WHERE id = ?", (incarnation,))
    )
    assert await broker.reap(limit=1) == 1
    assert await broker.beat([incarnation]) == {incarnation}
    process.send_signal(signal.SIGCONT)


def test_when_a_lease_is_over():
    space, pid, start = processes.pid_space(), os.getpid(), processes.own_start()
    assert space
    assert start

    def is_over(**change):
        row = {
            "handle": 1,
            "lease_s": 30.0,
            "expires": 1030.0,
            "boot": boot_id(),
            "pid_space": space,
            "pid": pid,
            "pid_start": start,
            "guardian": None,
            "guardian_start": None,
            **change,
        }
        return _is_over(tuple(row.values()), 1000.0)

    assert not is_over()
    assert is_over(expires=1000.0)
    assert is_over(boot="another boot")
    assert is_over(expires=5000.0), "from the future: another boot of a host that tells no boot id"
    assert is_over(pid_start=start - 1), "the pid was used again"
    assert not is_over(pid_start=start - 1, pid_space=space + 1), "pids of another namespace prove nothing"
    assert not is_over(pid_start=start - 1, guardian=pid, guardian_start=start)
    assert is_over(pid_start=start - 1, guardian=pid, guardian_start=start - 1)


@pytest.mark.processes
def test_a_full_disk_rejects_and_loses_nothing(url, run_python, broker):
    process = run_python(FILLER, url)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    first, second = out.splitlines()
    assert first == "rejected"
    assert {each.id for each in broker.peek(limit=1000)} == set(second.split())
    assert broker.check().problems == ()


@pytest.mark.processes
def test_what_a_full_disk_refuses_leaves_no_file_open(url, run_python):
    """F10: a producer had 42 files open after five seconds of a full disk, and more with each publish."""
    process = run_python(REFUSED, url)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    before, after = map(int, out.split())
    assert after <= before + 3


def test_three_hundred_threads_publish(broker):
    start, failures = threading.Barrier(300), []
    sent = [[outgoing(), outgoing()] for _ in range(300)]

    def publish(messages):
        start.wait()
        try:
            for message in messages:
                broker.publish([message])
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=publish, args=(messages,)) for messages in sent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert broker.depth()["q"].ready == 600


def test_one_threads_bad_message_is_its_own_affair(broker):
    from celeriac.errors import EnqueueRejectedError

    with pytest.raises(EnqueueRejectedError, match="no valid text"):
        broker.publish([outgoing(), outgoing("bad \udcff")])
    broker.publish([outgoing("größe")])
    assert list(broker.depth()) == ["größe"]


async def test_a_tag_is_never_valid_twice(broker):
    consumer = await consume(broker)
    broker.publish([outgoing()])
    (old,) = await consumer.claim(limit=1, wait_s=0)
    assert await consumer.settle([Done(delivery=old)]) == [Settled.OK]
    broker.publish([message := outgoing()])  # may take the number of the row that is gone
    (new,) = await consumer.claim(limit=1, wait_s=0)
    for stale in (Done(delivery=old), Release(delivery=old), Bury(delivery=old, reason="x")):
        assert await consumer.settle([stale]) == [Settled.LEASE_LOST]
    assert await consumer.settle([Later(delivery=old, message=message)]) == [Settled.LEASE_LOST]
    assert await consumer.settle([Release(delivery=new)]) == [Settled.OK]
    (again,) = await consumer.claim(limit=1, wait_s=0)
    assert await consumer.settle([Done(delivery=new)]) == [Settled.LEASE_LOST]
    assert await consumer.settle([Done(delivery=again)]) == [Settled.OK]
    await consumer.close()


async def test_claims_are_numbered_anew_when_numbers_run_out(broker, monkeypatch):
    monkeypatch.setattr("celeriac.brokers.sqlite.ledger.CLAIM_MASK", 3)
    consumer = await consume(broker)
    broker.publish([outgoing() for _ in range(9)])
    (kept,) = await consumer.claim(limit=1, wait_s=0)
    for _ in range(8):
        (delivery,) = await consumer.claim(limit=1, wait_s=0)
        assert delivery.id != kept.id
        assert await consumer.settle([Done(delivery=delivery)]) == [Settled.OK]
    assert await consumer.settle([Done(delivery=kept)]) == [Settled.OK]
    await consumer.close()


async def test_too_much_for_one_value_is_read_row_by_row(broker):
    import sqlite3

    consumer = await consume(broker)
    sent = [outgoing(body=bytes([number]) * 30_000, priority=number % 3) for number in range(20)]
    broker.publish(sent)
    (first,) = await consumer.claim(limit=1, wait_s=0)
    consumer._ledger._link.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    got = [first, *await consumer.claim(limit=100, wait_s=0)]
    expected = sorted(sent, key=lambda message: -message.priority)
    assert [(each.id, each.body) for each in got] == [(each.id, each.body) for each in expected]
    assert set(await consumer.settle([Done(delivery=each) for each in got])) == {Settled.OK}
    await consumer.close()


async def test_a_claim_brings_no_more_than_fits(broker, monkeypatch):
    monkeypatch.setattr("celeriac.brokers.sqlite.ledger._CONTENT_BYTES", 200_000)
    consumer = await consume(broker)
    broker.publish([outgoing(body=bytes(50_000)) for _ in range(40)])
    sizes = []
    while taken := await consumer.claim(limit=10, wait_s=0):
        sizes.append(len(taken))
    assert sum(sizes) == 40
    assert max(sizes[8:], default=0) <= 5
    await consumer.close()


async def test_a_lock_in_the_way_is_waited_for_in_the_lane(broker, path):
    import sqlite3

    consumer = await consume(broker)
    broker.publish([outgoing()])
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    claim = asyncio.ensure_future(consumer.claim(limit=1, wait_s=0))
    beats = 0
    while beats < 5:  # the loop goes on meanwhile
        await asyncio.sleep(0)
        beats += 1
    assert not claim.done()
    other.execute("ROLLBACK")
    (delivery,) = await asyncio.wait_for(claim, 20)
    assert await consumer.settle([Done(delivery=delivery)]) == [Settled.OK]
    other.close()
    await consumer.close()


async def test_a_cancelled_claim_gives_back_what_it_took(broker, path):
    import sqlite3

    consumer = await consume(broker)
    broker.publish([message := outgoing()])
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    claim = asyncio.ensure_future(consumer.claim(limit=1, wait_s=0))
    await asyncio.sleep(0)
    claim.cancel()
    other.execute("ROLLBACK")
    with pytest.raises(asyncio.CancelledError):
        await claim
    (peeked,) = broker.peek(ids=[message.id])
    assert (peeked.state, peeked.deliveries) == ("ready", 0)
    other.close()
    await consumer.close()


async def test_after_close_nothing_is_held(broker):
    consumer = await consume(broker)
    broker.publish([outgoing()])
    (delivery,) = await consumer.claim(limit=1, wait_s=0)
    waiting = asyncio.ensure_future(consumer.claim(limit=1, wait_s=20))
    await asyncio.sleep(0)
    await consumer.close()
    assert list(await asyncio.wait_for(waiting, 20)) == []
    assert await consumer.settle([Done(delivery=delivery)]) == [Settled.LEASE_LOST]
    with pytest.raises(LeaseLostError, match="closed"):
        await consumer.claim(limit=1, wait_s=0)
    assert broker.depth()["q"].ready == 1


async def test_an_incarnation_enters_once(broker):
    consumer = await consume(broker)
    with pytest.raises(ValueError, match="consumes already"):
        await broker.open_consumer(["q"], incarnation=consumer.incarnation, lease_s=1)
    await consumer.close()


async def test_a_result_wakes_a_waiter_in_another_thread(broker, store):
    consumer = await consume(broker)
    broker.publish([message := outgoing()])
    (delivery,) = await consumer.claim(limit=1, wait_s=0)
    waiting = asyncio.ensure_future(asyncio.to_thread(store.wait, [message.id], timeout_s=20))
    await asyncio.to_thread(eventually, lambda: store._listener._waiters, "it waits")
    result = StoredResult(id=message.id, state="SUCCESS", payload=b'{ "spaced" : 1.0 }', expires_at=None)
    await consumer.settle([Done(delivery=delivery, result=result)])
    assert await waiting == {message.id: result}
    await consumer.close()


async def test_listening_ends_with_close(store):
    assert store.wait(["x"], timeout_s=0.01) == {}
    store.close()
    assert not [each for each in threading.enumerate() if each.name == "celeriac-sqlite-results"]
    assert store.wait(["x"], timeout_s=0.01) == {}


def test_many_ids_expire_in_pieces(store):
    store.put([StoredResult(id=f"{n}", state="SUCCESS", payload=b"", expires_at=1.0) for n in range(2500)])
    assert store.expire(limit=2200) == 2200
    assert store.expire(limit=2200) == 300
    assert broker_is_empty(store)


def broker_is_empty(store) -> bool:
    return store.check().results == 0


async def test_reap_forgets_old_cancellations(url):
    from celeriac.model import Cancellation
    from celeriac.testing import ManualClock

    clock = ManualClock()
    broker = SqliteBroker(url, clock=clock)
    broker.publish([late := outgoing(not_before=clock.time() + 10 * 86_400)])
    broker.cancel([Cancellation(id="soon"), Cancellation(id=late.id)])
    clock.advance(2 * 86_400)
    await broker.reap(limit=1)
    consumer = await consume(broker)
    assert [each.id for each in await consumer.cancelled(["soon", late.id])] == [late.id], "kept past its due time"
    left = broker._database.run("read", lambda link: link.execute("SELECT id FROM cancellation").fetchall())
    assert left == [(late.id,)]
    await consumer.close()
    broker.close()
