"""A worker inside the current process: for tests, notebooks, web applications that want one, and `-P solo`.

The same station as in a pool process, which here beats for itself and reaps for others. There is nobody to enforce
hard limits or to survive a crash: that takes a supervisor.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING

from celeriac.clock import SYSTEM_CLOCK
from celeriac.engine import signals
from celeriac.errors import WorkerError
from celeriac.probe import Probe
from celeriac.worker import exits
from celeriac.worker.beating import BeatThread
from celeriac.worker.janitor import keep_clean
from celeriac.worker.loop import new_loop
from celeriac.worker.runners import MainRunner, ThreadRunner
from celeriac.worker.runtime import Orders
from celeriac.worker.slots import SlotMap
from celeriac.worker.station import Station
from celeriac.worker.throttle import interval_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from celeriac.clock import Clock
    from celeriac.worker.runtime import Beating, Runtime

_log = logging.getLogger("celeriac.worker")

REAP_LIMIT = 100


class EmbeddedWorker:
    """Runs tasks in threads of this process, or in its main thread (`run`).

    Args:
        runtime: Makes the parts; called in `start`.
        clock: Hand a ManualClock to move time in a test.
        probe: Signalled as the station's.
    """

    def __init__(
        self, runtime: Callable[[], Runtime], *, clock: Clock = SYSTEM_CLOCK, probe: Probe = Probe.INERT
    ) -> None:
        self._make = runtime
        self._clock = clock
        self._probe = probe
        self._station: Station | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._map: SlotMap | None = None
        self._all_ended = True
        self._signals = 0

    @property
    def started(self) -> bool:
        """Whether it works now."""
        return self._thread is not None

    @property
    def station(self) -> Station:
        """The parts, for inspection."""
        assert self._station is not None
        return self._station

    def start(self) -> None:
        """Start claiming; returns when the first consumer is open.

        Raises:
            WorkerError: It could not start; the cause is chained.
        """
        self._start(main=False)
        for runner in self.station.runners:
            if isinstance(runner, ThreadRunner):
                runner.start()

    def stop(self, *, grace_s: float | None = None) -> bool:
        """Stop claiming, let what runs finish for `grace_s` (default: the options'), give back the rest.

        Returns:
            Whether everything that ran has ended. A thread that goes on runs for nobody: its message was given back.
        """
        thread, station = self._thread, self._station
        if thread is None or station is None:
            return True
        station.stop(station.options.grace_s if grace_s is None else grace_s)
        thread.join()
        self._thread = None
        ended = self._all_ended
        for runner in station.runners:
            if isinstance(runner, ThreadRunner):
                ended = runner.join(1.0 if ended else 0.0) and ended
        if self._map is not None:
            self._map.close()
        if self._failure is not None:
            raise WorkerError("the worker's loop failed") from self._failure
        return ended

    def run(self, *, beat: Callable[[], Beating] | None = None) -> None:
        """Work in the foreground until SIGTERM, SIGINT or `interrupt`.

        `def` tasks run in the current thread, which must be the main one. A second signal ends the process without
        waiting for the task that runs, whose message the lease gives back. Receivers of the worker's and the process's
        signals are called here.

        Args:
            beat: Makes a beat to run beside it, in a thread.
        """
        self._start(main=True)
        station = self.station
        node = station.options.node
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        beside = None if beat is None else BeatThread(beat)
        try:
            self._runtime.on_process_start()
            if beside is not None:
                beside.start()
            signals.worker_ready.send(node)
            try:
                self._run_here(station)
            finally:
                if beside is not None:
                    beside.stop()
                    beside.join()
            self._runtime.on_process_stop(os.getpid(), exits.OK)
            signals.worker_shutdown.send(node)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        if self._signals:
            os._exit(exits.FORCED)  # an exception would be taken for the task's own
        self._signals += 1
        signals.worker_shutting_down.send(
            self.station.options.node, sig=signal.Signals(number).name, how="Warm", exitcode=exits.OK
        )
        self.interrupt()

    def _run_here(self, station: Station) -> None:
        for runner in station.runners:
            if isinstance(runner, MainRunner):
                runner.install()
                runner.run()
            elif isinstance(runner, ThreadRunner):
                runner.start()
        self.stop()

    def interrupt(self, *, grace_s: float | None = None) -> None:
        """Ask it to stop, without waiting; safe in a signal handler."""
        if self._station is not None:
            self._station.stop(self._station.options.grace_s if grace_s is None else grace_s)

    def __enter__(self) -> EmbeddedWorker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, *, main: bool) -> None:
        if self._thread is not None:
            raise WorkerError("this worker runs already")
        runtime = self._runtime = self._make()
        options = runtime.options
        rates = {name: interval_of(rate) for name, rate in runtime.rates.items()}
        self._map = SlotMap.create(
            slots=1, entries=Station.entries(options.threads, options.async_slots), cells=len(rates)
        )
        self._ready.clear()
        self._failure = None
        self._station = Station(
            runtime,
            self._map.slot(0),
            main=main,
            board=self._map.board(),
            orders=Orders(
                events=options.task_events,
                rates={name: (cell, each) for cell, (name, each) in enumerate(rates.items()) if each is not None},
            ),
            beats=True,
            clock=self._clock,
            probe=self._probe,
        )
        self._thread = threading.Thread(target=self._io, args=(runtime,), name="celeriac-io", daemon=True)
        self._thread.start()
        self._ready.wait()
        failure = self._failed()
        if failure is not None:
            self._thread.join()
            self._thread = None
            raise WorkerError(f"the worker could not start: {failure}") from failure

    def _failed(self) -> BaseException | None:
        return self._failure

    def _io(self, runtime: Runtime) -> None:
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(self._serve(runtime))
        except BaseException as exc:
            _log.exception("the worker's loop failed")
            self._failure = exc
        finally:
            self._ready.set()

    async def _serve(self, runtime: Runtime) -> None:
        station = self.station
        station.on_ready = self._ready.set
        loop = asyncio.get_running_loop()
        chores = [loop.create_task(self._reap(runtime))]
        if runtime.links.results is not None:
            chores.append(loop.create_task(keep_clean(runtime.links.results, self._clock)))
        try:
            self._all_ended = await station.serve()
            if not self._all_ended:
                await station.give_up()
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)

    async def _reap(self, runtime: Runtime) -> None:
        while True:
            await self._clock.sleep(runtime.options.reap_every_s)
            try:
                await runtime.links.broker.reap(limit=REAP_LIMIT)
            except Exception as exc:
                _log.warning("cannot look for dead workers: %s", exc)
