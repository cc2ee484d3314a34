"""Joins in the file: cheap however full, dropped in pieces, exact when workers are killed, there after an upgrade."""

from __future__ import annotations

import asyncio
import itertools
import re
import signal

import pytest
from sqlite_stage import consume, outgoing

from celeriac.brokers.sqlite import SqliteBroker
from celeriac.brokers.sqlite.rows import SQL
from celeriac.model import Arrival, Cancellation, Done, Join, Settled, Workflow
from celeriac.results.sqlite import SqliteResultStore
from celeriac.storage.sqlite import Database, schema
from celeriac.storage.sqlite.joins import JOINS

WORKER = """
import asyncio, sys
from celeriac.brokers.sqlite import SqliteBroker
from celeriac.model import Arrival, Done, Outgoing, Settled, Workflow, new_incarnation
async def main():
    broker = SqliteBroker(sys.argv[1])
    consumer = await broker.open_consumer(["q"], incarnation=new_incarnation(), lease_s=3600)
    release = Outgoing(id="release", task="t", queue="releases", headers=b"{}", body=b"")
    left = int(sys.argv[2])
    while taken := await consumer.claim(limit=7, wait_s=0.5):
        left -= 1
        if not left:
            print("holding", flush=True)
            await asyncio.Event().wait()
        answers = await consumer.settle([
            Done(delivery=each, workflow=Workflow(arrivals=(
                Arrival(join="j", member=each.id, position=int(each.body), payload=each.body, release=release),)))
            for each in taken])
        assert set(answers) == {Settled.OK}
    await consumer.close()
    broker.close()
asyncio.run(main())
"""


def arrival(position, join="j"):
    payload = b"%d" % position
    return Arrival(
        join=join, member=f"m{position}", position=position, payload=payload, release=outgoing("releases", id="release")
    )


@pytest.mark.processes
async def test_members_of_killed_workers_arrive_once(broker, store, url, run_python):
    store.open_joins([Join(id="j", size=600)])
    broker.publish([outgoing(body=b"%d" % position) for position in range(600)])
    killed = run_python(WORKER, url, 6)
    assert await asyncio.to_thread(killed.stdout.readline) == "holding\n"
    others = [run_python(WORKER, url, 0) for _ in range(2)]
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    for worker in others:
        await asyncio.to_thread(worker.communicate, None, 60)
        assert worker.returncode == 0
    assert not broker.peek("releases"), "some of them are still held"
    assert await broker.reap(limit=10) == 7
    last = run_python(WORKER, url, 0)
    await asyncio.to_thread(last.communicate, None, 60)
    assert list(store.members("j")) == [b"%d" % position for position in range(600)]
    assert [each.id for each in broker.peek()] == ["release"]


def test_arrivals_walk_indexes(url):
    database = Database(url)
    body = re.search(r"\bBEGIN\b(.*)\bEND\b", JOINS["arriving_trigger"], re.DOTALL)[1]
    for column, value in {"now": "1.0", "joins": "'[]'", "members": "'[]'"}.items():
        body = body.replace(f"NEW.{column}", value)
    body = re.sub(r"NEW\.\w+", "x''", body)
    statements = [*filter(str.strip, body.split(";")), *(JOINS[name] for name in ("complete", "members", "load"))]
    for statement in statements:
        rows = database.run(
            "explain",
            lambda link, sql=statement: link.execute(
                f"EXPLAIN QUERY PLAN {sql}", (None,) * len({*re.findall(r"\?\d", sql)})
            ).fetchall(),
        )
        scanned = [row[3] for row in rows if row[3].startswith("SCAN") and not re.search("VIRTUAL TABLE|fresh", row[3])]
        assert not scanned, f"{statement}: {scanned}"
    database.close()


async def test_an_arrival_steps_no_further_in_a_full_join(broker, store):
    async def steps_of_an_arrival(position):
        consumer = await consume(broker)
        broker.publish([outgoing(), outgoing()])
        first, second = await consumer.claim(limit=2, wait_s=0)
        settle = [Done(delivery=first, workflow=Workflow(arrivals=(arrival(position),)))]
        assert await consumer.settle(settle) == [Settled.OK]  # the views are there from now on
        count = itertools.count()
        consumer._ledger._link.set_progress_handler(lambda: next(count) and None, 10)
        settle = [Done(delivery=second, workflow=Workflow(arrivals=(arrival(position + 1),)))]
        assert await consumer.settle(settle) == [Settled.OK]
        consumer._ledger._link.set_progress_handler(None, 0)
        await consumer.close()
        return next(count)

    store.open_joins([Join(id="j", size=100_000)])
    before = await steps_of_an_arrival(0)
    store.arrive([arrival(position) for position in range(100, 20_100)])
    assert await steps_of_an_arrival(50) <= before * 1.1


def test_what_is_over_is_dropped_in_pieces(store, monkeypatch):
    monkeypatch.setattr("celeriac.storage.sqlite.joins._MEMBERS_AT_ONCE", 10)
    store.open_joins([Join(id=name, size=99, expires_at=1.0) for name in ("a", "b", "c")])
    for name in ("a", "b", "c"):
        store._change(
            "arrive",
            lambda link, name=name: link.execute(
                "INSERT INTO member (join_number, position, member, payload) SELECT number, value, '', x'' "
                "FROM workflow_join, json_each(?) WHERE workflow_join.id = ?",
                (str([*range(20)]), name),
            ),
        )
    assert store.expire(limit=2) == 2
    assert store.expire(limit=100) == 1
    for table in ("workflow_join", "member", "extension"):
        assert store._change(
            "count", lambda link, table=table: link.execute(f"SELECT count(*) FROM {table}").fetchone()
        ) == (0,)


async def test_closing_leaves_what_is_too_much_for_one_transaction(store, monkeypatch):
    monkeypatch.setattr("celeriac.storage.sqlite.joins._MEMBERS_AT_ONCE", 10)
    store.open_joins([Join(id="j", size=99)])
    store.arrive([arrival(position) for position in range(25)])
    await store.aclose_joins(["j"])
    assert store.members("j") is None
    assert store._change("count", lambda link: link.execute("SELECT count(*) FROM member").fetchone()) == (15,)


async def test_a_file_of_before_workflows_is_brought_up_to_date(url):
    old = Database(url, steps=schema.steps()[:2])
    old.run(
        "order",
        lambda link: link.execute(
            "INSERT INTO cancellation (id, terminate, signal, until) VALUES ('t', 0, 'SIGTERM', 1e12)"
        ),
    )
    old.close()
    broker, store = SqliteBroker(url), SqliteResultStore(url)
    broker.publish([outgoing(id="t")])
    assert not broker.peek(), "the order is still there, and drops"
    store.open_joins([Join(id="j", size=1)])
    assert list(store.arrive([arrival(0)])) == [True]
    broker.close()
    store.close()


async def test_only_marked_messages_change_the_stamp_of_who_claims_them(broker):
    consumer, other = await consume(broker), await consume(broker)
    broker.publish([outgoing(id="marked"), outgoing(), outgoing()])
    broker.cancel([Cancellation(id="marked", hand_out=True)])
    asked_at = consumer.cancel_stamp, other.cancel_stamp
    assert [each.id for each in await consumer.claim(limit=1, wait_s=0)] == ["marked"]
    await other.claim(limit=1, wait_s=0)
    assert consumer.cancel_stamp != asked_at[0]
    assert other.cancel_stamp == asked_at[1]
    (adopted,) = await other.adopt(consumer.incarnation, ["marked"])
    assert other.cancel_stamp != asked_at[1]
    assert await other.settle([Done(delivery=adopted)]) == [Settled.OK]
    await consumer.close()
    await other.close()


def test_gather_reads_in_large_pieces(store, monkeypatch):
    from celeriac.model import StoredResult

    ids = [f"task-{number}" for number in range(10_000)]
    store.put([StoredResult(id=task_id, state="SUCCESS", payload=b"{}") for task_id in ids])
    reads, read = [], store._read_final
    monkeypatch.setattr(store, "_read_final", lambda wanted: reads.append(len(wanted)) or read(wanted))
    assert [each.id for each in store.gather(ids, timeout_s=60)] == ids
    assert sum(reads) == 10_000
    assert len(reads) <= 20


def test_orders_to_hand_out_are_found_by_their_own_index(url):
    database = Database(url)
    rows = database.run("explain", lambda link: link.execute(f"EXPLAIN QUERY PLAN {SQL['read']}", (1, 1)).fetchall())
    assert any("cancellation USING" in row[3] and "cancellation_hand_out" in row[3] for row in rows), rows
    database.close()
