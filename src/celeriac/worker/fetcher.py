"""Decides how much to claim, and claims it: about 75 ms of work at a time, never much more than can start soon.

Nobody tunes a prefetch multiplier: the moving average of task duration says how many tasks those 75 ms are. `def` and
`async def` tasks come from the same queues, so the room of both kinds counts, weighted by what came lately.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from celeriac.errors import BrokerError, LeaseLostError
from celeriac.worker.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from celeriac.clock import Clock
    from celeriac.model import Delivery
    from celeriac.worker.desk import Desk
    from celeriac.worker.lease import Lease
    from celeriac.worker.runners import AsyncRunner, Runner
    from celeriac.worker.slots import Slot

_log = logging.getLogger("celeriac.worker")

MOST = 512
"""Messages of one claim."""
WAIT_S = 5.0
"""How long one claim waits for work; each return is a sign of life for the supervisor."""
HAND_OVER_S = 1e-3
"""How long a process that was idle claims nothing more after it was given one task: a runner that wakes up meanwhile
finds the interpreter free. Without this, a task started 0.2 ms later."""
_SHARE_WEIGHT = 0.3
_PROBE_S = 0.25


class Capacity:
    """How many messages may be claimed now."""

    def __init__(
        self,
        *,
        desk: Desk,
        runners: Sequence[Runner],
        async_runner: AsyncRunner,
        clock: Clock,
        ahead_s: float,
        most: int,
        allowance: int | None,
    ) -> None:
        """Wire it.

        Args:
            desk: Where `def` tasks wait.
            runners: Who takes them from there.
            async_runner: Runs the others.
            clock: Tells how long a runner has been at it.
            ahead_s: Seconds of work to hold.
            most: Messages of one claim.
            allowance: Tasks that this process may still run; None: no limit.
        """
        self._desk = desk
        self._runners = runners
        self._async = async_runner
        self._clock = clock
        self._ahead_s = ahead_s
        self._most = most
        self.allowance = allowance
        self._async_share = 0.5
        self._probe_at = 0.0

    def limit(self) -> int:
        """Messages to claim now; 0: wait until something has ended."""
        now = self._clock.monotonic()
        room, async_room = self._room(now), self._async_room()
        share = self._async_share
        if room <= 0 and async_room <= 0:
            return 0
        if share < 0.02:
            wanted = float(room)
        elif share > 0.98:
            wanted = float(async_room)
        else:
            wanted = min(room / (1.0 - share), async_room / share)
        if wanted < 1.0:
            # One kind is full and the other is not, and nobody knows which comes next: try one now and then. What
            # cannot start is given back to others after a second.
            if now < self._probe_at:
                return 0
            self._probe_at = now + _PROBE_S
            wanted = 1.0
        limit = min(int(wanted), self._most)
        return limit if self.allowance is None else min(limit, self.allowance)

    def _room(self, now: float) -> int:
        waiting = self._desk.ready.qsize()
        free = 0
        newest = 0.0
        average_s = 0.0
        for runner in self._runners:
            free += runner.epoch == 0
            newest = max(newest, runner.started)
            average_s += runner.average_s
        workers = len(self._runners)
        average_s /= workers
        if free == 0:
            average_s = max(average_s, now - newest)
        ahead = int(min(self._ahead_s * workers / max(average_s, 1e-7), 2.0 * self._most))
        if ahead < free:
            return free - waiting
        # About two batches ahead, so that neither a claim nor a settlement on its way leaves a runner without work.
        return 0 if waiting > ahead // 2 else ahead - waiting

    def _async_room(self) -> int:
        runner = self._async
        free, waiting = runner.free, len(runner.backlog)
        slots = free + len(runner.running)
        ahead = int(min(self._ahead_s * slots / max(runner.average_s, 1e-7), self._most))
        return free + ahead - waiting

    def took(self, count: int, async_count: int) -> None:
        """Learn from a claim of `count` messages, `async_count` of them for the loop."""
        self._async_share += _SHARE_WEIGHT * (async_count / count - self._async_share)
        if self.allowance is not None:
            self.allowance -= count

    def gave_back(self, count: int) -> None:
        """That many were released unstarted."""
        if self.allowance is not None:
            self.allowance += count


class Fetcher:
    """The claim loop of one process."""

    def __init__(
        self,
        *,
        capacity: Capacity,
        slot: Slot,
        clock: Clock,
        lease: Callable[[], Lease],
        wait_s: float,
        look: Callable[[Sequence[Delivery]], Awaitable[None]],
        accept: Callable[[Lease, Sequence[Delivery], int], bool],
        on_lost: Callable[[Lease, LeaseLostError], Awaitable[None]],
    ) -> None:
        self._capacity = capacity
        self._slot = slot
        self._clock = clock
        self._lease = lease
        self._wait_s = wait_s
        self._look = look
        self._accept = accept
        self._on_lost = on_lost
        self._room = asyncio.Event()
        self._backoff = Backoff()
        self._stopped = asyncio.Event()
        self._claiming = False

    def wake(self) -> None:
        """Something has ended: there may be room."""
        self._room.set()

    def stop(self) -> None:
        """Claim nothing more; `run` returns soon, when a claim under way has been interrupted."""
        self._stopped.set()
        self._room.set()
        if self._claiming:
            self._lease().consumer.interrupt()

    async def run(self) -> None:
        """Claim until stopped. Transport errors are waited out; whatever happens, the loop goes on."""
        loop = asyncio.get_running_loop()
        while not self._stopped.is_set():
            self._slot.progress = self._clock.monotonic()
            limit = self._capacity.limit()
            if limit <= 0:
                self._room.clear()
                timer = loop.call_later(min(self._wait_s, _PROBE_S * 2), self._room.set)
                await self._room.wait()
                timer.cancel()
                continue
            lease = self._lease()
            # Read before the claim: what is cancelled after this shows as another stamp when the task starts.
            stamp = lease.consumer.cancel_stamp
            try:
                self._claiming = True
                try:
                    deliveries = await lease.consumer.claim(limit=limit, wait_s=self._wait_s)
                finally:
                    self._claiming = False
                if deliveries:
                    await self._look(deliveries)
                    self._room.clear()
                    if self._accept(lease, deliveries, stamp):
                        # The runner that wakes up needs the interpreter, so the loop sleeps until the task has ended,
                        # if that is soon. Then its settlement is sent first, and the next claim is prepared while the
                        # server works on that.
                        timer = loop.call_later(HAND_OVER_S, self._room.set)
                        await self._room.wait()
                        timer.cancel()
                self._backoff.reset()
            except LeaseLostError as exc:
                await self._on_lost(lease, exc)
            except Exception as exc:
                delay_s = self._backoff.next()
                if isinstance(exc, BrokerError):  # its message says all; a stack says nothing to who runs the broker
                    _log.warning("cannot claim (%s); trying again in %.1f s", exc, delay_s)
                else:
                    _log.exception("the claim loop failed; it goes on in %.1f s", delay_s)
                try:
                    async with asyncio.timeout(delay_s):
                        await self._stopped.wait()
                except TimeoutError:
                    pass
