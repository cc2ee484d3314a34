"""The memory broker's consumer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from celeriac.brokers.memory.queues import Queues
from celeriac.errors import LeaseLostError
from celeriac.storage.memory import LoopWaiter

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from celeriac.brokers.memory.queues import Holder
    from celeriac.clock import Clock
    from celeriac.model import Cancellation, Delivery, Incarnation, Outcome, Settled, TaskId
    from celeriac.probe import Probe
    from celeriac.storage.memory import MemorySpace

_LOOK_AGAIN_S = 5.0
"""A waiting claim looks this often though nothing woke it: the wall clock may have been set forward."""


class MemoryConsumer:
    """One incarnation's door to the queues."""

    def __init__(self, space: MemorySpace, holder: Holder, clock: Clock, probe: Probe) -> None:
        self._space = space
        self._queues = space.part(Queues)
        self._holder = holder
        self._clock = clock
        self._probe = probe
        self._waiting: dict[LoopWaiter, None] = {}

    @property
    def incarnation(self) -> Incarnation:
        return self._holder.incarnation

    @property
    def cancel_stamp(self) -> int:
        return self._queues.stamp

    async def claim(self, /, *, limit: int, wait_s: float) -> Sequence[Delivery]:
        space, queues, holder, clock = self._space, self._queues, self._holder, self._clock
        with space.lock:
            self._check_alive()
            taken = queues.claim(holder, limit, clock.time())
        if not taken and wait_s > 0:
            taken = await self._claim_waiting(limit, clock.monotonic() + wait_s)
        self._probe.signal("claimed", len(taken))
        return taken

    async def _claim_waiting(self, limit: int, deadline: float) -> list[Delivery]:
        space, queues, holder, clock = self._space, self._queues, self._holder, self._clock
        waiter = LoopWaiter()
        while True:
            now = clock.time()
            left_s = deadline - clock.monotonic()
            with space.lock:
                # looking and listening are one step, or a publish between them would go unnoticed
                self._check_alive()
                taken = queues.claim(holder, limit, now)
                if taken or left_s <= 0:
                    return taken
                queues.listen(holder.queues, waiter)
                due = queues.next_due()
            if due is not None:
                left_s = min(left_s, due - now)
            self._waiting[waiter] = None
            self._probe.signal("waiting", holder.incarnation)
            timer = asyncio.ensure_future(clock.sleep(max(0.0, min(left_s, _LOOK_AGAIN_S))))
            try:
                await asyncio.wait((waiter.future, timer), return_when=asyncio.FIRST_COMPLETED)
            finally:
                timer.cancel()
                is_interrupted = waiter not in self._waiting
                self._waiting.pop(waiter, None)
                with space.lock:
                    queues.unlisten(holder.queues, waiter)
            if is_interrupted:
                return []
            waiter = LoopWaiter()

    def _check_alive(self) -> None:
        if self._holder.is_ended:
            raise LeaseLostError(
                f"incarnation {self._holder.incarnation} was reaped, abandoned or closed and can claim nothing; "
                "open another consumer"
            )

    async def settle(self, outcomes: Sequence[Outcome], /) -> Sequence[Settled]:
        with self._space.lock:
            answers = self._queues.settle(
                self._holder, outcomes, self._clock.time(), self._space.results, self._space.workflows
            )
        self._probe.signal("settled", len(answers))
        return answers

    async def adopt(self, incarnation: Incarnation, ids: Collection[TaskId], /) -> Sequence[Delivery]:
        with self._space.lock:
            self._check_alive()
            return self._queues.adopt(self._holder, incarnation, ids)

    async def cancelled(self, ids: Collection[TaskId], /) -> Sequence[Cancellation]:
        marks, now = self._queues.marks, self._clock.time()
        with self._space.lock:
            return [found[0] for task_id in ids if (found := marks.get(task_id)) is not None and found[1] > now]

    def interrupt(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            waiter.notify()

    async def beat(self) -> None:
        with self._space.lock:
            if not self._queues.renew(self._holder.incarnation, self._clock.monotonic()):
                raise LeaseLostError(
                    f"incarnation {self._holder.incarnation} has no lease to renew: reaped, abandoned or closed; "
                    "what it held belongs to others now"
                )

    async def close(self) -> None:
        self.interrupt()
        with self._space.lock:
            if not self._holder.is_ended:
                self._queues.end(self._holder, (), self._clock.time())
