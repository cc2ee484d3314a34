"""Those who run tasks: the main thread or a pool of threads for `def`, the loop for `async def`.

A runner of `def` tasks is one loop over the desk's queue; what it does per task besides the executor is measured in
single microseconds, so look before adding a line.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import threading
from collections import deque
from queue import Empty
from typing import TYPE_CHECKING

from celeriac.errors import SoftTimeLimitExceeded
from celeriac.model import Cancellation, Release
from celeriac.worker.limits import AGAIN_S, NEVER, is_in_task

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from celeriac.clock import Clock
    from celeriac.engine.attempt import Attempt
    from celeriac.engine.executor import Executor
    from celeriac.model import Outcome
    from celeriac.worker.desk import Desk, Job
    from celeriac.worker.lease import Lease
    from celeriac.worker.limits import SoftLimits
    from celeriac.worker.slots import Slot

_log = logging.getLogger("celeriac.worker")

SOFT_SIGNAL = getattr(signal, "SIGUSR1", None)
WEIGHT = 0.1
"""Of the newest duration in the moving average."""

_epochs = itertools.count(1)
"""One series for all runners of a process; `next` on it is atomic."""


def _holding(slot: Slot, clock: Clock) -> Callable[[], bool]:
    """Tells whether the lease of a process still lasts."""
    return lambda: clock.monotonic() < slot.lease_until


class Runner:
    """Takes jobs from the desk in its own thread until it is told to leave."""

    def __init__(
        self,
        entry: int,
        *,
        desk: Desk,
        slot: Slot,
        executor: Executor,
        clock: Clock,
        limits: SoftLimits,
        vet: Callable[[Job], bool],
        average_s: float,
    ) -> None:
        """Wire it.

        Args:
            entry: Its place in the slot.
            desk: Where jobs come from.
            slot: Where it shows what it runs.
            executor: Runs attempts.
            clock: For durations and the lease.
            limits: Told of soft limits.
            vet: Asked, in the runner's thread, when a job may not just be started (its lease may be over, something
                was cancelled, it may have expired); whether to start it.
            average_s: What a task is taken to last before any has run.
        """
        self._entry = entry
        self._desk = desk
        self._slot = slot
        self._is_ours = _holding(slot, clock)
        self._executor = executor
        self._clock = clock
        self._limits = limits
        self._vet = vet
        self.average_s = average_s
        self.attempt: Attempt | None = None
        """What runs now."""
        self.lease: Lease | None = None
        """Under which lease."""
        self.started = 0.0
        """When the newest attempt started (monotonic)."""
        self.epoch = 0
        """Of what runs now; 0: nothing."""
        self.soft_at = NEVER
        """When the soft limit of what runs falls due."""
        self.totals: dict[str, int] = {}
        """Ended attempts by task name."""
        self._soft_epoch = 0
        """The attempt that an interrupt is meant for."""

    def run(self) -> None:
        """Run jobs until the desk says to leave."""
        desk = self._desk
        get, get_nowait = desk.ready.get, desk.ready.get_nowait
        floats, lease_cell = self._slot.floats, self._slot.lease_cell
        begin, end, end_once, entry = self._slot.begin, self._slot.end, self._slot.end_once, self._entry
        run, is_ours = self._executor.run, self._is_ours
        monotonic = self._clock.monotonic
        finished = desk.finished
        totals = self.totals
        now = monotonic()
        while True:
            try:
                job = get_nowait()
            except Empty:
                job = get()
                now = monotonic()
            if job is None:
                return
            attempt, lease, _, stamp, _ = job
            # The epoch is set before `halted` is read, and a leaving process sets `halted` before it reads the epoch:
            # one of the two sees the other, so no task starts while its message is given back.
            self.epoch = epoch = next(_epochs)
            if (
                lease.halted
                or now >= floats[lease_cell]
                or stamp != lease.consumer.cancel_stamp
                or attempt.message_headers.expires is not None
            ):
                if not self._vet(job):
                    self.epoch = 0
                    finished(lease)
                    now = monotonic()
                    continue
                now = monotonic()
            self.started = now
            self.attempt = attempt
            self.lease = lease
            begin(entry, epoch, now, attempt.hard_limit_s, attempt.id, attempt.name)
            if attempt.soft_limit_s is not None:
                outcome = self._run_limited(attempt, epoch, now)
            else:
                outcome = run(attempt, is_ours)
            if not attempt.plan.rerun_when_lost:
                end_once(attempt.id)
            lease.done.append(outcome)
            end(entry)
            self.attempt = None
            self.epoch = 0
            ended = monotonic()
            self.average_s += WEIGHT * (ended - now - self.average_s)
            now = ended
            totals[attempt.name] = totals.get(attempt.name, 0) + 1
            finished(lease)

    def _run_limited(self, attempt: Attempt, epoch: int, now: float) -> Outcome:
        assert attempt.soft_limit_s is not None
        self.soft_at = now + attempt.soft_limit_s
        try:
            self._limits.watch(self.soft_at)
            outcome = self._executor.run(attempt, self._is_ours)
        except SoftTimeLimitExceeded:
            # It met the executor between two lines of its own: rare enough that the whole attempt is run once more.
            assert attempt.delivery is not None
            outcome = Release(delivery=attempt.delivery, spent=True)
        finally:
            self.soft_at = NEVER
            self._calm(epoch)
        return outcome

    def interrupt(self) -> None:
        """Raise SoftTimeLimitExceeded in the attempt that is past its limit. Called by the IO thread."""
        raise NotImplementedError

    def _calm(self, epoch: int) -> None:
        """Make sure that no interrupt of the attempt that has just ended arrives later."""


class MainRunner(Runner):
    """Runs in the main thread, where signals arrive."""

    def install(self) -> None:
        """Take the signal of soft limits. Called in the main thread."""
        assert SOFT_SIGNAL is not None
        signal.signal(SOFT_SIGNAL, self._on_signal)

    def interrupt(self) -> None:
        assert SOFT_SIGNAL is not None
        self._soft_epoch = self.epoch
        self.soft_at = NEVER
        signal.pthread_kill(threading.main_thread().ident or 0, SOFT_SIGNAL)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        epoch, attempt = self.epoch, self.attempt
        if epoch == 0 or epoch != self._soft_epoch or attempt is None:
            return  # that attempt is over
        if is_in_task(frame):
            self._soft_epoch = 0
            raise SoftTimeLimitExceeded(attempt.soft_limit_s)
        self.soft_at = self._clock.monotonic() + AGAIN_S
        self._limits.watch(self.soft_at)


class ThreadRunner(Runner):
    """Runs in a thread of its own, which it starts and ends."""

    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self.run, name=f"celeriac-runner-{self._entry}", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to leave; whether it did."""
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def interrupt(self) -> None:
        import sys

        thread = self._thread
        if thread is None or thread.ident is None or self.epoch == 0:
            self.soft_at = NEVER
            return
        # The interpreter lock is held from here to the end, so the frame is where the thread stands. CPython raises
        # at the thread's next call or loop turn; at the latest where the call of the task returns, inside the
        # executor's `try`.
        if is_in_task(sys._current_frames().get(thread.ident)):
            self._soft_epoch = self.epoch
            self.soft_at = NEVER
            _raise_in(thread.ident, SoftTimeLimitExceeded)
        else:
            self.soft_at = self._clock.monotonic() + AGAIN_S

    def _calm(self, epoch: int) -> None:
        if self._soft_epoch == epoch:
            _raise_in(threading.get_ident(), None)
            self._soft_epoch = 0


def _raise_in(ident: int, exc: type[BaseException] | None) -> None:
    import ctypes  # a megabyte that only a soft limit in a thread needs

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), None if exc is None else ctypes.py_object(exc))


class AsyncRunner:
    """Runs `async def` tasks on the loop, up to `slots` at a time; what finds no slot waits in a short line."""

    def __init__(
        self,
        first_entry: int,
        slots: int,
        *,
        slot: Slot,
        executor: Executor,
        clock: Clock,
        vet: Callable[[Job], bool],
        on_done: Callable[[], None],
        average_s: float,
    ) -> None:
        self._free = deque(range(first_entry, first_entry + slots))
        self._slots = slots
        self._slot = slot
        self._is_ours = _holding(slot, clock)
        self._executor = executor
        self._clock = clock
        self._vet = vet
        self._on_done = on_done
        self.average_s = average_s
        self.totals: dict[str, int] = {}
        self.backlog: deque[Job] = deque()
        self.running: dict[asyncio.Task[None], Job] = {}

    @property
    def free(self) -> int:
        """Slots in which nothing runs."""
        return len(self._free)

    def submit(self, job: Job) -> None:
        """Start a job, or let it wait for a slot."""
        if self._free and not self.backlog:
            self._start(job)
        else:
            self.backlog.append(job)

    def fill(self) -> None:
        """Start what waits, as far as there are slots."""
        while self._free and self.backlog:
            self._start(self.backlog.popleft())

    def cancel(self, reason: str, *, lease: Lease | None = None, ids: frozenset[str] | None = None) -> int:
        """Cancel running tasks (all, or those of a lease, or those named) and say why in `attempt.stop_reason`."""
        count = 0
        for task, job in list(self.running.items()):
            if (lease is None or job.lease is lease) and (ids is None or job.attempt.id in ids):
                if job.attempt.stop_reason == reason:
                    continue
                job.attempt.stop_reason = reason  # type: ignore[assignment]
                task.cancel()
                count += 1
        return count

    def _start(self, job: Job) -> None:
        if not self._vet(job):
            return
        entry = self._free.popleft()
        task = asyncio.get_running_loop().create_task(self._run(job, entry))
        self.running[task] = job
        # Bookkeeping is done here and not in a `finally` of the coroutine, which never begins when the task is
        # cancelled before its first step.
        task.add_done_callback(lambda task: self._ended(task, entry))

    async def _run(self, job: Job, entry: int) -> None:
        attempt, lease, _, stamp, _ = job
        started = self._clock.monotonic()
        # If the process was stopped since it was vetted, that is done again.
        if started >= self._slot.lease_until or stamp != lease.consumer.cancel_stamp:
            self.backlog.appendleft(job)
            return
        self._slot.begin(entry, next(_epochs), started, attempt.hard_limit_s, attempt.id, attempt.name)
        if attempt.soft_limit_s is None:
            outcome = await self._executor.arun(attempt, self._is_ours)
        else:
            task = asyncio.current_task()
            assert task is not None
            timer = asyncio.get_running_loop().call_later(attempt.soft_limit_s, self._soft, attempt, task)
            outcome = await self._executor.arun(attempt, self._is_ours)
            timer.cancel()
        if not attempt.plan.rerun_when_lost:
            self._slot.end_once(attempt.id)
        lease.done.append(outcome)
        self.average_s += WEIGHT * (self._clock.monotonic() - started - self.average_s)

    def _ended(self, task: asyncio.Task[None], entry: int) -> None:
        self._slot.end(entry)
        self._free.append(entry)
        job = self.running.pop(task)
        if not self.backlog or self.backlog[0] is not job:
            self.totals[job.attempt.name] = self.totals.get(job.attempt.name, 0) + 1
        if task.cancelled():
            self._unstarted(job)
        elif (exc := task.exception()) is not None:
            _log.error("%s[%s]: the executor failed", job.attempt.name, job.attempt.id, exc_info=exc)
            self._unstarted(job, spent=True)
        if self.backlog:
            self.fill()
        self._on_done()

    def _unstarted(self, job: Job, *, spent: bool = False) -> None:
        """Cancelled before its first step, so that the executor has made no outcome."""
        delivery = job.attempt.delivery
        assert delivery is not None
        if job.attempt.stop_reason == "terminated":
            order = job.lease.cancelled.get(job.attempt.id) or Cancellation(id=job.attempt.id, terminate=True)
            job.lease.done.append(self._executor.revoked(delivery, order, terminated=False))
        else:
            job.lease.done.append(Release(delivery=delivery, spent=spent))

    @staticmethod
    def _soft(attempt: Attempt, task: asyncio.Task[None]) -> None:
        if not task.done() and attempt.stop_reason is None:
            attempt.stop_reason = "soft_limit"
            task.cancel()
