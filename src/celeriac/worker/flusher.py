"""Settles what has ended: at once when the process is idle, else a few milliseconds or a hundred outcomes together."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from celeriac.errors import BrokerError, BrokerUnavailableError, ConfigError, EnqueueUnknownError, LeaseLostError
from celeriac.model import Bury, Done, Later, Release, Settled
from celeriac.model.states import FAILURE, REVOKED
from celeriac.worker.backoff import Backoff
from celeriac.worker.desk import FULL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from celeriac.clock import Clock
    from celeriac.engine.settle import Settler
    from celeriac.model import Outcome
    from celeriac.probe import Probe
    from celeriac.worker.desk import Desk
    from celeriac.worker.lease import Lease
    from celeriac.worker.slots import Slot

_log = logging.getLogger("celeriac.worker")

COALESCE_S = 0.003
"""How long an outcome may wait for others while the process is busy."""
MOST = 1000
"""Outcomes of one settle call."""

_SUCCEEDED, _FAILED, _RETRIED, _RELEASED, _BURIED, _LOST = range(1, 7)
_MOST_UNKNOWN = 10
"""Answers that may be lost in a row before it is taken for the doing of one of the outcomes."""


class Flusher:
    """Takes outcomes from the lease and settles them in batches, one call at a time."""

    def __init__(
        self,
        *,
        desk: Desk,
        slot: Slot,
        settler: Settler,
        clock: Clock,
        probe: Probe,
        lease: Callable[[], Lease],
        is_idle: Callable[[], bool],
        on_lost: Callable[[Lease], Awaitable[None]],
        on_settled: Callable[[int], None],
        on_closed: Callable[[list[str]], None],
        give_up: Callable[[Done | Later, Exception], Outcome],
    ) -> None:
        """Wire it.

        Args:
            desk: Whose wake-up flags it clears.
            slot: Where it counts.
            settler: Makes the call.
            clock: For back-off.
            probe: Signalled `settled` with the outcomes of each call.
            lease: The current lease.
            is_idle: Whether nothing waits to run here, so that nothing is gained by waiting for more outcomes.
            on_lost: Told when the broker refused outcomes of a lease.
            on_settled: Told how many attempts have ended for good or for now (releases not counted).
            on_closed: Told which messages that were committed are settled.
            give_up: Makes the outcome of what the broker takes no other of, as `Executor.refused`.
        """
        self._desk = desk
        self._slot = slot
        self._settler = settler
        self._clock = clock
        self._probe = probe
        self._lease = lease
        self._is_idle = is_idle
        self._on_lost = on_lost
        self._on_settled = on_settled
        self._on_closed = on_closed
        self._give_up = give_up
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._turn = asyncio.Lock()
        self._backoff = Backoff()

    def wake(self) -> None:
        """There is something to settle."""
        self._wake.set()

    def wake_full(self) -> None:
        """There is enough to settle at once."""
        self._wake.set()
        self._full.set()

    async def run(self) -> None:
        """Settle until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            lease = self._lease()
            # A wake-up may be of what the last batch took along. Waiting for more of nothing would delay whatever ends
            # meanwhile, and end with a stale wake-up again: 3 ms for each step of a chain.
            if lease.done and len(lease.done) < FULL and not self._is_idle():
                self._full.clear()
                timer = loop.call_later(COALESCE_S, self._full.set)
                await self._full.wait()
                timer.cancel()
            while await self.flush():
                if lease.done and len(lease.done) < FULL and not self._is_idle():
                    self._wake.set()  # the rest may wait for more
                    break

    async def finish(self) -> None:
        """Settle everything that is done by now."""
        while await self.flush():
            pass

    async def flush(self) -> bool:
        """Settle one batch, after the one under way; False when nothing is left."""
        async with self._turn:
            desk = self._desk
            desk.kicked = False
            desk.full = False
            lease = self._lease()
            done = lease.done
            count = min(len(done), MOST)
            if not count or lease.lost:  # lost, and there is no other yet: whoever opens one wakes us
                return False
            outcomes = [done.popleft() for _ in range(count)]
            try:
                answers = await self._settle(lease, outcomes)
            except asyncio.CancelledError:
                done.extendleft(reversed(outcomes))  # settling the same again is safe
                raise
        if not lease.committed:
            self._tell(lease, outcomes, answers)
        if Settled.LEASE_LOST in answers:
            await self._on_lost(lease)
        if lease.committed:
            self._tell(lease, *self._sort_committed(lease, outcomes, answers))
        return True

    def _sort_committed(
        self, lease: Lease, outcomes: list[Outcome], answers: Sequence[Settled]
    ) -> tuple[list[Outcome], Sequence[Settled]]:
        """Keep those of committed messages that were refused, for the next lease; nobody else will settle them."""
        told: list[tuple[Outcome, Settled]] = []
        closed: list[str] = []
        for outcome, answer in zip(outcomes, answers, strict=True):
            task_id = outcome.delivery.id
            if task_id not in lease.committed:
                told.append((outcome, answer))
            elif answer is Settled.OK or not lease.lost:
                # refused although the lease is not lost: repeating it would change nothing
                del lease.committed[task_id]
                closed.append(task_id)
                told.append((outcome, answer))
            else:
                lease.done.append(outcome)
        if closed:
            self._on_closed(closed)
        return [outcome for outcome, _ in told], [answer for _, answer in told]

    async def _settle(self, lease: Lease, outcomes: list[Outcome]) -> Sequence[Settled]:
        is_suspect, unknown = False, 0
        while not lease.lost:
            try:
                answers = await self._settler.settle(lease.consumer, outcomes)
            except LeaseLostError:
                return [Settled.LEASE_LOST] * len(outcomes)
            except BrokerUnavailableError as exc:
                delay_s = self._backoff.next()
                _log.warning("cannot settle %d outcomes (%s); trying again in %.1f s", len(outcomes), exc, delay_s)
                await self._clock.sleep(delay_s)
            except Exception as exc:
                # An answer was lost, which says nothing of outcomes; a refusal behind that does
                unknown = unknown + 1 if isinstance(exc, EnqueueUnknownError) else 0
                if 0 < unknown < _MOST_UNKNOWN or not await self._is_well(lease):
                    delay_s = self._backoff.next()
                    _log.warning("cannot settle %d outcomes (%s); trying again in %.1f s", len(outcomes), exc, delay_s)
                    await self._clock.sleep(delay_s)
                    continue
                if not is_suspect:  # it may have recovered between the two
                    is_suspect = True
                    continue
                # Not a matter of time. Find the outcome that the broker refuses, so that it harms no other.
                if len(outcomes) > 1:
                    return [(await self._settle(lease, [outcome]))[0] for outcome in outcomes]
                return [await self._refused(lease, outcomes[0], exc)]
            else:
                self._backoff.reset()
                return answers
        return [Settled.LEASE_LOST] * len(outcomes)

    @staticmethod
    async def _is_well(lease: Lease) -> bool:
        """Whether the broker refuses these outcomes only, and not everything (a password that has changed, say)."""
        try:
            await lease.consumer.beat()
        except LeaseLostError:
            return True
        except Exception:
            return False
        return True

    async def _refused(self, lease: Lease, outcome: Outcome, exc: Exception) -> Settled:
        _log.error("the broker refuses the outcome of %s", outcome.delivery.id, exc_info=exc)
        fallback: Outcome
        if isinstance(outcome, (Done, Later)):
            fallback = await asyncio.to_thread(self._give_up, outcome, exc)
        elif isinstance(outcome, Bury) and (outcome.result or outcome.successors or outcome.workflow):
            # nobody can be told, then
            fallback = Bury(delivery=outcome.delivery, reason=outcome.reason, detail=outcome.detail)
        else:
            fallback = Release(delivery=outcome.delivery, spent=True)
        if type(fallback) is type(outcome) and isinstance(fallback, Release):
            # Even giving it back fails: leave it to the lease, which ends with this process.
            return Settled.OK
        if not isinstance(exc, (BrokerError, ConfigError)):
            await self._clock.sleep(self._backoff.next())  # a fault in an adapter must not become a busy loop
        return (await self._settle(lease, [fallback]))[0]

    def _tell(self, lease: Lease, outcomes: list[Outcome], answers: Sequence[Settled]) -> None:
        count = self._slot.count
        ended = succeeded = 0
        lost: list[str] = []
        postponed = lease.postponed
        for outcome, answer in zip(outcomes, answers, strict=True):
            if answer is not Settled.OK:
                lost.append(outcome.delivery.id)
                continue
            kind = type(outcome)
            if postponed and outcome.delivery.id in postponed:
                postponed.discard(outcome.delivery.id)
                kind = Release
            if kind is Done:
                ended += 1
                result = outcome.result  # type: ignore[union-attr]
                if result is None or result.state not in (FAILURE, REVOKED):
                    succeeded += 1
                else:
                    count(_FAILED)
            elif kind is Release:
                count(_RELEASED)
            elif kind is Later:
                ended += 1
                count(_RETRIED)
            else:
                ended += 1
                count(_BURIED)
        if succeeded:
            count(_SUCCEEDED, succeeded)
        if lost:
            count(_LOST, len(lost))
            _log.warning(
                "the lease on %d tasks was lost before they were settled; their outcomes are thrown away: %s",
                len(lost),
                ", ".join(lost[:5]) + (" …" if len(lost) > 5 else ""),
            )
        self._probe.signal("settled", outcomes)
        if ended:
            self._on_settled(ended)
