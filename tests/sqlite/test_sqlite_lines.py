"""What limited messages cost in SQLite, and what they leave behind."""

from __future__ import annotations

import itertools

from sqlite_stage import consume, outgoing

from celeriac.brokers.sqlite import SqliteBroker
from celeriac.brokers.sqlite.rows import SQL
from celeriac.model import Admission, Cancellation, Done, Unique
from celeriac.storage.sqlite import Database, schema

ONE = Admission(key="busy", concurrency=1)


def count(broker: SqliteBroker, table: str) -> int:
    return broker._database.run("count", lambda link: link.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def test_a_claim_steps_no_further_with_many_that_wait(broker: SqliteBroker) -> None:
    """Counted in SQLite's own virtual machine steps, which no other load on the machine changes."""
    consumer = await consume(broker)
    broker.publish([outgoing(limit=ONE)])
    (holder,) = await consumer.claim(limit=1, wait_s=0)

    async def steps_of_a_claim() -> int:
        broker.publish([outgoing(limit=Admission(key=f"k{number % 7}", concurrency=9)) for number in range(30)])
        await consumer.claim(limit=1, wait_s=0)
        ticks = itertools.count()
        link = consumer._ledger._link
        link.set_progress_handler(lambda: next(ticks) and None, 100)
        taken = await consumer.claim(limit=40, wait_s=0)
        link.set_progress_handler(None, 0)
        assert len(taken) == 29
        await consumer.settle([Done(delivery=each) for each in taken])
        return next(ticks)

    before = await steps_of_a_claim()
    for _ in range(20):
        broker.publish([outgoing(limit=ONE) for _ in range(1000)])
    after = [await steps_of_a_claim(), await steps_of_a_claim()]
    assert max(after) <= before * 1.3
    await consumer.settle([Done(delivery=holder)])
    assert [each.limit_key for each in await consumer.claim(limit=100, wait_s=0)] == ["busy"]
    await consumer.close()


async def test_when_nobody_waits_claims_are_the_ordinary_ones_again(broker: SqliteBroker) -> None:
    consumer = await consume(broker)
    broker.publish([outgoing(limit=ONE), outgoing(limit=ONE), outgoing()])
    taken = await consumer.claim(limit=9, wait_s=0)
    assert len(taken) == 2
    await consumer.claim(limit=9, wait_s=0)
    assert not consumer._ledger._has_lines, "the one that waits has lost its turn"
    assert count(broker, "turn") == 0
    await consumer.settle([Done(delivery=each) for each in taken])
    assert count(broker, "turn") == 1
    await consumer.close()


async def test_nothing_is_left_behind(broker: SqliteBroker) -> None:
    consumer = await consume(broker)
    now = broker._clock.time()
    broker.publish(
        [
            outgoing(limit=Admission(key=f"k{number}", concurrency=2), unique=Unique(key=f"u{number}", ttl_s=0.001))
            for number in range(300)
        ]
    )
    broker.publish([outgoing(limit=ONE, not_before=now + 900), gone := outgoing(limit=ONE)])
    broker.cancel([Cancellation(id=gone.id)])
    while taken := await consumer.claim(limit=100, wait_s=0):
        await consumer.settle([Done(delivery=each) for each in taken])
    for _ in range(3):  # a part of them each time
        await broker.reap(limit=10)
    assert count(broker, "unique_key") == 0
    assert count(broker, "gate") == 1
    assert count(broker, "agenda") == 1
    broker.purge(["q"])
    await broker.reap(limit=10)
    assert count(broker, "gate") == 0
    await consumer.close()


async def test_a_line_that_was_cut_is_set_right_by_the_reaper(broker: SqliteBroker) -> None:
    """As by a process that died between two pieces of a purge."""
    broker.publish([outgoing(limit=ONE), outgoing(limit=ONE)])
    broker._database.run("cut", lambda link: link.execute("DELETE FROM turn"))
    consumer = await consume(broker)
    assert await consumer.claim(limit=9, wait_s=0) == []
    await broker.reap(limit=10)
    assert len(await consumer.claim(limit=9, wait_s=0)) == 1
    await consumer.close()


async def test_messages_of_the_first_schema_are_taken_over(path, url) -> None:
    old = Database(url, steps=schema.steps()[:1])
    row = ("id-1", "t", "q", 0, 0, None, None, 1.0, b"{}", b"[]")
    columns = "id, task, queue, priority, state, not_before, expires_at, enqueued_at, headers, body"
    old.run("write", lambda link: link.execute(f"INSERT INTO message ({columns}) VALUES (?,?,?,?,?,?,?,?,?,?)", row))
    old.close()
    broker = SqliteBroker(url)
    broker.publish([outgoing(limit=ONE)])
    consumer = await consume(broker)
    assert [each.id for each in await consumer.claim(limit=1, wait_s=0)] == ["id-1"]
    await consumer.close()
    broker.close()


def test_lines_are_found_by_index(url) -> None:
    database = Database(url)

    def plan(name: str, parameters: object) -> str:
        return database.run(
            "explain",
            lambda link: "\n".join(
                r[3] for r in link.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", parameters).fetchall()
            ),
        )

    found = plan("head_of_line", ("k", "q"))
    assert "COVERING INDEX message_line (limit_key=? AND state=? AND queue=?)" in found
    assert "TEMP B-TREE" not in found
    for name, parameters in (
        ("line_up", ("k",)),
        ("heads", ('["q"]', 9)),
        ("gate", ("k",)),
        ("unique_holder", ("k", "i", 1.0)),
    ):
        found = plan(name, parameters)
        assert "SCAN m" not in found.replace("SCAN message USING COVERING", "")
        assert "TEMP B-TREE" not in found
    assert "COVERING INDEX message_line (limit_key=? AND state=?)" in plan("gate", ("k",))
    assert "USING PRIMARY KEY (queue=? AND priority=?)" in plan("heads", ('["q"]', 9))
    database.close()
