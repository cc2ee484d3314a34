"""Hot statements walk the partial indexes, however full the other states are."""

from __future__ import annotations

import itertools
import re

import pytest
from sqlite_stage import consume, outgoing

from celeriac.brokers.sqlite.rows import SQL
from celeriac.model import Done
from celeriac.model.states import MOVES, may_follow
from celeriac.results.sqlite.store import SQL as RESULT_SQL
from celeriac.storage.sqlite import Database


def plan(database: Database, sql: str, parameters: object) -> str:
    return database.run(
        "explain",
        lambda link: "\n".join(row[3] for row in link.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()),
    )


@pytest.fixture
def database(url):
    database = Database(url)
    yield database
    database.close()


def _inner(name: str, **values: str) -> list[str]:
    """The statements inside a trigger, NEW's columns replaced by values."""
    body = re.search(r"\bBEGIN\b(.*)\bEND\b", SQL[name], re.DOTALL)[1]
    for key, value in values.items():
        body = body.replace(f"NEW.{key}", value)
    return [statement.strip() for statement in body.split(";") if statement.strip()]


def test_a_claim_uses_the_partial_indexes(database):
    promote, take = _inner("claim_trigger", now="1.0", owner="1", claim="1", queues="'[\"q\"]'", most="9")
    found = plan(database, promote, ())
    assert "SEARCH message USING COVERING INDEX message_delayed (not_before<?)" in found
    found = plan(database, take, ())
    assert "SEARCH m USING COVERING INDEX message_ready (queue=? AND priority=? AND state=?)" in found
    assert "TEMP B-TREE" not in found
    assert "SCAN m" not in found


def test_reading_a_claim_uses_the_partial_indexes(database):
    found = plan(database, SQL["read"], (1, 1))
    assert "USING INDEX message_held (owner=? AND claim=?)" in found
    assert "COVERING INDEX message_delayed" in found
    assert "SCAN message\n" not in found + "\n"


def test_a_settlement_finds_rows_by_number(database):
    delete = _inner("settle_trigger", tags="'[1]'", owner="1")[0]
    assert "SEARCH message USING INTEGER PRIMARY KEY" in plan(database, delete, ())


@pytest.mark.parametrize("name", ["give_back", "forget_cancelled"])
def test_giving_back_touches_only_what_is_held(database, name):
    assert "message_held (owner=?)" in plan(database, SQL[name], (1, None))


def test_expiry_and_depth_use_indexes(database):
    assert "result_expiry (expires_at<?)" in plan(database, RESULT_SQL["expire"], (1.0, 10))
    assert "cancellation_until" in plan(database, SQL["expire_cancellations"], (1.0, 10))
    assert "COVERING INDEX message_ready" in plan(database, SQL["depth_ready"], ())
    assert "COVERING INDEX message_delayed" in plan(database, SQL["depth_delayed"], (1.0,))
    assert "message_ready" in plan(database, SQL["oldest_ready"], ("q",))
    assert "TEMP B-TREE" not in plan(database, SQL["peek_ready"], ('["q"]', 10))


async def test_a_claim_steps_no_further_with_many_delayed(broker):
    """Counted in SQLite's own virtual machine steps, which no other load on the machine changes."""

    async def steps_of_a_claim() -> int:
        consumer = await consume(broker)
        broker.publish([outgoing() for _ in range(100)])
        count = itertools.count()
        await consumer.claim(limit=1, wait_s=0)
        link = consumer._ledger._link
        link.set_progress_handler(lambda: next(count) and None, 100)
        taken = await consumer.claim(limit=50, wait_s=0)
        link.set_progress_handler(None, 0)
        assert len(taken) == 50
        await consumer.settle([Done(delivery=each) for each in taken])
        await consumer.close()
        return next(count)

    before = await steps_of_a_claim()
    later = broker._clock.time() + 3600
    broker.publish([outgoing(not_before=later + number) for number in range(20_000)])
    broker.publish([outgoing("elsewhere") for _ in range(5_000)])
    assert await steps_of_a_claim() <= before * 1.3


def test_the_rule_in_sql_is_the_rule_of_the_state_table(database):
    states = [*MOVES, "PROGRESS"]
    for old, new in itertools.product(states, states):
        rows = [
            {"id": f"{old}-{new}", "state": state, "payload": b"", "expires_at": None, "now": 0.0}
            for state in (old, new)
        ]
        written = database.run(
            "write", lambda link, rows=rows: [link.execute(RESULT_SQL["put"], row).rowcount for row in rows]
        )
        assert written == [1, int(may_follow(old, new))], f"{old} -> {new}"
