"""What one consumer does in the database. Every call blocks, so all of them run in the consumer's own lane."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, TypeVar

import msgspec

from celeriac.brokers.sqlite.lines import claim_in_line, insert_special, look, open_gates, put_later
from celeriac.brokers.sqlite.rows import (
    CLAIM_BITS,
    CLAIM_MASK,
    SQL,
    deliveries_of,
    facts_of,
    in_order,
    results_of,
    row_of,
    successors_of,
    to_json,
)
from celeriac.clock import boot_id
from celeriac.errors import BrokerError, LeaseLostError
from celeriac.model import Bury, Cancellation, Delivery, Done, Later, Release, Settled
from celeriac.model.states import is_final
from celeriac.storage.sqlite import faults, mask_of, processes, transaction
from celeriac.storage.sqlite.joins import (
    JOINS,
    Arrivals,
    close_joins,
    joins_among,
    open_joins,
    prepare_arrivals,
    save_records,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from celeriac.model import Arrival, Incarnation, Outcome, Outgoing, StoredResult, TaskId, Workflow
    from celeriac.storage.sqlite import Database, WakeRoom

T = TypeVar("T")

_CONTENT_BYTES = 64 << 20
"""About how many bytes of messages one claim may bring into memory."""


class Locked(Exception):
    """Another connection holds the lock; nothing was done."""


class Ledger:
    """One incarnation in the database: its lease, what it holds, how that ends.

    Raises:
        ValueError: The incarnation exists already.
    """

    def __init__(
        self,
        database: Database,
        room: WakeRoom,
        queues: Sequence[str],
        incarnation: Incarnation,
        lease_s: float,
        name: str,
    ) -> None:
        self._database = database
        self._room = room
        self._queues = list(dict.fromkeys(queues))
        self.mask = mask_of(self._queues)
        self.incarnation = incarnation
        self._link: sqlite3.Connection | None = None
        self._claims = 0
        self._is_wrapped = False
        self._unread: tuple[int, list[str], bool] | None = None
        """A claim that was made and whose messages could not be read yet."""
        self._mean_bytes = 0.0
        self.written = 0
        """A measure of what was written to the log since the last checkpoint."""
        self.is_hasty = False
        """Raise Locked at once instead of waiting: the event loop's thread is calling."""
        self._checkpoints_itself = database.durability == "full"
        self.untold: list[Delivery] = []
        """What a claim took and its caller has not received yet."""
        self.next_due: float | None = None
        """Wall-clock time at which the first delayed message is due or a limit lets one go, as of the last claim."""
        self.marked_claims = 0
        """Counts the claims that brought something cancelled, so that whoever asks `cancelled` asks again."""
        self._arrives: sqlite3.Connection | None = None
        """The connection that knows the views for arrivals."""
        self._has_lines = False
        """Limited messages wait to be looked at, as of the last look."""
        row = (
            str(incarnation),
            name,
            to_json(self._queues),
            lease_s,
            database.clock.monotonic() + lease_s,
            boot_id(),
            processes.pid_space(),
            os.getpid(),
            processes.own_start(),
        )

        def enter(link: sqlite3.Connection) -> int:
            handle = link.execute(SQL["enter"], row).lastrowid
            assert handle is not None
            return handle

        try:
            self._handle = self._run("enter a consumer into", enter)
        except sqlite3.IntegrityError as exc:
            self._drop_link()
            raise ValueError(f"incarnation {incarnation} consumes already; make a new one for each consumer") from exc

    # -- claiming

    def claim(self, limit: int) -> list[Delivery]:
        """Take up to `limit` messages; they stay in `untold` until the caller has them.

        Raises:
            LeaseLostError: The incarnation is no more.
        """
        if not self.untold:
            self.untold = self._take(limit)
            if len(self.untold) >= limit:
                self._room.ring(self.mask)  # more may be there than was taken: pass it on
        return self.untold

    def undo_claim(self) -> None:
        """Give back what a claim took whose caller has gone away."""
        if self.untold:
            self.settle([Release(delivery=delivery) for delivery in self.untold])
            self.untold = []

    def _take(self, limit: int) -> list[Delivery]:
        if self._unread is None:
            if self._mean_bytes * limit > _CONTENT_BYTES:
                limit = max(1, int(_CONTENT_BYTES / self._mean_bytes))
            queues = self._queues
            claim = self._next_claim()
            now = self._database.clock.time()
            in_line = self._has_lines
            if in_line:
                self._claim_in_line(claim, limit, now)
            else:
                parameters = (self._handle, claim, to_json(queues), limit, now)
                self._run("claim from", lambda link: link.execute(SQL["claim"], parameters))
            self._unread = (claim, queues, in_line)
        claim, queues, in_line = self._unread  # what was claimed but could not be read is read the next time
        found = self._read(claim, queues, in_line=in_line)
        self._unread = None
        if not found and self._sees_lines() and not in_line:
            return self._take(limit)
        if found:
            self._claims = claim
            if len(queues) > 1:
                self._queues = [*queues[1:], queues[0]]
        return found

    def _claim_in_line(self, claim: int, limit: int, now: float) -> None:
        queues = self._queues

        def work(link: sqlite3.Connection) -> bool:
            claim_in_line(link, self._handle, claim, queues, limit, now)
            return look(link, now)[0]

        self._has_lines = self._run("claim from", transaction(work))

    def _sees_lines(self) -> bool:
        """After a claim that took nothing: whether limited messages wait; notes when to look again."""
        now = self._database.clock.time()
        self._has_lines, at = self._run("look into", lambda link: look(link, now))
        if at is not None:
            self.next_due = at if self.next_due is None else min(at, self.next_due)
        return self._has_lines

    def _next_claim(self) -> int:
        claim = self._claims + 1
        if claim > CLAIM_MASK:
            claim, self._is_wrapped = 1, True
        while self._is_wrapped and self._is_in_use(claim):
            claim = claim % CLAIM_MASK + 1
        return claim

    def _is_in_use(self, claim: int) -> bool:
        key = (self._handle, claim)
        return bool(self._run("look at", lambda link: link.execute(SQL["claim_in_use"], key).fetchone()[0]))

    def _read(self, claim: int, queues: Sequence[str], *, in_line: bool) -> list[Delivery]:
        key = (self._handle, claim)
        try:
            facts, content, self.next_due, is_alive, is_marked = self._run(
                "read from", lambda link: link.execute(SQL["read"], key).fetchone()
            )
        except sqlite3.DataError:  # together they are more than one value may hold
            self.marked_claims += 1
            return self._read_rows(claim, queues)
        if is_marked:
            self.marked_claims += 1
        if facts is None:
            if not is_alive:
                raise self._lost()
            return []
        if in_line:
            return self._read_rows(claim, queues)
        deliveries = deliveries_of(facts, content, claim, queues)
        self._mean_bytes += (len(content) / len(deliveries) - self._mean_bytes) / 4
        return deliveries

    def _read_rows(self, claim: int, queues: Sequence[str]) -> list[Delivery]:
        key = (self._handle, claim)
        rows = self._run("read from", lambda link: link.execute(SQL["read_rows"], key).fetchall())
        self._mean_bytes = sum(len(row[-2]) + len(row[-1]) for row in rows) / max(1, len(rows))
        deliveries = [
            Delivery(
                tag=seq << CLAIM_BITS | claim,
                id=task_id,
                queue=queue,
                headers=headers,
                body=body,
                priority=priority,
                deliveries=count,
                enqueued_at=enqueued_at,
                limit_key=limit_key,
            )
            for seq, task_id, queue, priority, count, enqueued_at, limit_key, headers, body in rows
        ]
        return in_order(deliveries, queues)

    def adopt(self, incarnation: Incarnation, ids: Collection[TaskId]) -> list[Delivery]:
        """As `Consumer.adopt`."""
        claim = self._next_claim()
        parameters = (self._handle, claim, incarnation, to_json(list(ids)))
        self._run("adopt from", lambda link: link.execute(SQL["adopt"], parameters))
        self._claims = claim
        return self._read(claim, self._queues, in_line=True)

    # -- settling

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        """As `Consumer.settle`."""
        if not outcomes:
            return []
        now = self._database.clock.time()
        if all(type(outcome) is Done and outcome.delivery.limit_key is None for outcome in outcomes):
            change = _Change(self._handle, outcomes, now)
            if not change.is_special:
                try:
                    self._write(change)
                except sqlite3.IntegrityError:
                    pass  # not all of it is ours any more: see one by one
                else:
                    self._after(outcomes, self._released(change.arrivals) if change.arrivals else ())
                    return [Settled.OK] * len(outcomes)
        answers, kept, opened = self._run("settle in", transaction(lambda link: self._settle_each(link, outcomes, now)))
        self._after(kept, opened)
        return answers

    def _write(self, change: _Change) -> None:
        """A settlement in one statement."""
        if change.arrivals is None:
            self._run("settle in", lambda link: link.execute(SQL["settle"], change.parameters))
            return
        parameters = (*change.parameters, *_parameters_of(change.arrivals, change.now)[1:])

        def write(link: sqlite3.Connection) -> None:
            self._learn_arrivals(link)
            link.execute(SQL["settle_arriving"], parameters)

        self._run("settle in", write)

    def _learn_arrivals(self, link: sqlite3.Connection) -> None:
        if self._arrives is not link:
            prepare_arrivals(link)
            link.execute(SQL["settlement_arriving"])
            link.execute(SQL["settle_arriving_trigger"])
            self._arrives = link

    def _released(self, arrivals: Arrivals) -> list[str]:
        """After a settlement: the queues of what was released, as far as one can tell."""
        joins = arrivals.releases
        try:
            released = self._run("look into", lambda link: joins_among(link, "released", joins))
        except (Locked, BrokerError):  # it is settled, so this must not fail
            released = set(joins)
        return [joins[join].queue for join in released]

    def _settle_each(
        self, link: sqlite3.Connection, outcomes: Sequence[Outcome], now: float
    ) -> tuple[list[Settled], list[Outcome], set[str]]:
        tags = [outcome.delivery.tag for outcome in outcomes]
        found = link.execute(SQL["held_tags"], (self._handle, to_json(tags))).fetchone()[0]
        held = set() if found is None else {int(tag) for tag in str(found).split(",")}
        answers: list[Settled] = []
        kept: list[Outcome] = []
        for outcome, tag in zip(outcomes, tags, strict=True):
            if tag in held:
                held.remove(tag)  # the same delivery twice in a batch: the first counts
                answers.append(Settled.OK)
                kept.append(outcome)
            else:
                answers.append(Settled.LEASE_LOST)
        keys: dict[str, None] = {}
        for outcome in kept:
            key = outcome.delivery.limit_key
            if key is not None:
                keys[key] = None
            seq = int(outcome.delivery.tag) >> CLAIM_BITS
            if isinstance(outcome, Bury):
                link.execute(SQL["bury"], (seq,))
                link.execute(SQL["free_unique"], (outcome.delivery.id,))
                link.execute(SQL["explain"], (seq, outcome.reason, outcome.detail, now))
            elif isinstance(outcome, Release):
                if not _drop_if_cancelled(link, seq, outcome.delivery.id, now):
                    link.execute(SQL["release"], (seq, 0 if outcome.spent else 1))
            elif isinstance(outcome, Later) and not _drop_if_cancelled(link, seq, outcome.delivery.id, now):
                row = row_of(outcome.message, now)
                limit = outcome.message.limit
                link.execute(SQL["later"], (seq, *row[1:7], *row[8:], None if limit is None else limit.key, now))
                if limit is not None or key is not None:
                    keys[put_later(link, outcome.message, key or "", now)] = None
        opened: set[str] = set()
        if kept:
            change = _Change(self._handle, kept, now)
            link.execute(SQL["settle"], change.parameters)
            if change.limited:
                _publish_limited(link, change.limited, now)
            for workflow in change.workflows:
                save_records(link, workflow.records)
                open_joins(link, workflow.joins, now)
            if change.arrivals is not None:
                self._learn_arrivals(link)
                opened = _arrive(link, change.arrivals, now)
            for workflow in change.workflows:
                close_joins(link, workflow.closed, now)
        if keys:
            opened |= open_gates(link, keys, now)
        return answers, kept, opened

    def _after(self, outcomes: Sequence[Outcome], opened: Collection[str] = ()) -> None:
        """Wake whom it concerns, after the commit."""
        queues: list[str] = list(opened)
        has_final = False
        for outcome in outcomes:
            if isinstance(outcome, Release):
                queues.append(outcome.delivery.queue)
                has_final = True  # if it was cancelled
                continue
            if isinstance(outcome, Later):
                queues.append(outcome.message.queue)
            else:
                if outcome.successors:
                    queues += [message.queue for message in outcome.successors]
                if outcome.workflow is not None and not has_final:
                    has_final = any(is_final(result.state) for result in outcome.workflow.results)
            if outcome.result is not None and not has_final:
                has_final = is_final(outcome.result.state)
        if has_final:
            self._room.ring_results()
        if queues:
            self._room.ring(mask_of(set(queues)), 1 + len(queues) // 64)
        self.written += 8 + len(outcomes)
        if self._checkpoints_itself and self._link is not None:
            self._database.keep_wal_small(self._link)

    # -- the rest

    def checkpoint(self) -> None:
        """Keep the log small, for a consumer whose commits do not."""
        self.written = 0
        if self._link is not None:
            self._database.checkpoint(self._link)

    def cancelled(self, ids: Collection[TaskId]) -> list[Cancellation]:
        """As `Consumer.cancelled`."""
        parameters = (to_json(list(ids)), self._database.clock.time())
        rows = self._run("look at", lambda link: link.execute(SQL["cancelled"], parameters).fetchall())
        return [
            Cancellation(id=task_id, terminate=bool(terminate), signal=name, hand_out=bool(hand_out))
            for task_id, terminate, name, hand_out in rows
        ]

    def beat(self) -> None:
        """As `Consumer.beat`."""
        parameters = (to_json([self.incarnation]), self._database.clock.monotonic())
        if not self._run("beat in", lambda link: link.execute(SQL["renew"], parameters).rowcount):
            raise self._lost()

    def close(self) -> None:
        """Give back what is held, unspent, and end the incarnation."""
        now = self._database.clock.time()

        def end(link: sqlite3.Connection) -> int:
            return end_incarnation(link, self._handle, (), now)

        try:
            if self._run("leave", transaction(end)):
                self._room.ring(self.mask)
            self._room.ring_results()  # of what was cancelled, perhaps
        finally:
            self._drop_link()

    def _lost(self) -> LeaseLostError:
        return LeaseLostError(
            f"incarnation {self.incarnation} was reaped, abandoned or closed: what it held belongs to others now; "
            "open another consumer"
        )

    def _run(self, doing: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work on the consumer's connection; a connection that failed is replaced."""
        link = self._link
        try:
            if link is None:
                link = self._link = self._database.connect()
                for name in ("claiming", "claim_trigger", "settlement", "settle_trigger"):
                    link.execute(SQL[name])
                if not self._checkpoints_itself:
                    link.execute("PRAGMA wal_autocheckpoint = 0")
            if not self.is_hasty:
                return self._database.retry(work, link)
            try:
                return work(link)
            except sqlite3.OperationalError as exc:
                if link.in_transaction:
                    link.execute("ROLLBACK")
                if faults.is_busy(exc):
                    raise Locked from None
                raise
        except (sqlite3.IntegrityError, sqlite3.DataError):
            raise  # a rule of ours said no
        except sqlite3.Error as exc:
            if not faults.is_busy(exc):
                self._drop_link()
            raise faults.translate(exc, doing, self._database.path, self._database.timeout_s) from exc

    def _drop_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            self._database.discard(link)


class _Change:
    """What outcomes change, in the form that the triggers take."""

    __slots__ = ("arrivals", "is_special", "limited", "now", "parameters", "workflows")

    def __init__(self, handle: int, outcomes: Sequence[Outcome], now: float) -> None:
        tags: list[int | str] = []
        results: list[StoredResult] = []
        successors: list[Outgoing] = []
        arrivals: list[Arrival] = []
        self.now = now
        self.workflows: list[Workflow] = []
        """Those with more than results and arrivals."""
        self.limited: list[Outgoing] = []
        """The successors, when some of them are limited: no trigger can publish those."""
        self.arrivals: Arrivals | None = None
        for outcome in outcomes:
            if type(outcome) is Release:
                continue
            if outcome.result is not None:  # type: ignore[union-attr]
                results.append(outcome.result)  # type: ignore[union-attr]
            if type(outcome) is Later:
                continue
            if type(outcome) is Done:
                tags.append(outcome.delivery.tag)
            successors += outcome.successors  # type: ignore[union-attr]
            workflow = outcome.workflow  # type: ignore[union-attr]
            if workflow is not None:
                results += workflow.results
                arrivals += workflow.arrivals
                if workflow.records or workflow.joins or workflow.closed:
                    self.workflows.append(workflow)
        if successors and any(message.limit is not None for message in successors):
            self.limited = successors  # all of them, so that they keep their order
            successors = []
        if arrivals:
            self.arrivals = Arrivals(arrivals)
        self.is_special = bool(
            self.workflows
            or self.limited
            or (arrivals and any(message.limit is not None for message in self.arrivals.releases.values()))  # type: ignore[union-attr]
        )
        """Takes more than one statement."""
        facts, payloads = results_of(results) if results else ("[]", b"")
        following, contents = successors_of(successors, now) if successors else ("[]", b"")
        self.parameters: tuple[object, ...] = (
            handle,
            now,
            len(tags),
            to_json(tags),
            facts,
            payloads,
            following,
            contents,
        )


def _parameters_of(arrivals: Arrivals, now: float) -> tuple[object, ...]:
    """For the statement `arrive`, with the releases that no limit holds back."""
    joins = [join for join, message in arrivals.releases.items() if message.limit is None]
    facts, contents = facts_of([arrivals.releases[join] for join in joins], now)
    for join, release in zip(joins, facts, strict=True):
        arrivals.joins[join][2:] = release
    return arrivals.parameters(now, contents)


def _arrive(link: sqlite3.Connection, arrivals: Arrivals, now: float) -> set[str]:
    """Let members arrive, and publish what that releases, limited messages too; returns their queues."""
    link.execute(JOINS["arrive"], _parameters_of(arrivals, now))
    queues = {arrivals.releases[join].queue for join in joins_among(link, "released", arrivals.releases)}
    limited = [join for join, message in arrivals.releases.items() if message.limit is not None]
    if limited:
        complete = joins_among(link, "unreleased", limited)
        _publish_limited(link, [arrivals.releases[join] for join in limited if join in complete], now)
        link.executemany(JOINS["release"], [(join,) for join in complete])
        queues |= {arrivals.releases[join].queue for join in complete}
    return queues


def _publish_limited(link: sqlite3.Connection, messages: Sequence[Outgoing], now: float) -> None:
    insert_special(link, [(message, row_of(message, now)) for message in messages], now)
    link.executemany(SQL["store_revoked"], [(message.id, now) for message in messages])


def _drop_if_cancelled(link: sqlite3.Connection, seq: int, task_id: TaskId | str, now: float) -> bool:
    """Whether a message that comes back was cancelled, and is gone."""
    dropped = link.execute(SQL["drop_if_cancelled"], (seq, now)).rowcount > 0
    if dropped:
        link.execute(SQL["store_revoked"], (task_id, now))
    return dropped


def end_incarnation(link: sqlite3.Connection, handle: int, running: Collection[TaskId] | None, now: float) -> int:
    """Give back all that an incarnation holds, and forget it; returns how many messages went back.

    Args:
        link: In a transaction.
        handle: Of the incarnation.
        running: Ids whose delivery stays counted; None: all of them do.
        now: Wall clock.
    """
    keys = [key for (key,) in link.execute(SQL["held_keys"], (handle,)).fetchall()]
    dropped = link.execute(SQL["forget_cancelled"], (handle, now)).fetchall()
    link.executemany(SQL["store_revoked"], [(task_id, now) for (task_id,) in dropped])
    counted = None if running is None else msgspec.json.encode(list(running)).decode()
    returned = link.execute(SQL["give_back"], (handle, counted)).rowcount
    link.execute(SQL["leave"], (handle,))
    open_gates(link, keys, now)
    return returned
