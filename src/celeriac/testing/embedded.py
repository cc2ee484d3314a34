"""A worker for the length of a test, which says so when it leaves something behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from celeriac.app.runtime import WorkerOverrides, make_runtime, worker_options
from celeriac.clock import SYSTEM_CLOCK
from celeriac.probe import Probe
from celeriac.testing.clocks import ManualClock
from celeriac.worker.embedded import EmbeddedWorker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from celeriac.app.application import Celeriac
    from celeriac.model import DeadLetter

_LEASE_S = 3600.0 * 24 * 365 * 10
"""Longer than any test moves its clock, so that moving it takes no task away from the worker."""


class RunningWorker:
    """Runs the tasks of one application in threads of this process; a context manager.

    `def` tasks run one after another unless `threads` says otherwise, `async def` tasks side by side on a loop of
    their own. Hard time limits and crashes take real processes and are not enforced here.

    Args:
        app: With an in-memory broker, as `in_memory` and the fixtures make it.
        queues: Served queues; those of the settings and of all its tasks unless given.
        threads: For `def` tasks.
        async_slots: `async def` tasks at a time.
    """

    def __init__(self, app: Celeriac, *, queues: Sequence[str] = (), threads: int = 1, async_slots: int = 100) -> None:
        wanted = WorkerOverrides(
            queues=tuple(queues or _queues(app)), pool="threads", threads=threads, async_slots=async_slots
        )
        self.app = app
        self.options = msgspec.structs.replace(worker_options(app, wanted), lease_s=_LEASE_S)
        self.probe = Probe()
        # its own life goes by real time, so that stopping it does not wait for a clock that stands still
        self.worker = EmbeddedWorker(lambda: make_runtime(app, self.options), clock=SYSTEM_CLOCK, probe=self.probe)
        self._dead_seen: set[str] = set()

    @property
    def node(self) -> str:
        """Its name, as `request.hostname` shows it."""
        return self.options.node

    def start(self) -> None:
        """Start to work; returns when it claims."""
        self.worker.start()
        if isinstance(self.app.clock, ManualClock):
            self.app.clock.on_move.append(self._look)

    def drain(self, *, timeout_s: float = 10.0) -> None:
        """Wait until everything that is due has ended, what it has sent included.

        Raises:
            TimeoutError: Something is still waiting or running; the message lists it.
        """
        deadline = SYSTEM_CLOCK.monotonic() + timeout_s
        while True:
            settled = len(self.probe.events("settled"))
            left = self._left()
            if not left:
                return
            left_s = deadline - SYSTEM_CLOCK.monotonic()
            try:
                self.probe.wait("settled", count=settled + 1, timeout_s=max(0.0, left_s))
            except TimeoutError:
                if not (left := self._left()):
                    return
                raise TimeoutError(f"after {timeout_s:g} s {len(left)} tasks have not ended: {_listed(left)}") from None

    def dead_letters(self) -> Sequence[DeadLetter]:
        """What was buried, newest first. A test that has looked at them means them."""
        found = self.app.broker.dead_letters(limit=1000)
        self._dead_seen.update(letter.id for letter in found)
        return found

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Let what is due end, then stop.

        Raises:
            AssertionError: A task is still waiting or running after `timeout_s`, or a message was buried and the test
                has not looked at `dead_letters`.
        """
        if not self.worker.started:
            return
        late = ""
        try:
            self.drain(timeout_s=timeout_s)
        except TimeoutError as exc:
            late = str(exc)
        ended = self._end(grace_s=0.0)
        if late or not ended:
            raise AssertionError(late or "a task did not end when the worker was stopped")
        dead = [letter for letter in self.app.broker.dead_letters(limit=1000) if letter.id not in self._dead_seen]
        if dead:
            listed = "; ".join(f"{letter.task}[{letter.id}]: {letter.reason}" for letter in dead)
            raise AssertionError(f"buried, and the test has not looked at dead_letters(): {listed}")

    def _end(self, *, grace_s: float) -> bool:
        if isinstance(self.app.clock, ManualClock) and self._look in self.app.clock.on_move:
            self.app.clock.on_move.remove(self._look)
        return self.worker.stop(grace_s=grace_s)

    def _look(self) -> None:
        """The clock was moved: claim anew, for more is due. A claim may have read the time just before."""
        station = self.worker.station
        if station._loop is not None:
            try:
                station._loop.call_soon_threadsafe(lambda: station.lease.consumer.interrupt())
            except RuntimeError:
                pass  # its loop has failed and is closed; `stop` says so

    def _left(self) -> list[str]:
        broker = self.app.broker
        return [
            f"{one.task}[{one.id}] {state} in {one.queue!r}"
            for state in ("ready", "held")
            for one in broker.peek(state=state, limit=1000)
            if one.queue in self.options.queues
        ]

    def __enter__(self) -> RunningWorker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None:
            self.stop()
        else:  # the test has failed already; what it leaves behind says nothing
            self._end(grace_s=1.0)


def _queues(app: Celeriac) -> list[str]:
    queues = list(app.router.select())
    for task in app.tasks.values():
        try:
            queues.append(app.router.route(task.call_defaults, task.name, (), {}, task)["queue"])
        except Exception:  # noqa: S112 - a routing function that cannot do without arguments
            continue
    return queues


def _listed(left: Sequence[str]) -> str:
    return ", ".join(left[:5]) + (" …" if len(left) > 5 else "")
