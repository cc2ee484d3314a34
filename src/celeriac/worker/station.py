"""One place of work: an IO loop that claims, settles and runs async tasks, with runners for `def` tasks beside it.

A pool process is one station with its runner in the main thread; an embedded worker is one with threads only.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import math
from typing import TYPE_CHECKING, Final

from celeriac.clock import SYSTEM_CLOCK
from celeriac.engine.attempt import Attempt
from celeriac.engine.settle import Settler
from celeriac.errors import LeaseLostError
from celeriac.interfaces import Fenced, Keeper
from celeriac.model import Bury, Done, Release, Settled, new_incarnation
from celeriac.probe import Probe
from celeriac.worker.backoff import MOST_S, Backoff
from celeriac.worker.desk import Desk, Job
from celeriac.worker.events import Dispatcher, TaskEvents, casualty_event
from celeriac.worker.fetcher import MOST, WAIT_S, Capacity, Fetcher
from celeriac.worker.flusher import Flusher
from celeriac.worker.lease import Lease, safe_until
from celeriac.worker.limits import SoftLimits
from celeriac.worker.memory import resident_kib
from celeriac.worker.runners import AsyncRunner, MainRunner, Runner, ThreadRunner
from celeriac.worker.runtime import Orders
from celeriac.worker.slots import DRAINING, GONE, READY
from celeriac.worker.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from celeriac.clock import Clock
    from celeriac.model import Cancellation, Delivery, Outcome
    from celeriac.worker.board import Board
    from celeriac.worker.runtime import Runtime
    from celeriac.worker.slots import Slot

_log = logging.getLogger("celeriac.worker")

STUCK_S: Final = 1.0
"""What has waited that long behind running tasks is given back to others."""
WATCH_S: Final = 0.2
"""How often a busy station looks after what waits, and for orders to terminate."""
CLEANUP_S: Final = 1.0
"""What cancelled async tasks get to clean up at a shutdown."""
NOTED_S: Final = 0.1
"""For a task that has ended, and may be settled, to be no longer noted as running."""
SETTLE_S: Final = 5.0
"""How long the last settlement may take at a shutdown."""
CONNECTION_S: Final = 1.0
"""How often a lease that is a connection is looked at."""
SOON_S: Final = 0.005
"""When a task that may not run twice is taken out of its queue, after it was claimed by an idle process: such as end
before are acknowledged with their outcome anyway."""
COMMIT_S: Final = 0.05
"""How often a busy station looks for others that have started."""
LAST_EVENTS_S: Final = 1.0
"""How long sending the last events may take."""


SUSPECT: Final = -1
"""A job's stamp that no broker has: it was handed out before, and may have ended its process. Before it starts, what is
done here is settled, so that a second crash costs its neighbours nothing."""


class Station:
    """Claims, runs and settles until told to stop."""

    def __init__(
        self,
        runtime: Runtime,
        slot: Slot,
        *,
        main: bool,
        board: Board,
        orders: Orders,
        beats: bool = False,
        queues: Sequence[str] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        probe: Probe = Probe.INERT,
    ) -> None:
        """Wire it; nothing runs yet.

        Args:
            runtime: What the application hands a process.
            slot: Where it shows what it does.
            main: Without `threads`, `def` tasks run in the main thread, which then calls `runners[0].run()`.
            board: Shared with the worker's other processes.
            orders: What to obey from the first task on.
            beats: Renew the lease itself; otherwise a supervisor does.
            queues: Instead of the options' queues.
            clock: Monotonic time; sleeps.
            probe: Signalled `ready`, `claimed`, `settled`, `lease_lost`, `released`.
        """
        options = runtime.options
        self.options = options
        self.slot = slot
        self._runtime = runtime
        self.executor = self._executor = runtime.executor
        self._broker = runtime.links.broker
        self._queues = tuple(options.queues if queues is None else queues)
        self._clock = clock
        self._probe = probe
        self._beats = beats
        self._desk = Desk()
        self._limits = SoftLimits(clock)
        average_s = options.claim_ahead_s  # one at a time at first; a few dozen fast tasks later it is hundreds
        count = options.threads or 1
        kind: type[Runner] = MainRunner if main and not options.threads else ThreadRunner
        self.runners: list[Runner] = [
            kind(
                entry,
                desk=self._desk,
                slot=slot,
                executor=runtime.executor,
                clock=clock,
                limits=self._limits,
                vet=self._vet,
                average_s=average_s,
            )
            for entry in range(count)
        ]
        self._async = AsyncRunner(
            count,
            options.async_slots,
            slot=slot,
            executor=runtime.executor,
            clock=clock,
            vet=self._vet_on_loop,
            on_done=self._on_done,
            average_s=average_s,
        )
        self._capacity = Capacity(
            desk=self._desk,
            runners=self.runners,
            async_runner=self._async,
            clock=clock,
            ahead_s=options.claim_ahead_s,
            most=min(MOST, self._broker.traits.max_batch),
            allowance=options.max_tasks_per_child,
        )
        self._left_to_run = options.max_tasks_per_child
        self._lease: Lease | None = None
        self._opened = -math.inf
        self._hasty = Backoff()
        """Before the next lease, where one does not last: the broker takes us in and throws us out."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._settler = Settler(
            runtime.links.results,
            self._broker,
            fused=runtime.links.fused,
            tombstones_s=options.tombstones_s,
            clock=clock,
        )
        self._held_check_at = 0.0
        self._deadline = math.inf
        """When a stopping station no longer waits for running tasks; infinite while it is not stopping."""
        self.on_recycle: Callable[[], None] = lambda: None
        """Called on the loop when the process has run enough tasks or holds too much memory, and will leave."""
        self.on_ready: Callable[[], None] = lambda: None
        """Called on the loop once the first consumer is open."""
        self.on_unheld: Callable[[Sequence[Delivery]], None] = lambda _: None
        """Called on the loop with messages that are about to be taken out of their queues for good, while they run."""
        self.on_closed: Callable[[Sequence[str]], None] = lambda _: None
        """Called on the loop with the ids of such that are settled."""
        self._is_connection = self._broker.traits.lease_kind == "connection"
        self._estates: list[Lease] = []
        """Lost leases under which something still runs whose end is wanted: what was committed is ours to settle, and
        of the rest the result is kept, where it is not the broker that keeps it.
        """
        self._storing: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        """Of consumers whose leases are lost."""
        self._keeps_ends = self._is_connection and runtime.links.results is not None and not runtime.links.fused
        self._vetting: set[asyncio.Task[None]] = set()
        self._throttle = Throttle(board, clock, admit=self._admit, postpone=self._postpone)
        self._dispatcher: Dispatcher | None = None
        self._events: TaskEvents | None = None
        """Told of what is claimed; None while nobody wants to know."""
        self._all_events: TaskEvents | None = None
        if runtime.links.events is not None:
            self._dispatcher = Dispatcher(
                runtime.links.events, node=options.node, clock=runtime.executor.clock, logical=board.clock
            )
            self._all_events = TaskEvents(self._dispatcher, runtime.executor, options.node)
        self._obeyed = Orders()
        self.obey(orders)

    def obey(self, orders: Orders) -> None:
        """Do otherwise than before. Called on the loop, or before it runs."""
        executor = self._executor
        for name, limits in orders.limits.items():
            if limits != self._obeyed.limits.get(name):
                executor.relimit(name, *limits)
        self._obeyed = orders
        self._throttle.change(orders.rates)
        events = self._all_events
        if events is not None and orders.events != events.is_on:
            events.switch(orders.events)
            self._events = events if orders.events else None

    def guard(self, check: Callable[[], None]) -> None:
        """Have runners call `check` about once per batch, right after a task."""
        self._desk.guard = check

    @staticmethod
    def entries(threads: int, async_slots: int) -> int:
        """How many entries a slot needs."""
        return (threads or 1) + async_slots

    @property
    def lease(self) -> Lease:
        assert self._lease is not None
        return self._lease

    # -- life ----------------------------------------------------------------------------------------------------

    async def serve(self) -> bool:
        """Work until stopped.

        Returns:
            True when everything was finished or given back; False when a `def` task still runs that did not end in
            its time: the caller ends the process, or lives with a thread whose outcome nobody takes.
        """
        loop = self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._busy = asyncio.Event()
        self._once = asyncio.Event()
        self._renewed = asyncio.Event()
        """Whether no new lease is being taken."""
        self._renewed.set()
        self._doubt = asyncio.Lock()
        self._fetcher = Fetcher(
            capacity=self._capacity,
            slot=self.slot,
            clock=self._clock,
            lease=lambda: self.lease,
            wait_s=min(WAIT_S, self.options.lease_s / 3.0),
            look=self._executor.look_back,
            accept=self._accept,
            on_lost=self._renew,
        )
        self._flusher = Flusher(
            desk=self._desk,
            slot=self.slot,
            settler=self._settler,
            clock=self._clock,
            probe=self._probe,
            lease=self._heir,
            is_idle=self._is_idle,
            on_lost=self._refused,
            on_settled=self._on_settled,
            on_closed=lambda ids: self.on_closed(ids),
            give_up=self._executor.refused,
        )
        self._desk.attach(loop, self._on_done, self._on_full)
        self._limits.attach(loop, self.runners)
        if not await self._open():
            self.slot.state = GONE
            self._dismiss()
            return True
        self.slot.state = READY
        self.on_ready()
        self._probe.signal("ready")
        fetching = loop.create_task(self._fetcher.run(), name="fetcher")
        others = [
            loop.create_task(self._flusher.run(), name="flusher"),
            loop.create_task(self._watch(), name="watch"),
        ]
        if self._beats or self._is_connection:
            others.append(loop.create_task(self._beat(), name="beat"))
        if self.lease.committer is not None:
            others.append(loop.create_task(self._commit(), name="commit"))
        if self._dispatcher is not None:
            others.append(loop.create_task(self._dispatcher.run(), name="events"))
        stop = loop.create_task(self._stop.wait(), name="stop")
        try:
            # The other parts never end by themselves; one that does has a fault that must not be swallowed.
            done, _ = await asyncio.wait([stop, fetching, *others], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stop}:
                task.result()
            return await self._leave(fetching)
        finally:
            all_tasks = (stop, fetching, *others, *self._closing)
            for task in all_tasks:
                task.cancel()
            await asyncio.gather(*all_tasks, return_exceptions=True)
            if self._all_events is not None and self._dispatcher is not None:
                await self._dispatcher.finish(LAST_EVENTS_S)
                self._all_events.switch(False)
            self._dismiss()

    def _dismiss(self) -> None:
        for _ in self.runners:
            self._desk.ready.put(None)

    def stop(self, grace_s: float) -> None:
        """Stop claiming, give back what has not started, let what runs finish for `grace_s`. May be called again to
        shorten the time; from any thread.
        """
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._stop_soon, grace_s)
            except RuntimeError:
                pass  # the loop is closed: it has stopped

    def _stop_soon(self, grace_s: float) -> None:
        self._deadline = min(self._deadline, self._clock.monotonic() + grace_s)
        self._stop.set()
        # At once: were it told by `_leave`, a fetcher whose lease is lost, and which gets no other any more, would
        # claim in vain again and again without a pause, and never let `_leave` begin
        self._fetcher.stop()
        self._changed.set()

    async def _leave(self, fetching: asyncio.Task[None]) -> bool:
        self.slot.state = DRAINING
        self.lease.halted = True
        _log.debug("this process starts nothing more")
        self._release(self._take_unstarted())
        await asyncio.wait([fetching], timeout=SETTLE_S)
        self._release(self._take_unstarted())
        await self._wait_ended()
        if self._async.running:
            self._async.cancel("shutdown")
            self._deadline = self._clock.monotonic() + CLEANUP_S
            await self._wait_ended(only_async=True)
        lease = self.lease
        try:
            async with asyncio.timeout(SETTLE_S):
                await self._flusher.finish()
        except TimeoutError:
            _log.error("%d outcomes could not be settled before the end; their tasks will run again", len(lease.done))
            return False
        if any(runner.epoch for runner in self.runners) or self._async.running:
            return False
        if self._storing:
            await asyncio.wait(self._storing, timeout=SETTLE_S)
        if any(one.committed for one in (self.lease, *self._estates)):
            _log.error("what tasks returned that may not run twice could not be settled before the end")
            return False
        lease.lost = True  # by our own hand: that its connection ends now is news to nobody
        await self._close(lease)
        self.slot.state = GONE
        return True

    async def _close(self, lease: Lease) -> None:
        try:
            async with asyncio.timeout(SETTLE_S):
                await lease.consumer.close()
        except Exception as exc:  # it is given back when the supervisor abandons the incarnation, or by the reaper
            _log.warning("the lease could not be given back in order: %s", exc)

    def mark_terminated(self, task_id: str) -> None:
        """A running `def` task is about to be told by a signal: if it ends in an exception now, it was revoked."""
        for runner in self.runners:
            attempt = runner.attempt
            if attempt is not None and attempt.id == task_id:
                attempt.stop_reason = "terminated"

    async def give_up(self) -> None:
        """For a station whose process goes on: give back what still runs, and take no outcome of it any more."""
        lease = self.lease
        running = [runner.attempt for runner in self.runners if runner.attempt is not None]
        lease.lost = lease.halted = True
        outcomes = [Release(delivery=one.delivery, spent=True) for one in running if one.delivery is not None]
        if outcomes:
            await self._settler.settle(lease.consumer, outcomes)
        await self._close(lease)
        self.slot.state = GONE

    async def _wait_ended(self, *, only_async: bool = False) -> None:
        least = self._clock.monotonic() + NOTED_S
        while self._async.running or (not only_async and any(runner.epoch for runner in self.runners)):
            left_s = max(self._deadline, least) - self._clock.monotonic()
            if left_s <= 0:
                return
            self._changed.clear()
            try:
                async with asyncio.timeout(min(left_s, 0.5)):
                    await self._changed.wait()
            except TimeoutError:
                pass

    # -- the lease -----------------------------------------------------------------------------------------------

    async def _open(self) -> bool:
        """Take a new incarnation; False when told to stop before the broker was reached."""
        now = self._clock.monotonic()
        if now - self._opened < MOST_S:
            self.slot.progress = now
            await self._pause(self._hasty.next())
        else:
            self._hasty.reset()
        backoff = Backoff()
        while not self._stop.is_set():
            before = self._clock.monotonic()
            incarnation = new_incarnation()
            try:
                consumer = await self._broker.open_consumer(
                    self._queues, incarnation=incarnation, lease_s=self.options.lease_s, name=self.options.node
                )
                break
            except Exception as exc:
                delay_s = backoff.next()
                _log.warning("cannot open a consumer (%s); trying again in %.1f s", exc, delay_s)
                self.slot.progress = before
                await self._pause(delay_s)
        else:
            return False
        lease = self._lease = Lease(consumer)
        self._opened = self._clock.monotonic()
        if isinstance(consumer, Keeper) and self._runtime.links.fused:
            # With results elsewhere, whether what follows has run before is asked for at a claim (`look_back`).
            consumer.keep_for(lambda delivery, stamp: self._kept(lease, delivery, stamp), when=self._may_keep)
        self._lease.halted = self._stop.is_set()
        self.slot.incarnation = incarnation
        self.slot.lease_until = self._lease_end(before)
        return True

    async def _pause(self, delay_s: float) -> None:
        """Sleep, or less when told to stop."""
        sleep = asyncio.ensure_future(self._clock.sleep(delay_s))
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((sleep, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            stop.cancel()

    def _lease_end(self, before: float) -> float:
        if self._is_connection:
            consumer = self.lease.consumer
            return consumer.sure_until if isinstance(consumer, Fenced) else math.inf
        return safe_until(before, self.options.lease_s)

    async def _beat(self) -> None:
        backoff = Backoff()
        each_s = CONNECTION_S if self._is_connection else self.options.lease_s / 3.0
        while True:
            await self._clock.sleep(each_s)
            lease = self.lease
            while not lease.lost:
                before = self._clock.monotonic()
                try:
                    await lease.consumer.beat()
                except LeaseLostError as exc:
                    await self._renew(lease, exc)
                except Exception as exc:
                    _log.warning("cannot renew the lease: %s", exc)
                    await self._clock.sleep(min(backoff.next(), self.options.lease_s / 10.0))
                    continue
                else:
                    backoff.reset()
                    if self._lease is lease:
                        self.slot.lease_until = self._lease_end(before)
                break

    def beat_alone(self) -> None:
        """The supervisor is gone: from now on this station renews its lease itself. Called on the loop."""
        self._beats = True
        if not self._is_connection:
            self._beating = asyncio.get_running_loop().create_task(self._beat(), name="beat")

    async def _confirm(self, lease: Lease) -> bool:
        """Whether `lease` is still ours, by the broker's own word where its time is over by ours."""
        backoff = Backoff()
        async with self._doubt:
            while not lease.lost:
                before = self._clock.monotonic()
                if before < self.slot.lease_until:
                    return True
                try:
                    await lease.consumer.beat()
                except LeaseLostError as exc:
                    await self._renew(lease, exc)
                except Exception as exc:
                    delay_s = backoff.next()
                    _log.warning("nothing is started, the lease is over and cannot be renewed (%s)", exc)
                    await self._clock.sleep(delay_s)
                else:
                    self.slot.lease_until = self._lease_end(before)
        return False

    async def _refused(self, lease: Lease) -> None:
        """Outcomes were refused: of an incarnation that is lost, or because they had been settled before."""
        try:
            await lease.consumer.beat()
        except LeaseLostError as exc:
            await self._renew(lease, exc)
        except Exception as exc:
            _log.debug("whether the lease is lost shows later: %s", exc)

    async def _renew(self, lease: Lease, why: LeaseLostError) -> None:
        """The incarnation was reaped, or its connection is gone: forget all that is held under it, and take a new one.

        What was committed goes on: it is nobody else's.
        """
        if lease.lost:
            # A claim on a lost connection fails at once and without I/O: who did not wait here would never let the one
            # that takes a new lease go on.
            await self._renewed.wait()
            return
        lease.lost = lease.halted = True
        self._renewed.clear()
        jobs = self._take_unstarted()
        kept = lease.committed
        waiting = frozenset(job.attempt.id for job in self._async.running.values() if job.attempt.id not in kept)
        cancelled = self._async.cancel("shutdown", lease=lease, ids=waiting)
        running = [
            attempt
            for runner in self.runners
            if runner.lease is lease and runner.epoch and (attempt := runner.attempt) and attempt.id not in kept
        ]
        if kept or self._keeps_ends:
            self._estates.append(lease)
        else:
            lease.done.clear()
        self._capacity.gave_back(len(jobs))
        _log.warning(
            "the lease was lost (%s): %d tasks that had not started are forgotten, %d async tasks cancelled; "
            "what %d others return will be %s%s",
            why,
            len(jobs),
            cancelled,
            len(running),
            "stored, and they are run again elsewhere meanwhile" if self._keeps_ends else "thrown away",
            f"; {len(kept)} go on that are no part of it any more" if kept else "",
        )
        for attempt in running:
            if not attempt.plan.rerun_when_lost:
                _log.error("%s[%s] may run twice: the lease was lost as it had just started", attempt.name, attempt.id)
        try:
            await self._open()
        finally:
            self._renewed.set()
            # It has connections, and a listener that would keep them up
            closing = asyncio.get_running_loop().create_task(self._close_lost(lease))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self._probe.signal("lease_lost", lease.consumer.incarnation)
        self._fetcher.wake()
        self._flusher.wake()

    async def _close_lost(self, lease: Lease) -> None:
        try:
            await lease.consumer.close()
        except Exception as exc:
            _log.debug("nothing was left to give back under a lost lease, and it could not be said: %s", exc)

    async def _store_ended(self, lease: Lease, ended: Sequence[Outcome]) -> None:
        """Store how these ended, though their messages are in their queues again: who is about to run one finds that it
        has ended.
        """
        try:
            await self._settler.settle(lease.consumer, ended)
        except LeaseLostError:
            pass  # the rest of it is theirs
        except Exception as exc:
            _log.warning("%d tasks will run again: their ends cannot be stored (%s)", len(ended), exc)

    def _heir(self) -> Lease:
        """The lease to settle under, which first takes over what others have left."""
        heir = self.lease
        if self._estates and not heir.lost:
            for lost in [*self._estates]:
                may_end = any(runner.lease is lost and runner.epoch for runner in self.runners)
                ended: list[Outcome] = []
                for outcome in [lost.done.popleft() for _ in range(len(lost.done))]:
                    delivery = lost.committed.pop(outcome.delivery.id, None)
                    if delivery is not None:
                        heir.committed[delivery.id] = delivery
                        heir.done.append(outcome)
                    elif isinstance(outcome, (Done, Bury)):
                        ended.append(outcome)
                if ended and self._keeps_ends:
                    storing = asyncio.get_running_loop().create_task(self._store_ended(lost, ended))
                    self._storing.add(storing)
                    storing.add_done_callback(self._storing.discard)
                if not lost.committed and not may_end:
                    self._estates.remove(lost)
        return heir

    # -- tasks that may not run twice ----------------------------------------------------------------------------

    async def _commit(self) -> None:
        """Take them out of their queues soon after they have started; asleep while there are none."""
        while True:
            await self._once.wait()
            self._once.clear()
            pause_s, quiet = SOON_S, 0
            while quiet < 2:  # a runner that has just taken a job shows neither that it waits nor that it runs
                await asyncio.sleep(pause_s)
                pause_s = COMMIT_S
                quiet = 0 if await self._commit_started() else quiet + 1

    async def _commit_started(self) -> bool:
        """Commit what runs now; whether more may start."""
        lease = self.lease
        if lease.committer is None or lease.lost:
            return False
        is_busy = bool(self._desk.ready.qsize() or self._async.backlog or self._throttle)
        started = [job.attempt for job in self._async.running.values() if job.lease is lease]
        for runner in self.runners:
            if runner.epoch:
                attempt = runner.attempt
                if attempt is None:
                    is_busy = True  # it is about to start
                elif runner.lease is lease:
                    started.append(attempt)
        deliveries = [
            attempt.delivery
            for attempt in started
            if not attempt.plan.rerun_when_lost and attempt.delivery is not None and attempt.id not in lease.committed
        ]
        if not deliveries:
            return is_busy
        # A settlement of what ends meanwhile must find it here; and the supervisor must have it before it is nowhere.
        lease.committed.update((one.id, one) for one in deliveries)
        self.on_unheld(deliveries)
        try:
            answers = await lease.committer.commit(deliveries)
        except LeaseLostError:
            answers = [Settled.LEASE_LOST] * len(deliveries)
        except Exception as exc:
            _log.warning(
                "%d tasks that may not run twice cannot be taken out of their queues yet: %s", len(deliveries), exc
            )
            answers = [Settled.LEASE_LOST] * len(deliveries)
            is_busy = True
        refused = [one.id for one, answer in zip(deliveries, answers, strict=True) if answer is not Settled.OK]
        if refused:
            for task_id in refused:
                lease.committed.pop(task_id, None)
            self.on_closed(refused)
            await self._refused(lease)
        return is_busy

    # -- work ----------------------------------------------------------------------------------------------------

    def _accept(self, lease: Lease, deliveries: Sequence[Delivery], stamp: int) -> bool:
        """Whether an idle process was given one task for a runner's thread."""
        now = self._clock.monotonic()
        begin = self._executor.begin
        put = self._desk.ready.put
        async_count = ended = 0
        rates, events = self._throttle.rates, self._events
        stopping = self._stop.is_set()
        was_idle = not self._async.running and all(runner.epoch == 0 for runner in self.runners)
        once = False
        for delivery in deliveries:
            if stopping:
                lease.done.append(Release(delivery=delivery))
                continue
            if delivery.lost and (judged := self._judge(delivery)) is not None:
                lease.done.append(judged)
                ended += 1
                continue
            attempt = begin(delivery)
            if not isinstance(attempt, Attempt):
                lease.done.append(attempt)
                ended += 1
                continue
            async_count += attempt.is_async
            once = once or not attempt.plan.rerun_when_lost
            job = Job(attempt, lease, now, stamp if attempt.is_async or delivery.deliveries == 1 else SUSPECT)
            if rates and not self._throttle.is_free(job, now):
                continue
            if events is not None:
                events.received(attempt)  # before a thread can have started it
            if attempt.is_async:
                self._async.submit(job)
            else:
                put(job)
        self._capacity.took(len(deliveries), async_count)
        self._probe.signal("claimed", deliveries)
        if ended or stopping:
            self._on_done()
        self._busy.set()
        if once and lease.committer is not None:
            self._once.set()
        return was_idle and len(deliveries) == 1 and not async_count

    def _judge(self, delivery: Delivery) -> Outcome | None:
        """What becomes of a message that dead processes ran before; None: it runs (again)."""
        if self._executor.has_ended(delivery.id):  # its end was stored before its process died
            return None
        judged = self._runtime.casualties.judge_noted(delivery)
        if judged is None:
            return None
        outcome, cause = judged
        event = casualty_event(outcome, cause)
        if event is not None and self._dispatcher is not None and self._events is not None:
            self._dispatcher.send(event[0], **event[1])
        return outcome

    def _may_keep(self) -> bool:
        return (
            self._desk.ready.qsize() == 0
            and self._capacity.allowance is None
            and not self._stop.is_set()
            and not self._async.running
            and all(runner.epoch == 0 for runner in self.runners)
        )

    def _kept(self, lease: Lease, delivery: Delivery, stamp: int) -> None:
        if not lease.lost:
            self._accept(lease, (delivery,), stamp)

    def _admit(self, job: Job) -> None:
        """Its turn has come, under a rate limit."""
        if self._events is not None:
            self._events.received(job.attempt)
        self._put_back((job,))
        self._busy.set()

    def _postpone(self, job: Job, delay_s: float) -> None:
        lease = job.lease
        lease.postponed.add(job.attempt.id)
        lease.done.append(self._executor.postponed(job.attempt, delay_s))
        self._capacity.gave_back(1)
        self._on_done()

    def _take_unstarted(self) -> list[Job]:
        jobs = self._desk.drain()
        jobs.extend(self._async.backlog)
        self._async.backlog.clear()
        jobs.extend(self._throttle.take())
        return jobs

    def _release(self, jobs: Sequence[Job]) -> None:
        for attempt, lease, *_ in jobs:
            if not lease.lost and attempt.delivery is not None:
                lease.done.append(Release(delivery=attempt.delivery))
        if jobs:
            self._capacity.gave_back(len(jobs))
            self._probe.signal("released", len(jobs))
            self._flusher.wake_full()

    def _on_done(self) -> None:
        self._flusher.wake()
        self._fetcher.wake()
        self._changed.set()

    def _on_full(self) -> None:
        self._flusher.wake_full()
        self._fetcher.wake()

    def _is_idle(self) -> bool:
        return self._desk.ready.qsize() == 0 or self._deadline < math.inf

    def _on_settled(self, count: int) -> None:
        # A runner that empties the desk while a settlement is under way finds the wake-up flags still set and tells
        # nobody, so the fetcher looks again after each settlement; without this it slept up to half a second.
        self._fetcher.wake()
        if self._is_connection:
            now = self._clock.monotonic()
            if not self.lease.done and not any(runner.epoch for runner in self.runners):
                self.slot.clean = now
        options = self.options
        if self._left_to_run is not None:
            self._left_to_run -= count
            if self._left_to_run <= 0:
                self._recycle(f"it has run {options.max_tasks_per_child} tasks")
        if options.max_memory_per_child_kib is not None:
            now = self._clock.monotonic()
            if now >= self._held_check_at:
                self._held_check_at = now + 0.05
                resident = resident_kib()
                if resident > options.max_memory_per_child_kib:
                    self._recycle(f"it holds {resident} KiB, more than {options.max_memory_per_child_kib}")

    def _recycle(self, why: str) -> None:
        if not self._stop.is_set():
            _log.info("this process makes room for a fresh one: %s", why)
            self._stop_soon(math.inf)
            self.slot.state = DRAINING
            self.on_recycle()

    # -- before a start ------------------------------------------------------------------------------------------

    def _vet(self, job: Job) -> bool:
        """In a runner's thread: whether a job whose start needs a second look may start."""
        lease = job.lease
        while not lease.halted:
            if self._clock.monotonic() >= self.slot.lease_until and not self._ask(self._confirm(lease)):
                return False
            if job.stamp == SUSPECT and not self._ask(self._settle_first()):
                return False
            if job.stamp != lease.consumer.cancel_stamp and not self._ask(self._refresh(job)):
                return False
            if self._clock.monotonic() < self.slot.lease_until:  # else the process stood still while it asked
                break
        if not lease.halted:
            return self._is_fresh(job)
        if not lease.lost and job.attempt.delivery is not None:
            lease.done.append(Release(delivery=job.attempt.delivery))
        return False

    async def _settle_first(self) -> bool:
        await self._flusher.finish()
        return True

    def _is_fresh(self, job: Job) -> bool:
        attempt, lease, *_ = job
        if attempt.message_headers.expires is None or attempt.delivery is None:
            return True
        again = self._executor.begin(attempt.delivery)
        if isinstance(again, Attempt):
            return True
        lease.done.append(again)
        return False

    def _ask(self, question: Coroutine[Any, Any, bool]) -> bool:
        loop = self._loop
        assert loop is not None
        try:
            answer = asyncio.run_coroutine_threadsafe(question, loop)
        except RuntimeError:  # the loop is closed: nothing is started any more
            question.close()
            return False
        while True:
            try:
                return answer.result(timeout=1.0)
            except TimeoutError:
                if loop.is_closed():
                    return False
            except concurrent.futures.CancelledError:
                return False

    def _vet_on_loop(self, job: Job) -> bool:
        lease = job.lease
        if lease.halted:
            if not lease.lost and job.attempt.delivery is not None:
                lease.done.append(Release(delivery=job.attempt.delivery))
                self._on_done()
            return False
        if self._clock.monotonic() >= self.slot.lease_until or job.stamp != lease.consumer.cancel_stamp:
            task = asyncio.get_running_loop().create_task(self._vet_slowly(job))
            self._vetting.add(task)
            task.add_done_callback(self._vetting.discard)
            return False
        if not self._is_fresh(job):
            self._on_done()
            return False
        return True

    async def _vet_slowly(self, job: Job) -> None:
        stamp = job.lease.consumer.cancel_stamp
        if await self._confirm(job.lease) and await self._refresh(job):
            self._async.submit(job._replace(stamp=stamp))

    async def _refresh(self, job: Job | None) -> bool:
        """Learn what is cancelled of all that is held; False when `job` is, or when its lease is lost."""
        lease = self.lease if job is None else job.lease
        backoff = Backoff()
        async with self._doubt:
            while not lease.lost:
                stamp = lease.consumer.cancel_stamp
                waiting = self._take_unstarted()
                held = waiting if job is None else [job, *waiting]
                ids = {one.attempt.id for one in held if one.lease is lease}
                ids.update(
                    one.attempt.id
                    for one in self._async.running.values()
                    if one.lease is lease or one.attempt.id in one.lease.committed
                )
                try:
                    orders = await lease.consumer.cancelled(ids) if ids else ()
                except Exception as exc:
                    self._put_back(waiting)
                    if isinstance(exc, LeaseLostError):
                        await self._renew(lease, exc)
                        break
                    delay_s = backoff.next()
                    _log.warning("cannot ask what is cancelled (%s); nothing is started before", exc)
                    await self._clock.sleep(delay_s)
                    continue
                lease.cancelled = {order.id: order for order in orders}
                self._put_back([one._replace(stamp=stamp) for one in waiting if not self._is_revoked(one)])
                ended = frozenset(order.id for order in orders if order.terminate)
                if ended:
                    self._async.cancel("terminated", ids=ended)
                self._on_done()
                return job is None or not self._is_revoked(job)
        return False

    def _put_back(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if job.lease.lost or (job.turn and self._throttle.put_back(job)):
                continue
            if job.attempt.is_async:
                self._async.backlog.append(job)
            else:
                self._desk.ready.put(job)
        self._async.fill()

    def _is_revoked(self, job: Job) -> bool:
        order: Cancellation | None = job.lease.cancelled.get(job.attempt.id)
        if order is None or job.attempt.delivery is None:
            return False
        job.lease.done.append(self._executor.revoked(job.attempt.delivery, order, terminated=False))
        return True

    # -- while busy ----------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Look after what waits and what runs on the loop; asleep while there is neither."""
        seen = self.lease.consumer.cancel_stamp
        while True:
            await self._busy.wait()
            self._busy.clear()
            while self._desk.ready.qsize() or self._async.backlog or self._async.running or self._throttle:
                await asyncio.sleep(WATCH_S)
                self.slot.waiting = self._desk.ready.qsize() + len(self._async.backlog) + len(self._throttle)
                lease = self.lease
                stamp = lease.consumer.cancel_stamp
                if stamp != seen and self._async.running:
                    await self._refresh(None)
                seen = stamp
                self._free_waiting()
            self.slot.waiting = 0

    def _free_waiting(self) -> None:
        now = self._clock.monotonic()
        jobs: list[Job] = []
        if self._desk.ready.qsize() and all(runner.epoch and now - runner.started > STUCK_S for runner in self.runners):
            jobs.extend(self._desk.drain())
        backlog = self._async.backlog
        if backlog and now - backlog[0].claimed_at > STUCK_S and not self._async.free:
            jobs.extend(backlog)
            backlog.clear()
        self._release(jobs)

    def totals(self) -> dict[str, int]:
        """How many tasks of which name have ended here."""
        totals: dict[str, int] = {}
        for ended in (*(runner.totals for runner in self.runners), self._async.totals):
            for name, count in list(ended.items()):
                totals[name] = totals.get(name, 0) + count
        return totals

    def tasks(self) -> tuple[list[tuple[Attempt, float]], list[Attempt]]:
        """What runs, each with its start (monotonic), and what waits here. For monitors; called on the loop."""
        running = [(runner.attempt, runner.started) for runner in self.runners if runner.attempt is not None]
        running.extend((job.attempt, job.claimed_at) for job in self._async.running.values())
        waiting = self._take_unstarted()
        self._put_back(waiting)
        return running, [job.attempt for job in waiting]
