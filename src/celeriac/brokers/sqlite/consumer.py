"""The consumer: waits on the event loop, works in its lane."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from celeriac.brokers.sqlite.ledger import Ledger, Locked
from celeriac.errors import LeaseLostError
from celeriac.model import Settled
from celeriac.storage.sqlite import FALLBACK_S, Lane, Seat, WakeRoom

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from celeriac.model import Cancellation, Delivery, Incarnation, Outcome, TaskId
    from celeriac.probe import Probe
    from celeriac.storage.sqlite import Database

A = TypeVar("A")
T = TypeVar("T")


_WRITTEN_MOST = 8192
"""Messages settled between two checkpoints, a settlement counting as 8 more: 10 to 20 MiB of log."""


_LONG_IDLE = 20
"""After so many looks in vain, those who wait look half as often: 0.1 % of a core instead of 0.15 %."""


class _Wait:
    """One claim that waits; ends early when rung or interrupted."""

    __slots__ = ("is_interrupted", "is_rung", "sleeper")

    def __init__(self) -> None:
        self.sleeper: asyncio.Future[None] | None = None
        self.is_interrupted = False
        self.is_rung = False

    def wake(self) -> None:
        if self.sleeper is not None and not self.sleeper.done():
            self.sleeper.set_result(None)


class SqliteConsumer:
    """One incarnation's door to the queues."""

    def __init__(self, database: Database, room: WakeRoom, lane: Lane, ledger: Ledger, probe: Probe) -> None:
        self._database = database
        self._room = room
        self._lane = lane
        self._ledger = ledger
        self._probe = probe
        self._loop = asyncio.get_running_loop()
        self._waits: set[_Wait] = set()
        self._seat: Seat | None = None
        self._is_closed = False
        self._is_prompt = database.durability == "process"
        self._seen: object = None
        self._look_again = False
        self._looks = 0

    @classmethod
    async def open(
        cls,
        database: Database,
        queues: Sequence[str],
        incarnation: Incarnation,
        lease_s: float,
        name: str,
        probe: Probe,
    ) -> SqliteConsumer:
        """Enter the incarnation and take a seat in the wake room."""
        lane = Lane(f"celeriac-sqlite-{incarnation[:8]}")
        room: WakeRoom | None = None
        try:
            await lane.run(database.prepare)
            room = WakeRoom(database.wake_directory)
            ledger = await lane.run(Ledger, database, room, queues, incarnation, lease_s, name)
            consumer = cls(database, room, lane, ledger, probe)
            if queues:
                consumer._take_seat(await lane.run(room.sit, "c", ledger.mask))
        except BaseException:
            lane.stop()
            if room is not None:
                room.close()
            raise
        return consumer

    @property
    def incarnation(self) -> Incarnation:
        return self._ledger.incarnation

    @property
    def cancel_stamp(self) -> int:
        return self._room.stamp + self._ledger.marked_claims

    async def claim(self, /, *, limit: int, wait_s: float) -> Sequence[Delivery]:
        self._check_open()
        found: Sequence[Delivery]
        if wait_s > 0:
            wait = _Wait()  # there from the beginning, or an interrupt during the first look would go unheard
            self._waits.add(wait)
            try:
                found = await self._take(self._ledger.claim, limit)
                if not found:
                    found = await self._claim_waiting(limit, wait_s, wait)
            finally:
                self._waits.discard(wait)
        else:
            found = await self._take(self._ledger.claim, limit)
        self._probe.signal("claimed", len(found))
        return found

    async def _claim_waiting(self, limit: int, wait_s: float, wait: _Wait) -> Sequence[Delivery]:
        loop, ledger, seat, clock = self._loop, self._ledger, self._seat, self._database.clock
        deadline = loop.time() + wait_s
        try:
            while not self._is_closed:
                wait.is_rung = False
                if seat is not None:
                    seat.wait_for_ring()  # before the look that follows, or a publish between them would go unnoticed
                found = await self._take(ledger.claim, limit)
                if found:
                    self._looks = 0
                    return found
                self._probe.signal("waiting", self.incarnation)
                while not wait.is_rung:
                    left_s = deadline - loop.time()
                    if left_s <= 0 or wait.is_interrupted or self._is_closed:
                        return []
                    due_s = left_s if ledger.next_due is None else ledger.next_due - clock.time()
                    if due_s <= 0:
                        break
                    pause_s = FALLBACK_S if self._looks < _LONG_IDLE else 2 * FALLBACK_S
                    await self._sleep(wait, min(left_s, due_s, pause_s))
                    self._looks += 1
                    if self._has_changed():
                        break
            return []
        finally:
            self._waits.discard(wait)
            if seat is not None and not self._waits and not self._is_closed and seat.is_rung():
                self._room.ring(ledger.mask)  # it was for a message that this claim does not take

    def _has_changed(self) -> bool:
        """Whether somebody, perhaps one who does not ring, may have written since this was asked last.

        Costs one `stat` of the log on the event loop; asking SQLite in the lane took 2.5 ms of processor time a second.
        Two writes within one tick of the file system's clock look like one, so a change counts twice.
        """
        seen, self._seen = self._seen, self._database.wal_state()
        changed = seen != self._seen
        again, self._look_again = self._look_again, changed
        return changed or again

    async def _sleep(self, wait: _Wait, pause: float) -> None:
        if pause <= 0 or wait.is_interrupted or wait.is_rung:
            return
        wait.sleeper = self._loop.create_future()
        timer = self._loop.call_later(pause, wait.wake)
        try:
            await wait.sleeper
        finally:
            timer.cancel()
            wait.sleeper = None

    async def _take(self, work: Callable[[int], list[Delivery]], limit: int) -> list[Delivery]:
        """Claim in the lane. When the caller goes away meanwhile, what was taken goes back before he is let go."""
        self._check_open()
        try:
            found = self._try_now(work, limit)
        except Locked:
            future = self._lane.run(work, limit)
            try:
                found = await asyncio.shield(future)
            except asyncio.CancelledError:
                future.cancel()  # spares it when it has not begun
                if not self._is_closed:
                    await asyncio.wait((self._lane.run(self._ledger.undo_claim),))
                raise
        if self._is_closed:
            return []  # closing has given it back
        if found:
            self._ledger.untold = found[limit:]
            if len(found) > limit:
                return found[:limit]
        return found

    def _try_now(self, work: Callable[[A], T], argument: A) -> T:
        """Do it on the event loop, when it is known to be short: no fsync to wait for, and the lock is free.

        Raises:
            Locked: It is not; nothing was done.
        """
        if not self._is_prompt or not self._lane.is_idle:
            raise Locked
        self._ledger.is_hasty = True
        try:
            return work(argument)
        finally:
            self._ledger.is_hasty = False
            if self._ledger.written > _WRITTEN_MOST:
                self._ledger.written = 0
                self._lane.run(self._ledger.checkpoint)  # it ends in an fsync, so not here

    async def settle(self, outcomes: Sequence[Outcome], /) -> Sequence[Settled]:
        if self._is_closed:
            return [Settled.LEASE_LOST] * len(outcomes)
        try:
            answers = self._try_now(self._ledger.settle, outcomes)
        except Locked:
            answers = await self._lane.run(self._ledger.settle, outcomes)
        self._probe.signal("settled", len(answers))
        return answers

    async def adopt(self, incarnation: Incarnation, ids: Collection[TaskId], /) -> Sequence[Delivery]:
        self._check_open()
        return await self._lane.run(self._ledger.adopt, incarnation, ids)

    async def cancelled(self, ids: Collection[TaskId], /) -> Sequence[Cancellation]:
        self._check_open()
        return await self._lane.run(self._ledger.cancelled, ids)

    def interrupt(self) -> None:
        for wait in self._waits:
            wait.is_interrupted = True
            wait.wake()

    async def beat(self) -> None:
        self._check_open()
        await self._lane.run(self._ledger.beat)

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self.interrupt()
        if self._seat is not None:
            self._loop.remove_reader(self._seat.bell)
            self._seat.leave()
        try:
            await asyncio.shield(self._lane.run(self._ledger.close))
        finally:
            self._lane.stop()
            self._room.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise LeaseLostError(f"the consumer of incarnation {self.incarnation} is closed; open another one")

    def _take_seat(self, seat: Seat | None) -> None:
        self._seat = seat
        if seat is not None:
            self._loop.add_reader(seat.bell, self._hear, seat)

    def _hear(self, seat: Seat) -> None:
        seat.silence()
        for wait in self._waits:
            wait.is_rung = True
            wait.wake()
