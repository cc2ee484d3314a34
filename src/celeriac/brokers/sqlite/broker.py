"""The SQLite broker: what producers, operators and supervisors use."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, Final

from celeriac.brokers.sqlite.consumer import SqliteConsumer
from celeriac.brokers.sqlite.ledger import end_incarnation
from celeriac.brokers.sqlite.lines import open_gates, sweep_gates
from celeriac.brokers.sqlite.publisher import ROWS_PER_CONSUMER, Publisher
from celeriac.brokers.sqlite.rows import SQL, to_json
from celeriac.brokers.sqlite.schedules import SqliteSchedules
from celeriac.clock import SYSTEM_CLOCK, Clock, boot_id
from celeriac.interfaces import BrokerTraits
from celeriac.model import Cancelled, DeadLetter, Peeked, QueueDepth
from celeriac.probe import Probe
from celeriac.storage import forks
from celeriac.storage.sqlite import Database, WakeRoom, mask_of, processes, transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping, Sequence

    from celeriac.model import Cancellation, Incarnation, Outgoing, TaskId
    from celeriac.storage.sqlite import Durability, Health

TRAITS: Final = BrokerTraits(
    name="sqlite",
    native_delay=True,
    priorities=10,
    max_body=16 << 20,
    max_batch=1000,
    lease_kind="incarnation",
    ordering="fifo",
    time_precision_s=0.01,
    durable=True,
    cross_process=True,
    stores_results=True,
    cancel=True,
    notifications=True,
    limits=True,
    unique=True,
    schedules=True,
)

_MARK_KEPT_S = 86_400.0
_PURGE_ROWS = 10_000
_ALL_QUEUES = (1 << 64) - 1


class SqliteBroker:
    """A broker in one file, for any number of processes of one host; safe to use from any number of threads.

    Args:
        url: `sqlite:///shop.db` (relative to the working directory) or `sqlite:////srv/shop.db`; the options
            `durability`, `timeout` and `allow_network_fs` may follow as a query and win over the arguments.
        durability: `full`: what was acknowledged survives a power cut; `process`: it survives the end of any process.
        timeout_s: How long a call waits for the file's lock.
        clock: For due times and leases.
        allow_network_fs: Use the file even where the file system's locks are known to be unsafe.
        probe: Is told `published`, `claimed`, `settled`, `gave back` with a count, `waiting` with the incarnation.

    Nothing is opened or created before the first call.

    Raises:
        ConfigError: The URL or an option is wrong; the message says what is expected.
    """

    def __init__(
        self,
        url: str,
        *,
        durability: Durability = "full",
        timeout_s: float = 5.0,
        clock: Clock = SYSTEM_CLOCK,
        allow_network_fs: bool = False,
        probe: Probe = Probe.INERT,
    ) -> None:
        self._database = Database(
            url, durability=durability, timeout_s=timeout_s, clock=clock, allow_network_fs=allow_network_fs
        )
        self._publisher = Publisher(self._database, TRAITS.max_body)
        self._clock = clock
        self._probe = probe
        self._room: WakeRoom | None = None
        self._swept = 0
        self._gate = threading.Lock()
        forks.register(self)

    @property
    def traits(self) -> BrokerTraits:
        return TRAITS

    @property
    def url(self) -> str:
        return self._database.url

    # -- producers

    def publish(self, messages: Sequence[Outgoing], /) -> Mapping[TaskId, TaskId]:
        dropped = self._publisher.publish(messages, self._room or self._open_room())
        self._probe.signal("published", len(messages))
        return dropped

    async def apublish(self, messages: Sequence[Outgoing], /) -> Mapping[TaskId, TaskId]:
        return await asyncio.to_thread(self.publish, messages)

    # -- leases

    async def open_consumer(
        self, queues: Sequence[str], /, *, incarnation: Incarnation, lease_s: float, name: str = ""
    ) -> SqliteConsumer:
        return await SqliteConsumer.open(self._database, queues, incarnation, lease_s, name, self._probe)

    async def beat(self, incarnations: Collection[Incarnation], /) -> frozenset[Incarnation]:
        asked = to_json(list(incarnations))

        def renew(link: sqlite3.Connection) -> set[str]:
            link.execute(SQL["renew"], (asked, self._clock.monotonic()))
            guardian = (asked, os.getpid(), processes.own_start(), processes.pid_space())
            link.execute(SQL["guard"], guardian)
            return {name for (name,) in link.execute(SQL["living"], (asked,))}

        living = await asyncio.to_thread(self._database.run, "beat in", transaction(renew))
        return frozenset(each for each in incarnations if each not in living)

    async def abandon(self, incarnation: Incarnation, /, *, running: Collection[TaskId]) -> int:
        now = self._clock.time()

        def end(link: sqlite3.Connection) -> int:
            row = link.execute(SQL["handle_of"], (incarnation,)).fetchone()
            return 0 if row is None else end_incarnation(link, row[0], running, now)

        return await asyncio.to_thread(self._give_back, "abandon an incarnation in", end)

    async def reap(self, /, *, limit: int) -> int:
        """As `Broker.reap`; forgets cancellations whose time is over, and limits that nobody needs, too."""
        now, tick = self._clock.time(), self._clock.monotonic()

        def reap(link: sqlite3.Connection) -> int:
            lost = [row[0] for row in link.execute(SQL["incarnations"]).fetchall() if _is_over(row, tick)]
            link.execute(SQL["expire_cancellations"], (now, 1000))
            link.execute(SQL["expire_unique"], (now, 1000))
            self._swept = sweep_gates(link, self._swept, now)
            return sum(end_incarnation(link, handle, None, now) for handle in lost[:limit])

        return await asyncio.to_thread(self._give_back, "reap in", reap)

    def _give_back(self, doing: str, work: Any) -> int:
        returned: int = self._database.run(doing, transaction(work))
        room = self._room or self._open_room()
        if returned:
            room.ring(_ALL_QUEUES, 1 + returned // 64)
        room.ring_results()  # of what was cancelled, perhaps
        self._probe.signal("gave back", returned)
        return returned

    # -- operators

    def depth(self, queues: Sequence[str] | None = None, /) -> Mapping[str, QueueDepth]:
        now = self._clock.time()

        def count(link: sqlite3.Connection) -> dict[str, QueueDepth]:
            link.execute("BEGIN")  # one snapshot, so that nothing is counted twice while it moves
            try:
                ready = dict(link.execute(SQL["depth_ready"]).fetchall())
                for queue, waiting in link.execute(SQL["depth_in_line"]).fetchall():
                    ready[queue] = ready.get(queue, 0) + waiting
                delayed = {}
                for queue, later, due in link.execute(SQL["depth_delayed"], (now,)).fetchall():
                    delayed[queue] = later
                    if due:
                        ready[queue] = ready.get(queue, 0) + due
                held = dict(link.execute(SQL["depth_held"]).fetchall())
                dead = dict(link.execute(SQL["depth_dead"]).fetchall())
                names = queues if queues is not None else sorted({*ready, *delayed, *held, *dead})
                depths = {}
                for name in names:
                    oldest = link.execute(SQL["oldest_ready"], (name,)).fetchone()[0] if name in ready else None
                    depths[name] = QueueDepth(
                        ready=ready.get(name, 0),
                        delayed=delayed.get(name, 0),
                        held=held.get(name, 0),
                        dead=dead.get(name, 0),
                        oldest_ready_s=None if oldest is None else max(0.0, now - oldest),
                    )
                return depths
            finally:
                link.execute("COMMIT")

        return self._database.run("count the messages of", count)

    def peek(
        self, queue: str | None = None, /, *, state: str | None = None, ids: Collection[TaskId] = (), limit: int = 100
    ) -> Sequence[Peeked]:
        now = self._clock.time()
        if ids:
            wanted = to_json(list(ids))
            rows = self._database.run("look into", lambda link: link.execute(SQL["peek_ids"], (wanted, now)).fetchall())
        else:
            rows = self._database.run("look into", lambda link: _peek(link, queue, state, limit, now))
        return [
            Peeked(
                id=task_id,
                task=task,
                queue=its_queue,
                state=its_state,
                priority=priority,
                deliveries=deliveries,
                not_before=not_before,
                headers=headers,
                body=body,
                holder=holder,
            )
            for task_id, task, its_queue, its_state, priority, deliveries, not_before, headers, body, holder in rows
            if (queue is None or its_queue == queue) and (state is None or its_state == state)
        ][:limit]

    def purge(self, queues: Sequence[str], /) -> int:
        names = to_json(list(queues))
        purged = 0
        while True:  # in pieces, so that others get at the lock in between
            count = self._database.run("purge", lambda link: link.execute(SQL["purge"], (names, _PURGE_ROWS)).rowcount)
            purged += count
            if count < _PURGE_ROWS:
                return purged

    def cancel(self, cancellations: Sequence[Cancellation], /) -> Sequence[Cancelled]:
        now = self._clock.time()

        def order(link: sqlite3.Connection) -> tuple[list[Cancelled], set[str]]:
            answers, queues = [], set()
            for each in cancellations:
                removed = [] if each.hand_out else link.execute(SQL["remove_waiting"], (each.id, now)).fetchall()
                # marked even when it is gone: its producer may publish it again after an unknown outcome
                until = max([now, *(row[0] for row in removed if row[0] is not None)]) + _MARK_KEPT_S
                then = each.result
                kept = (None, None, None) if then is None else (then.state, then.payload, then.expires_at)
                mark = (each.id, int(each.terminate), each.signal, until, *kept, int(each.hand_out))
                link.execute(SQL["order_cancellation"], mark)
                keys = [key for _, key in removed if key is not None]  # it may have been the head of its line
                if removed:
                    link.execute(SQL["store_revoked"], (each.id, now))
                elif each.hand_out:
                    for queue, key in link.execute(SQL["hand_out"], (each.id,)).fetchall():
                        queues.add(queue)
                        keys += [] if key is None else [key]
                queues |= open_gates(link, keys, now)
                answers.append(Cancelled.REMOVED if removed else Cancelled.MARKED)
            return answers, queues

        if not cancellations:
            return []
        answers, queues = self._database.run("cancel in", transaction(order))
        room = self._room or self._open_room()
        room.bump()  # after the commit: who sees the new stamp finds the order
        room.ring_results()
        if queues:
            room.ring(mask_of(queues), 1 + len(cancellations) // 64)
        return answers

    def dead_letters(
        self, queue: str | None = None, /, *, ids: Collection[TaskId] = (), limit: int = 100
    ) -> Sequence[DeadLetter]:
        parameters = (queue, to_json(list(ids)) if ids else None, limit)
        rows = self._database.run(
            "read the dead letters of", lambda link: link.execute(SQL["dead_letters"], parameters).fetchall()
        )
        return [
            DeadLetter(
                id=task_id,
                task=task,
                queue=its_queue,
                reason=reason,
                detail=detail,
                buried_at=buried_at,
                deliveries=deliveries,
                headers=headers,
                body=body,
            )
            for task_id, task, its_queue, reason, detail, buried_at, deliveries, headers, body in rows
        ]

    def revive(self, ids: Sequence[TaskId], /) -> int:
        """As `Broker.revive`; an operator's word also takes back an earlier cancellation."""
        now = self._clock.time()

        def revive(link: sqlite3.Connection) -> list[str]:
            revived, keys = [], set()
            for (seq,) in link.execute(SQL["dead_among"], (to_json(list(ids)),)).fetchall():
                ((task_id, queue, key),) = link.execute(SQL["revive"], (seq, now)).fetchall()
                link.execute(SQL["unexplain"], (seq,))
                link.execute(SQL["forgive"], (task_id,))
                revived.append(queue)
                if key is not None:
                    keys.add(key)
            open_gates(link, keys, now)
            return revived

        revived = self._database.run("revive in", transaction(revive))
        if revived:
            (self._room or self._open_room()).ring(mask_of(set(revived)), 1 + len(revived) // 64)
        return len(revived)

    def drop_dead(self, ids: Sequence[TaskId], /) -> int:
        def drop(link: sqlite3.Connection) -> int:
            found = link.execute(SQL["dead_among"], (to_json(list(ids)),)).fetchall()
            link.executemany(SQL["unexplain"], found)
            link.executemany(SQL["drop_dead"], found)
            return len(found)

        return self._database.run("drop dead letters of", transaction(drop))

    def schedules(self, scope: str, /) -> SqliteSchedules:
        return SqliteSchedules(self._database, scope, TRAITS.max_body, self._after_ticks)

    def _after_ticks(self, fired: Sequence[Outgoing]) -> None:
        queues = {message.queue for message in fired}
        (self._room or self._open_room()).ring(mask_of(queues), 1 + len(fired) // ROWS_PER_CONSUMER)
        self._probe.signal("published", len(fired))

    def check(self) -> Health:
        """Examine the file, for the doctor; reads all of it."""
        return self._database.check()

    def close(self) -> None:
        self._database.close()
        with self._gate:
            if self._room is not None:
                self._room.close()
                self._room = None

    def _open_room(self) -> WakeRoom:
        with self._gate:
            if self._room is None:
                self._database.prepare()
                self._room = WakeRoom(self._database.wake_directory)
            return self._room

    def before_fork(self) -> None:
        return

    def after_fork(self) -> None:
        self._gate = threading.Lock()


def _peek(link: sqlite3.Connection, queue: str | None, state: str | None, limit: int, now: float) -> list[Any]:
    rows: list[Any] = []
    if state in (None, "ready"):
        queues = link.execute(SQL["queues_ready"]).fetchone()[0] if queue is None else to_json([queue])
        ready = link.execute(SQL["peek_ready"], (queues, limit)).fetchall()
        in_line = link.execute(SQL["peek_in_line"], (queue, limit)).fetchall()
        if in_line:
            ready = sorted(ready + in_line, key=lambda row: (-row[4], row[2], row[-1]))
        rows += [row[:-1] for row in ready]
    if state in (None, "ready", "delayed"):
        rows += link.execute(SQL["peek_delayed"], (queue, limit, now))
    if state in (None, "held"):
        rows += link.execute(SQL["peek_held"], (queue, limit))
    if state in (None, "dead"):
        rows += link.execute(SQL["peek_dead"], (queue, limit))
    return rows


def _is_over(row: Sequence[Any], tick: float) -> bool:
    """Whether an incarnation's lease is over: its time ran out, its host has booted since, or its process is dead.

    A process that somebody beats for is left to him for as long as he lives: he knows what was running there, and is
    just about to abandon or adopt it.
    """
    _, lease_s, expires, boot, pid_space, pid, pid_start, guardian, guardian_start = row
    if boot != boot_id() or expires <= tick or expires > tick + 2 * lease_s + 60:
        return True
    if pid_space != processes.pid_space() or not processes.is_dead(pid, pid_start):
        return False
    return guardian is None or processes.is_dead(guardian, guardian_start)
