"""Schedules in the file: cheap looks, one step with the message whatever happens, there after an upgrade."""

from __future__ import annotations

import asyncio
import re
import signal
import sqlite3

import pytest
from sqlite_stage import consume, eventually, outgoing

from celeriac.brokers.sqlite import SqliteBroker
from celeriac.brokers.sqlite.schedules import SQL
from celeriac.errors import BrokerUnavailableError
from celeriac.model import Admission, BeatInfo, Cancellation, Done, ScheduleRow, StoredResult, Tick
from celeriac.storage.sqlite import Database, schema

BEAT = """
import sys
from celeriac.brokers.sqlite import SqliteBroker
from celeriac.model import Outgoing, Tick, new_task_id
broker = SqliteBroker(sys.argv[1])
store, most = broker.schedules("shop"), int(sys.argv[2])
names = [f"entry {number}" for number in range(3)]
stood = dict.fromkeys(names, 0)
print("ready", flush=True)
sys.stdin.readline()
while min(stood.values()) < most:
    ticks = [
        Tick(name=name, queue="q", after=at, at=at + step, message=Outgoing(
            id=new_task_id(), task="t", queue="q", headers=b"{}", body=f"{name}@{at + step}".encode()))
        for name, at in stood.items() for step in (1,) if at < most
    ]
    for tick, answer in zip(ticks, store.tick(ticks)):
        stood[tick.name] = answer.mark.at
print("done", flush=True)
"""

FILLER = """
import resource, sys
from celeriac.brokers.sqlite import SqliteBroker
from celeriac.errors import EnqueueRejectedError
from celeriac.model import Outgoing, Tick, new_task_id
store = SqliteBroker(sys.argv[1]).schedules("shop")
at = 0
def tick():
    global at
    message = Outgoing(id=f"{at + 1}", task="t", queue="q", headers=b"{}", body=bytes(40_000))
    (answer,) = store.tick([Tick(name="e", queue="q", after=at, at=at + 1, message=message)])
    assert answer.verdict == "fired", answer
    at += 1
tick()
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
try:
    for _ in range(100):
        tick()
except EnqueueRejectedError as exc:
    assert exc.task_ids == (f"{at + 1}",), exc
    print("rejected", flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
tick()
print(at, flush=True)
"""


def tick(after=0, at=1, message=None, name="e", **fields):
    return Tick(name=name, queue="q", after=after, at=at, message=message, **fields)


@pytest.fixture
def schedules(broker):
    return broker.schedules("shop")


@pytest.fixture
def other(path):
    """A connection of another program."""
    link = sqlite3.connect(path, isolation_level=None)
    yield link
    link.close()


def test_who_looks_waits_for_no_writer(schedules, other):
    schedules.tick([tick()])
    row = schedules.put(ScheduleRow(name="e"), expected=0)
    other.execute("BEGIN IMMEDIATE")
    assert schedules.look().rows == (row,)
    assert schedules.look(row.revision).rows == ()
    assert [mark.at for mark in schedules.marks([("e", "q")])] == [1]
    assert list(schedules.beats()) == []
    other.execute("ROLLBACK")


def test_a_look_writes_nothing(schedules, other):
    schedules.put(ScheduleRow(name="e"), expected=0)
    before = other.execute("PRAGMA data_version").fetchone()
    for revision in (0, 1):
        schedules.look(revision)
    schedules.marks([("e", "q")])
    assert other.execute("PRAGMA data_version").fetchone() == before
    schedules.tick([tick()])
    assert other.execute("PRAGMA data_version").fetchone() != before


def test_who_ticks_waits_for_a_writer_in_bounds(url, path, other):
    broker = SqliteBroker(url, timeout_s=0.2)
    schedules = broker.schedules("shop")
    schedules.tick([tick()])
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BrokerUnavailableError, match=r"tick the schedules of .*locked"):
        schedules.tick([tick(1, 2, outgoing())])
    other.execute("ROLLBACK")
    assert [mark.at for mark in schedules.marks([("e", "q")])] == [1]
    assert schedules.tick([tick(1, 2, outgoing())])[0].verdict == "fired"
    broker.close()


def test_statements_walk_indexes(url):
    database = Database(url)
    for name, statement in SQL.items():
        rows = database.run(
            "explain",
            lambda link, sql=statement: link.execute(
                f"EXPLAIN QUERY PLAN {sql}", ("[]",) * len({*re.findall(r"\?\d+", sql)})
            ).fetchall(),
        )
        steps = [row[3] for row in rows]
        wasteful = [step for step in steps if re.search("SCAN (?!e VIRTUAL|json_each VIRTUAL)|TEMP B-TREE", step)]
        assert not [step for step in wasteful if step != "SCAN CONSTANT ROW"], f"{name}: {steps}"
    database.close()


def test_many_ticks_take_several_transactions(schedules, broker, monkeypatch):
    """A write lock is not held for all of them; what has happened stays when a later one fails."""
    monkeypatch.setattr("celeriac.brokers.sqlite.schedules._TICKS_AT_ONCE", 10)
    ticks = [tick(name=f"e{number}", message=outgoing()) for number in range(25)]
    moved, whole = [], schedules._tick

    def fail_at_last(some):
        if len(moved) == 2:
            raise BrokerUnavailableError("the disk is gone")
        moved.append(len(some))
        return whole(some)

    monkeypatch.setattr(schedules, "_tick", fail_at_last)
    with pytest.raises(BrokerUnavailableError, match="gone"):
        schedules.tick(ticks)
    monkeypatch.undo()
    assert moved == [10, 10]
    assert broker.depth()["q"].ready == 20
    again = schedules.tick(ticks)
    assert [each.verdict for each in again] == ["lost"] * 20 + ["fired"] * 5
    assert [each.mark.task_id for each in again] == [each.message.id for each in ticks]
    assert broker.depth()["q"].ready == 25


@pytest.mark.parametrize("limit", [None, Admission(key="k", concurrency=1)])
def test_a_cancelled_message_does_not_come(schedules, broker, store, limit):
    """As by `publish`: what came with the order is stored."""
    message = outgoing(limit=limit)
    result = StoredResult(id=message.id, state="REVOKED", payload=b"{}")
    broker.cancel([Cancellation(id=message.id, result=result)])
    assert schedules.tick([tick(message=message)])[0].verdict == "fired"
    assert not broker.peek()
    assert store.get([message.id]) == {message.id: result}


@pytest.mark.processes
async def test_beats_that_race_and_die_publish_each_instant_once(broker, url, run_python):
    schedules, most = broker.schedules("shop"), 400
    beats = [run_python(BEAT, url, most) for _ in range(3)]
    for beat in beats:
        assert (await asyncio.to_thread(beat.stdout.readline)) == "ready\n"
    for beat in beats:
        beat.stdin.write("\n")
        beat.stdin.flush()
    entries = [(f"entry {number}", "q") for number in range(3)]

    def is_under_way():
        marks = schedules.marks(entries)
        return None not in marks and min(mark.at for mark in marks) > most // 4

    await asyncio.to_thread(eventually, is_under_way, "they are under way")
    beats[0].send_signal(signal.SIGKILL)
    outputs = [await asyncio.to_thread(beat.communicate, None, 60) for beat in beats[1:]]
    assert [out for out, _ in outputs] == ["done\n"] * 2, outputs
    assert [(mark.at, mark.runs) for mark in schedules.marks(entries)] == [(most, most)] * 3
    consumer, got = await consume(broker), []
    while taken := await consumer.claim(limit=500, wait_s=0):
        got += [each.body.decode() for each in taken]
        await consumer.settle([Done(delivery=each) for each in taken])
    assert sorted(got) == sorted(f"{name}@{at}" for name, _ in entries for at in range(1, most + 1))
    await consumer.close()


@pytest.mark.processes
def test_a_full_disk_moves_no_mark_without_its_message(broker, url, run_python):
    process = run_python(FILLER, url)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    rejected, at = out.split()
    assert rejected == "rejected"
    (mark,) = broker.schedules("shop").marks([("e", "q")])
    assert (mark.at, mark.runs, mark.task_id) == (int(at), int(at), at)
    assert sorted(int(each.id) for each in broker.peek(limit=1000)) == list(range(1, int(at) + 1))
    assert broker.check().problems == ()


def test_a_beat_of_another_boot_is_gone(schedules, monkeypatch):
    info = BeatInfo(name="beat@web1:7", host="web1", pid=7, started_at=1.0, looked_at=1.0)
    monkeypatch.setattr("celeriac.brokers.sqlite.schedules.boot_id", lambda: "before")
    schedules.hail(info, ttl_s=1e9)
    assert list(schedules.beats()) == [info]
    monkeypatch.undo()
    assert list(schedules.beats()) == []


@pytest.mark.parametrize("version", range(1, len(schema.steps())))
def test_a_file_of_before_schedules_is_brought_up_to_date(url, version):
    old = Database(url, steps=schema.steps()[:version])
    row = ("id-1", "t", "q", 0, 0, None, None, 1.0, b"{}", b"[]")
    columns = "id, task, queue, priority, state, not_before, expires_at, enqueued_at, headers, body"
    old.run("write", lambda link: link.execute(f"INSERT INTO message ({columns}) VALUES (?,?,?,?,?,?,?,?,?,?)", row))
    old.close()
    broker = SqliteBroker(url)
    schedules = broker.schedules("shop")
    assert schedules.look().rows == ()
    (fired,) = schedules.tick([tick(message=outgoing(id="id-1"))])
    assert (fired.verdict, fired.mark.task_id) == ("fired", "id-1")
    (kept_out,) = schedules.tick([tick(1, 2, outgoing(), unless_live=True)])
    assert kept_out.verdict == "overlap", "the old message lives"
    assert schedules.put(ScheduleRow(name="e"), expected=0).revision == 1
    assert broker.check().schema == len(schema.steps())
    broker.close()
