"""The ten bugs. Each wraps methods of an adapter, so that a real worker has it, and everything else of it is real.

A bug replaces what is sound by what somebody might have written; it makes no trouble by itself.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from typing import TYPE_CHECKING, Any, Final

import msgspec
import redis

from celeriac.app.beats import BeatHost
from celeriac.brokers.redis.consumer import RedisConsumer
from celeriac.brokers.sqlite import broker as sqlite_broker
from celeriac.brokers.sqlite import ledger as sqlite_ledger
from celeriac.brokers.sqlite import schedules as sqlite_schedules
from celeriac.brokers.sqlite.broker import SqliteBroker
from celeriac.brokers.sqlite.consumer import SqliteConsumer
from celeriac.brokers.sqlite.ledger import Ledger
from celeriac.brokers.sqlite.rows import CLAIM_BITS, CLAIM_MASK, row_of
from celeriac.brokers.sqlite.rows import SQL as MESSAGES
from celeriac.clock import SYSTEM_CLOCK
from celeriac.errors import LeaseLostError
from celeriac.model import Done, Later, Settled, new_task_id
from celeriac.storage.sqlite import transaction
from celeriac.storage.sqlite.joins import Arrivals
from chaos import application
from chaos.controls.strike import strike

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from celeriac.model import Delivery, Incarnation, Outcome, Tick, Ticked

_consumer: Any = SqliteConsumer
_ledger: Any = Ledger


def sound() -> None:
    """No bug; only the moments at which a process may be struck, which a bug has in places of its own."""
    claim, settle = SqliteConsumer.claim, SqliteConsumer.settle

    async def claiming(self: SqliteConsumer, /, **how: Any) -> Sequence[Delivery]:
        found = await claim(self, **how)
        if found:
            strike("claimed")
        return found

    async def settling(self: SqliteConsumer, outcomes: Sequence[Outcome], /) -> Sequence[Settled]:
        if any(isinstance(one, Done) for one in outcomes):
            strike("settling")
        if any(isinstance(one, Later) for one in outcomes):
            strike("retrying")
        return await settle(self, outcomes)

    _consumer.claim, _consumer.settle = claiming, settling


def ack_before_run() -> None:
    """A message is acknowledged when it is claimed; what its task returns is stored when that has ended."""
    claim = SqliteConsumer.claim

    async def claiming(self: SqliteConsumer, /, **how: Any) -> Sequence[Delivery]:
        found = await claim(self, **how)
        if found:
            await _write(self, "DELETE FROM message WHERE seq = ?", [(_seq(one),) for one in found])
        return found

    async def settling(self: SqliteConsumer, outcomes: Sequence[Outcome], /) -> Sequence[Settled]:
        results = [one.result for one in outcomes if isinstance(one, Done) and one.result is not None]
        rows = [(one.id, one.state, one.payload, one.expires_at) for one in results]
        await _write(self, "INSERT OR IGNORE INTO result (id, state, payload, expires_at) VALUES (?, ?, ?, ?)", rows)
        return [Settled.OK] * len(outcomes)

    _consumer.claim, _consumer.settle = claiming, settling


def pop_then_record() -> None:
    """A claim takes messages out of the queue, and then writes down who has them."""
    claim = SqliteConsumer.claim

    async def claiming(self: SqliteConsumer, /, **how: Any) -> Sequence[Delivery]:
        found = await claim(self, **how)
        if not found:
            return found
        seqs = [(_seq(one),) for one in found]
        rows = await _read(self, "SELECT * FROM message WHERE seq = ?", seqs)
        await _write(self, "DELETE FROM message WHERE seq = ?", seqs)
        strike("claimed")
        await _write(self, f"INSERT INTO message VALUES ({', '.join('?' * len(rows[0]))})", rows)
        return found

    _consumer.claim = claiming


def no_token_check() -> None:
    """Whoever settles a message is believed that it is his."""
    settle = Ledger.settle

    def settling(self: Any, outcomes: Sequence[Outcome]) -> list[Settled]:
        mine = [(self._handle, int(one.delivery.tag) & CLAIM_MASK, _seq(one.delivery)) for one in outcomes]
        take = "UPDATE message SET owner = ?, claim = ?, state = 2 WHERE seq = ?"
        self._run("settle in", lambda link: link.executemany(take, mine))
        return settle(self, outcomes)

    _ledger.settle = settling


def extend_without_token() -> None:
    """A heartbeat renews the lease on what was held at the one before, whoever holds it by now."""
    beat, beat_all = Ledger.beat, SqliteBroker.beat
    held: dict[str, tuple[tuple[Any, ...], list[tuple[Any, ...]]]] = {}

    def beating(self: Ledger) -> None:
        try:
            beat(self)
        except LeaseLostError:
            pass

    def extend(link: sqlite3.Connection, incarnations: Collection[Incarnation]) -> None:
        for each in incarnations:
            row = link.execute("SELECT * FROM incarnation WHERE id = ?", (each,)).fetchone()
            if row is not None:
                mine = "SELECT owner, claim, seq FROM message WHERE state = 2 AND owner = ?"
                held[each] = row, link.execute(mine, (row[0],)).fetchall()
            elif each in held:
                row, mine = held[each]
                link.execute(f"INSERT INTO incarnation VALUES ({', '.join('?' * len(row))})", row)
                link.executemany("UPDATE message SET state = 2, owner = ?, claim = ? WHERE seq = ?", mine)

    async def beating_all(self: Any, incarnations: Collection[Incarnation], /) -> frozenset[Incarnation]:
        work = transaction(lambda link: extend(link, incarnations))
        await asyncio.to_thread(self._database.run, "beat in", work)
        await beat_all(self, incarnations)
        return frozenset()

    broker: Any = SqliteBroker
    _ledger.beat, broker.beat = beating, beating_all


def reaper_ignores_heartbeats() -> None:
    """A lease is over when its time is over since it was taken, however often it was renewed."""
    is_over = sqlite_broker._is_over
    first: dict[int, float] = {}

    def is_over_soon(row: Sequence[Any], tick: float) -> bool:
        handle, lease_s = row[0], row[1]
        return is_over(row, tick) or tick > first.setdefault(handle, tick) + lease_s

    sqlite_broker._is_over = is_over_soon


def chord_counts_arrivals() -> None:
    """A member that ends counts one down, and then its message is acknowledged: what runs twice counts twice."""
    settle = SqliteConsumer.settle

    async def settling(self: SqliteConsumer, outcomes: Sequence[Outcome], /) -> Sequence[Settled]:
        left: list[Outcome] = []
        for one in outcomes:
            workflow = one.workflow if isinstance(one, Done) else None
            if workflow is not None and workflow.arrivals:
                counted = [msgspec.structs.replace(each, member=new_task_id()) for each in workflow.arrivals]
                await _arrive(self, Arrivals(counted))
                strike("settling")
                one = msgspec.structs.replace(one, workflow=msgspec.structs.replace(workflow, arrivals=()))
            left.append(one)
        return await settle(self, left)

    _consumer.settle = settling


def eta_by_local_clock() -> None:
    """What is delayed is due when the clock of a worker's host says so."""
    claim = RedisConsumer.claim
    server = redis.Redis.from_url(os.environ[application.URL])

    def promote() -> None:
        for key in server.scan_iter("*:z"):
            for member in server.zrangebyscore(key, "-inf", SYSTEM_CLOCK.time() * 1000):
                server.zadd(key, {member: 1}, xx=True)

    async def claiming(self: RedisConsumer, /, *, limit: int, wait_s: float) -> Sequence[Delivery]:
        await asyncio.to_thread(promote)
        return await claim(self, limit=limit, wait_s=min(wait_s, 0.1))

    consumer: Any = RedisConsumer
    consumer.claim = claiming


def revoke_in_memory_only() -> None:
    """What is revoked is known to those workers that heard of it: one that starts knows nothing."""
    with sqlite3.connect(os.environ[application.URL].removeprefix("sqlite:///")) as link:
        link.execute("DELETE FROM cancellation")
        link.execute("DELETE FROM result WHERE state = 'REVOKED'")
    link.close()


def cron_without_tick_id() -> None:
    """Each beat sends what is due, under an id that it has just made."""
    run = sqlite_schedules._Round.run

    def running(self: Any, ticks: Sequence[Tick]) -> list[Ticked]:
        answers = run(self, ticks)
        for tick, answer in zip(ticks, answers, strict=True):
            if answer.verdict == "lost" and tick.message is not None:
                self._publish(tick.message)
        self._flush()
        return answers

    rounds: Any = sqlite_schedules._Round
    host: Any = BeatHost
    rounds.run = running
    host.task_id = lambda self, name, at, /: new_task_id()


def retry_publishes_then_acks() -> None:
    """A retry is published as a message of its own, and then the one before it is acknowledged."""
    settle = SqliteConsumer.settle

    async def settling(self: SqliteConsumer, outcomes: Sequence[Outcome], /) -> Sequence[Settled]:
        left: list[Outcome] = []
        for one in outcomes:
            if isinstance(one, Later):
                fresh = msgspec.structs.replace(one.message, id=new_task_id())
                await _write(self, MESSAGES["insert_fresh"], [row_of(fresh, SYSTEM_CLOCK.time())])
                strike("retrying")
                one = Done(delivery=one.delivery, result=one.result)
            left.append(one)
        return await settle(self, left)

    _consumer.settle = settling


BUGS: Final[dict[str, Callable[[], None]]] = {
    bug.__name__.replace("_", "-"): bug
    for bug in (
        ack_before_run,
        pop_then_record,
        no_token_check,
        extend_without_token,
        reaper_ignores_heartbeats,
        chord_counts_arrivals,
        eta_by_local_clock,
        revoke_in_memory_only,
        cron_without_tick_id,
        retry_publishes_then_acks,
    )
}


def _seq(delivery: Delivery) -> int:
    return int(delivery.tag) >> CLAIM_BITS


async def _write(consumer: Any, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    def write(link: sqlite3.Connection) -> None:
        link.executemany(statement, rows)

    await consumer._lane.run(consumer._ledger._run, "write to", transaction(write))


async def _read(consumer: Any, statement: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
    def read(link: sqlite3.Connection) -> list[Any]:
        return [found for row in rows for found in link.execute(statement, row).fetchall()]

    found: list[Any] = await consumer._lane.run(consumer._ledger._run, "read", read)
    return found


async def _arrive(consumer: Any, arrivals: Arrivals) -> None:
    def arrive(link: sqlite3.Connection) -> None:
        consumer._ledger._learn_arrivals(link)
        sqlite_ledger._arrive(link, arrivals, SYSTEM_CLOCK.time())

    await consumer._lane.run(consumer._ledger._run, "arrive in", transaction(arrive))
