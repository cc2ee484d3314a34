"""The parent of all: runs no user code and is never blocked, so it can beat, watch, enforce limits and restart.

It knows what its processes do from the shared map (`slots`), and it acts on tasks only after the process that ran them
is dead: then it adopts exactly what that process was running, judges it (`engine.Casualties`), and abandons the rest,
which goes back to its place unharmed. Where the connection is the lease, all of it is back at once, and it leaves word
of what that process was running: whoever gets it next judges it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

import msgspec

from celeriac.clock import SYSTEM_CLOCK
from celeriac.engine.casualties import Crashed, Dragged, HardLimit, Note, Terminated
from celeriac.engine.settle import Settler
from celeriac.errors import BrokerUnavailableError, CeleriacError, LeaseLostError, WorkerError
from celeriac.interfaces import Notary
from celeriac.model import Delivery, new_incarnation
from celeriac.worker import exits, slots
from celeriac.worker.backoff import Backoff
from celeriac.worker.children import Child, Nursery, Server
from celeriac.worker.events import HEARTBEAT_S, SOFTWARE, Dispatcher, casualty_event
from celeriac.worker.failure import LoadError
from celeriac.worker.janitor import keep_clean
from celeriac.worker.lease import Lease, safe_until
from celeriac.worker.logging import banner, configure, stream_fd
from celeriac.worker.runtime import Orders
from celeriac.worker.slots import SlotMap
from celeriac.worker.throttle import interval_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from typing import Any

    from celeriac.clock import Clock
    from celeriac.engine.casualties import Casualties, Cause
    from celeriac.interfaces import Broker, ControlServer
    from celeriac.model import Cancellation, Incarnation, Outcome
    from celeriac.worker.runtime import Links, Loader, Manifest, Oversight, WorkerOptions
    from celeriac.worker.slots import Running

_log = logging.getLogger("celeriac.worker")

IDLE_TICK_S: Final = 0.5
"""How often it looks at the map while nothing runs: a third of an idle worker's processor time."""
SILENT_S: Final = 30.0
"""A process that claims nothing for so long has stopped working. Less may be a broker that does not answer."""
TICK_S: Final = 0.2
"""How often it looks at the map: about 0.05 % of a core, and the exactness of short hard limits."""
ASYNC_STOP_S: Final = 0.6
"""What an async task gets to obey its cancellation before its process is killed."""
ANSWER_S: Final = 0.1
"""What a process gets to say whether the application handles a signal there; one that is too busy is killed at once."""
HANDLER_S: Final = 0.5
"""What such a handler gets to end its task."""
STARTS: Final = 5
"""So many processes in a row that end before they are ready are the end of a worker none of whose was ever ready."""
LEAVE_S: Final = 7.0
"""What a process may take beyond its grace to clean up, settle and leave; then it is killed."""
COLD_S: Final = 2.0
"""The same after a second signal."""
LISTEN_S: Final = 5.0
"""What receivers of `worker_shutdown` may take; then their process is killed."""
COMMAND_S = 10.0
"""What a remote-control command of the application's own may take; the reply of a later one is dropped."""
MOST_UNHEARD: Final = 100
"""Events on their way to a receiver that does not return; no heartbeat is added to more."""
BEAT_STEADY_S: Final = 60.0
"""A beat that lived for so long before it ended is replaced at once."""
BEAT_PAUSE_S: Final = 10.0
"""The longest pause before one that ends again and again is replaced."""
MOST_SLOTS: Final = 64
ASIDE: Final = 2
"""Slots of processes that are not the pool's: the listener's, the last, and the beat's, before it."""
SPARE_CELLS: Final = 64
"""For tasks that get a rate limit and that only code of a restart has."""
WORD_S: Final = 60.0
"""How long word of a process's end is tried to be left; then others run its tasks as if it had never been."""
GOODBYE_S: Final = 1.0
"""What sending the last events may take."""
REAP_LIMIT: Final = 100
NOTE_S: Final = 0.5
"""What a note on a task may take before its process is killed all the same."""
CONNECTION_S: Final = 1.0
"""How often a lease that is a connection is looked at; that costs a comparison."""
_REVOKED_KEPT: Final = 50_000


class Supervisor:
    """Runs a worker with pool processes until it is told to stop.

    Args:
        loader: What the fork server imports and calls.
        connect: Makes the supervisor's own adapters from the manifest; imports no user code.
        version: For the banner.
        clock: Monotonic time.
        on_ready: Called once, when the first process is ready.
    """

    def __init__(
        self,
        loader: Loader,
        connect: Callable[[Manifest], Oversight],
        *,
        version: str = "",
        clock: Clock = SYSTEM_CLOCK,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._loader = loader
        self._connect = connect
        self._version = version
        self._clock = clock
        self._on_ready = on_ready
        self._code = exits.OK
        self._first_server: Server | None = None
        self._children: dict[int, Child] = {}
        self._nurseries: list[Nursery] = []
        self._jobs: set[asyncio.Task[None]] = set()
        self._was_open = False
        self._was_ready = False
        self._bad_starts = 0
        self._orders: dict[str, Cancellation] = {}
        self._terminating: dict[str, float] = {}
        self._totals: dict[str, int] = {}
        self._processed = 0
        self._rates: dict[str, str] = {}
        self._cells: dict[str, int] = {}
        self.told = Orders()
        """What the processes do otherwise than their code says."""
        self._signals = 0
        self._is_stopping = False
        self._is_restarting = False
        self._control: ControlServer | None = None
        self._listener: Child | None = None
        self._listens: tuple[str, ...] = ()
        self._beat_child: Child | None = None
        self._beat_ends = 0
        """How often in a row it ended before it was steady."""
        self._unheard = 0
        self.started_at = 0.0

    # -- life ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Work until stopped by a signal or a command; the exit code (`exits`). Call it in the main thread.

        An application whose settings say `solo` is only loaded; then `is_solo` is true, and nothing was started.
        """
        self._first_server = Server.fork()  # before there is a loop or a thread
        with asyncio.Runner() as runner:
            return runner.run(self._run())

    @property
    def is_solo(self) -> bool:
        """Whether the application, once it was loaded, asked to be run without processes."""
        return hasattr(self, "options") and self.options.pool == "solo"

    async def _run(self) -> int:
        self._stopped = asyncio.Event()
        self._came_up = asyncio.Event()
        self.started_at = self._clock.monotonic()
        self._install_signals()
        nursery = Nursery(self._loader, self._first_server)
        try:
            self.manifest = await nursery.start()
        except LoadError as exc:
            sys.stderr.write(exc.report + "\n")
            await nursery.close()
            return exits.CONFIG
        self.options: WorkerOptions = self.manifest.options
        if self.options.pool == "solo":
            await nursery.close()
            return exits.OK
        self._nurseries.append(nursery)
        configure(self.options)
        sys.stderr.write(banner(self.manifest, self._version) + "\n")
        sys.stderr.flush()
        self.queues = list(self.options.queues)
        self.wanted = self.options.processes
        try:
            oversight = self._connect(self.manifest)
        except CeleriacError as exc:
            sys.stderr.write(f"the worker cannot be set up: {exc}\n")
            await nursery.close()
            return exits.CONFIG
        self.links: Links = oversight.links
        self.broker: Broker = oversight.links.broker
        self.casualties: Casualties = oversight.casualties
        self.define_queue, self.describe_queue = oversight.define, oversight.describe
        self._settler = Settler(
            self.links.results,
            self.broker,
            fused=self.links.fused,
            tombstones_s=self.options.tombstones_s,
        )
        self._notary = self.broker if isinstance(self.broker, Notary) and not self.broker.traits.adopts else None
        threads = self.options.threads
        self.slots = SlotMap.create(
            slots=max(MOST_SLOTS, 4 * self.wanted) + ASIDE,
            entries=(threads or 1) + self.options.async_slots,
            cells=len(self.manifest.tasks) + SPARE_CELLS,
        )
        self._sync_entries = threads or 1
        self.clock = self.slots.board().clock
        self._events: Dispatcher | None = None
        if self.links.events is not None:
            self._events = Dispatcher(self.links.events, node=self.options.node, clock=self._clock, logical=self.clock)
        elif self.options.task_events:
            _log.warning("task events are wanted, and the %s broker carries none", self.broker.traits.name)
        self.told = Orders(events=self.options.task_events and self._events is not None, rates=self._known_rates())
        nursery.share(self.slots)
        loop = asyncio.get_running_loop()
        loops: list[asyncio.Task[None]] = []
        try:
            try:
                if not await self._open():
                    return self._code
            except CeleriacError as exc:
                sys.stderr.write(f"the worker cannot start: {exc}\n")
                return exits.CONFIG
            if self.manifest.listens or self.manifest.commands:
                self._listen(nursery)
            if self.options.beat:
                self._start_beat()
            for _ in range(self.wanted):
                self._spawn()
            loops = [loop.create_task(one, name=name) for name, one in self._loops().items()]
            stopped = loop.create_task(self._stopped.wait())
            done, _ = await asyncio.wait([stopped, *loops], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            for task in done - {stopped}:
                task.result()
        except Exception:
            _log.critical("the supervisor failed; its processes are stopped", exc_info=True)
            self._code = exits.FAILED
            for child in list(self._children.values()):
                child.is_unwanted = True
                child.kill()
        finally:
            await self._close(loops)
        return self._code

    def _loops(self) -> dict[str, Any]:
        loops: dict[str, Any] = {"tick": self._tick(), "reap": self._reap()}
        if self.broker.traits.lease_kind == "incarnation":
            loops["beat"] = self._beat()
        else:
            loops["connection"] = self._stay_connected()
        if self.links.control is not None:
            loops["control"] = self._serve_control()
        if self.links.results is not None:
            loops["janitor"] = keep_clean(self.links.results, self._clock)
        if self._events is not None:
            loops["events"] = self._events.run()
            loops["heartbeat"] = self._show_life()
        if self.options.autoreload:
            from celeriac.worker.reload import watch

            loops["reload"] = watch(self.manifest.modules, self.restart)
        return loops

    async def _close(self, loops: Sequence[asyncio.Task[None]]) -> None:
        while self._children:
            await asyncio.wait([child.ended for child in self._children.values()], timeout=1.0)
            for child in [*self._children.values()]:
                if child.was_killed and child.pid and not _is_alive(child.pid):
                    child.end(None)
        beat, self._beat_child = self._beat_child, None
        if beat is not None:
            beat.stop(0.0)
            await asyncio.wait([beat.ended], timeout=COLD_S if self._signals > 1 else LEAVE_S)
            if not beat.ended.done():
                _log.error("the beat, process %d, did not leave in time and is killed", beat.pid)
                beat.kill()
                await asyncio.wait([beat.ended], timeout=1.0)
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=LEAVE_S)
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await self._dismiss_listener()
        for nursery in self._nurseries:
            await nursery.close()
        if self._control is not None:
            await self._control.close()
        if self._events is not None and self.links.events is not None:
            if self._was_ready:
                self.show_life("worker-offline")
            await self._events.finish(GOODBYE_S)
            self.links.events.close()
        lease = getattr(self, "_lease", None)
        if lease is not None:
            await self._give_back(lease)
        self.slots.close()
        self.broker.close()
        if self.links.results is not None:
            self.links.results.close()

    # -- orders from outside -------------------------------------------------------------------------------------

    def _install_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal, number)
        loop.add_signal_handler(signal.SIGQUIT, self._on_stop_signal, signal.SIGQUIT)
        loop.add_signal_handler(signal.SIGHUP, self.restart)
        loop.add_signal_handler(signal.SIGUSR1, self.dump)

    def _on_stop_signal(self, number: int) -> None:
        self._signals += 1
        cold = number == signal.SIGQUIT or self._signals > 1
        if not hasattr(self, "slots"):  # still importing: there is nothing to finish
            os._exit(exits.FORCED)
        _log.warning(
            "%s: %s",
            signal.Signals(number).name,
            "leaving at once" if cold else f"finishing what runs, for {self.options.grace_s:g} s at most",
        )
        self.stop(cold=cold, sig=signal.Signals(number).name)

    def stop(self, *, cold: bool = False, sig: str = "SIGTERM") -> None:
        """Leave: warm finishes what runs within the grace time, cold only within the soft shutdown time.

        Args:
            cold: Which.
            sig: The signal that asked for it, or would have, for receivers of `worker_shutting_down`.
        """
        self._is_stopping = True
        how, code = ("Cold", exits.FORCED) if cold else ("Warm", exits.OK)
        self._announce("worker_shutting_down", sig=sig, how=how, exitcode=code)
        grace_s = self.options.soft_shutdown_s if cold else self.options.grace_s
        self._stopped.set()
        if self._beat_child is not None:
            self._beat_child.stop(0.0)  # first: what it would still send might find no worker
        for child in list(self._children.values()):
            self._retire(child, grace_s, COLD_S if cold else LEAVE_S)

    def restart(self) -> None:
        """Import the application afresh and replace every process; the old ones finish what they run.

        An application that cannot be imported changes nothing: the old code goes on.
        """
        if not self._is_stopping and not self._is_restarting:
            self._is_restarting = True
            self._start(self._restart())

    async def _restart(self) -> None:
        _log.warning("restarting the processes with freshly imported code")
        nursery = Nursery(self._loader)
        try:
            manifest = await nursery.start()
        except LoadError as exc:
            _log.error("the old code goes on: %s", exc.report)
            await nursery.close()
            return
        finally:
            self._is_restarting = False
        if self._is_stopping:
            await nursery.close()
            return
        self.manifest = manifest
        nursery.share(self.slots)
        self._nurseries.append(nursery)
        self._tell(rates=self._known_rates())
        if self.options.beat:
            old = self._beat_child
            self._start_beat()  # two may beat at a time
            if old is not None:
                self._retire(old, 0.0, LEAVE_S)
        self._replace_all()

    def _replace_all(self) -> None:
        old = [child for child in self._children.values() if not child.is_unwanted and not child.has_successor]
        for child in old:
            child.has_successor = True
            self._spawn()
            self._retire(child, self.options.grace_s, LEAVE_S)
        for nursery in self._nurseries[:-1]:
            nursery.stop()

    def dump(self) -> None:
        """Write the stacks of all threads of all processes to the log."""
        faulthandler.dump_traceback(file=stream_fd(), all_threads=True)
        for child in [*self._children.values(), *([self._beat_child] if self._beat_child else [])]:
            child.signal(signal.SIGUSR2)

    def grow(self, count: int) -> None:
        """Add processes."""
        if self.wanted + count > self.slots.slots // 2:
            raise WorkerError(f"at most {self.slots.slots // 2} processes: start another worker")
        self.wanted += count
        for _ in range(count):
            self._spawn()

    def shrink(self, count: int) -> None:
        """Take processes away, the least busy first; one stays."""
        count = min(count, self.wanted - 1)
        if count <= 0:
            raise WorkerError("the last process is not taken away; use shutdown")
        self.wanted -= count
        lively = [child for child in self._children.values() if not child.is_leaving]
        for child in sorted(lively, key=lambda child: len(child.slot.running()))[:count]:
            child.is_unwanted = True
            self._retire(child, self.options.grace_s, LEAVE_S)

    def serve_queue(self, queue: str, options: Mapping[str, Any]) -> None:
        """Consume from one more queue: every process is replaced, the old ones finish what they run.

        Args:
            queue: Its name.
            options: What it is, unless the application knows it: Celery's of `add_consumer`.

        Raises:
            CeleriacError: It cannot be declared like that.
        """
        if queue not in self.queues:
            if options:
                self.define_queue(queue, options)
                self.told = msgspec.structs.replace(self.told, queues={**self.told.queues, queue: dict(options)})
            self.queues.append(queue)
            self._replace_all()

    def leave_queue(self, queue: str) -> None:
        """Consume no more from a queue."""
        if queue in self.queues:
            self.queues.remove(queue)
            self._replace_all()

    # -- what processes do otherwise -----------------------------------------------------------------------------

    def _tell(self, **changes: Any) -> None:
        """Have every process obey other orders, and those that start later."""
        self.told = msgspec.structs.replace(self.told, **changes)
        for child in self._children.values():
            child.send({"what": "orders", "orders": self.told})

    def switch_events(self, on: bool) -> bool:
        """Send task events, or stop; whether that is a change.

        Raises:
            WorkerError: The broker carries no events.
        """
        if self._events is None:
            raise WorkerError(f"the {self.broker.traits.name} broker carries no events")
        if on == self.told.events:
            return False
        self._tell(events=on)
        return True

    def limit_rate(self, task: str, rate: str) -> None:
        """Let a task start so often on this worker; `0` is no limit.

        Raises:
            ValueError: It is no rate.
        """
        interval_of(rate)
        self._rates[task] = rate
        self._tell(rates=self._known_rates())

    def rate_of(self, task: str) -> str | None:
        """A task's rate limit as it stands."""
        if task in self._rates:
            return self._rates[task]
        return next((one.rate_limit for one in self.manifest.tasks if one.name == task), None)

    def limit_time(self, task: str, hard_s: float | None, soft_s: float | None) -> None:
        """Run a task under these limits (seconds); None is what the settings say of all tasks."""
        settings = self.manifest.settings
        hard, soft = (
            settings.get(name) if own is None else own
            for name, own in (("task_time_limit", hard_s), ("task_soft_time_limit", soft_s))
        )
        self._tell(limits={**self.told.limits, task: (hard, soft)})

    def _known_rates(self) -> dict[str, tuple[int, float]]:
        """The tasks' own rates and, over them, those of remote control, each with its cell."""
        own = {one.name: one.rate_limit for one in self.manifest.tasks if one.rate_limit is not None}
        rates = {}
        for task, rate in {**own, **self._rates}.items():
            interval_s = interval_of(rate)
            if interval_s is None:
                continue
            cell = self._cells.setdefault(task, len(self._cells))
            if cell < self.slots.cells:
                rates[task] = (cell, interval_s)
            else:
                _log.error("%s has a rate limit and is not limited: %d tasks are already", task, self.slots.cells)
        return rates

    # -- events --------------------------------------------------------------------------------------------------

    async def _show_life(self) -> None:
        await self._came_up.wait()
        self.show_life("worker-online")
        while True:
            await self._clock.sleep(HEARTBEAT_S)
            self.show_life("worker-heartbeat")

    def show_life(self, kind: str) -> None:
        """Send an event of the worker as a whole; nothing on a broker that carries none."""
        if self._events is None:
            return
        lively = [child for child in self._children.values() if child.pid and not child.ended.done()]
        self._events.send(
            kind,
            freq=HEARTBEAT_S,
            active=sum(len(child.slot.running()) for child in lively),
            processed=self._processed + sum(_ended_count(child) for child in lively),
            loadavg=[round(one, 2) for one in os.getloadavg()] if hasattr(os, "getloadavg") else [0.0, 0.0, 0.0],
            **SOFTWARE,
        )

    def tell_of(self, kind: str, **fields: Any) -> None:
        """Send a task's event, when somebody wants task events."""
        if self._events is not None and self.told.events:
            self._events.send(kind, **fields)

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def children(self) -> list[Child]:
        """The processes, those that are leaving included."""
        return list(self._children.values())

    @property
    def totals(self) -> dict[str, int]:
        """Ended attempts by task name, of processes that have left."""
        return self._totals

    @property
    def uptime_s(self) -> float:
        return self._clock.monotonic() - self.started_at

    def wall_time(self, monotonic: float) -> float:
        """A moment of the host's monotonic clock as seconds since the epoch."""
        return self._clock.time() - (self._clock.monotonic() - monotonic)

    def remember(self, orders: Sequence[Cancellation]) -> None:
        """Note cancellations for `inspect revoked`."""
        for order in orders:
            self._orders.setdefault(order.id, order)
        while len(self._orders) > _REVOKED_KEPT:
            del self._orders[next(iter(self._orders))]

    @property
    def revoked_ids(self) -> list[str]:
        """Ids whose cancellation this worker has met."""
        return list(self._orders)

    # -- processes -----------------------------------------------------------------------------------------------

    def _spawn(self) -> None:
        if self._is_stopping:
            return
        index = next((one for one in range(self.slots.slots - ASIDE) if one not in self._children), None)
        if index is None:
            raise WorkerError("all slots are taken")
        slot = self.slots.slot(index)
        slot.reset()
        slot.state = slots.STARTING
        slot.progress = self._clock.monotonic()
        ours, theirs = socket.socketpair()
        child = Child(slot, index, ours, self._on_message)
        self._children[index] = child
        try:
            self._nurseries[-1].fork(child, theirs, self.queues, orders=self.told)
        except OSError:
            child.end(None)  # the fork server has just ended, which is dealt with where it is noticed
        self._start(self._attend(child))

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._jobs.add(task)
        task.add_done_callback(self._on_job_done)

    def _on_job_done(self, task: asyncio.Task[None]) -> None:
        self._jobs.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            _log.error("a part of the supervisor failed", exc_info=exc)

    def _retire(self, child: Child, grace_s: float, leave_s: float) -> None:
        child.stop(grace_s)
        asyncio.get_running_loop().call_later(grace_s + leave_s, self._make_leave, child)

    def _make_leave(self, child: Child) -> None:
        if not child.ended.done():
            _log.error("process %d did not leave in time and is killed", child.pid)
            child.kill()

    def _on_message(self, child: Child, message: Mapping[str, Any]) -> None:
        if message["what"] == "ready":
            child.is_ready = True
            self._bad_starts = 0
            if self.broker.traits.lease_kind == "incarnation":
                self._start(self._beat_once())  # from now on the broker knows who cleans up after it
            if not self._was_ready:
                self._was_ready = True
                self._came_up.set()
                self._announce("worker_ready")
                self._on_ready()
                _log.info("ready")
        elif message["what"] == "unheld":
            for one in msgspec.convert(message["deliveries"], list[Delivery]):
                child.unheld[one.id] = one
        elif message["what"] == "settled":
            for task_id in message["ids"]:
                child.unheld.pop(task_id, None)
        elif message["what"] == "draining" and not child.is_leaving:
            child.is_leaving = True
            child.has_successor = True
            self._spawn()

    async def _attend(self, child: Child) -> None:
        """Wait for the end of a process; then see to what it leaves behind, and to its successor."""
        status = await child.ended
        if not child.is_ready and not child.is_leaving and not child.was_killed:
            await self._bad_start(child, status)
        else:
            await self._bury(child, status)
        for name, count in child.totals.items():
            self._totals[name] = self._totals.get(name, 0) + count
        self._processed += _ended_count(child)
        self._children.pop(child.index, None)
        wanted = not (self._is_stopping or child.is_unwanted or child.has_successor)
        if wanted and not self._nurseries[-1].lost.done():
            self._spawn()

    async def _bad_start(self, child: Child, status: int | None) -> None:
        self._bad_starts += 1
        _log.error("process %d ended with %s before it was ready", child.pid, _ending(status))
        if not self._was_ready and self._bad_starts >= STARTS:
            _log.critical(
                "%d processes in a row ended before they were ready, the last with %s: giving up. "
                "The first lines above say why.",
                self._bad_starts,
                _ending(status),
            )
            self._code = exits.FAILED
            self.stop(cold=True)
            return
        await self._pause(min(10.0, 0.1 * 2.0**self._bad_starts))
        await self._abandon(child, ())

    async def _pause(self, delay_s: float) -> None:
        """Sleep, or less when the worker stops."""
        try:
            async with asyncio.timeout(delay_s):
                await self._stopped.wait()
        except TimeoutError:
            pass

    async def _bury(self, child: Child, status: int | None) -> None:
        running = child.slot.running()
        is_orderly = child.slot.state == slots.GONE and not running
        causes: dict[str, Cause] = {}
        if child.culprits:
            causes = {one.id: child.culprits[one.id] for one in running if one.id in child.culprits}
        elif (child.was_killed and not child.is_broken) or (child.is_leaving and status == exits.FORCED):
            self._code = self._code or (exits.FORCED if running and self._is_stopping else exits.OK)
        elif not is_orderly:
            crash = Crashed(
                pid=child.pid,
                exit_code=status if status is not None and status >= 0 else None,
                signal=-status if status is not None and status < 0 else None,
            )
            # A coroutine that waits does not crash a process, the task in the main thread does; where none runs, the
            # last one that did, unless it is settled (then it is not found under this incarnation any more).
            suspects = [one.id for one in running if one.entry < self._sync_entries]
            suspects = suspects or [one.id for one in running] or child.slot.newest(self._sync_entries)
            causes = dict.fromkeys(suspects, crash)
        if is_orderly:
            return
        if not child.was_killed and not (child.is_leaving and status == exits.FORCED):
            _log.error("process %d ended with %s%s", child.pid, _ending(status), _what(running))
        if self._notary is not None:
            await self._leave_word(child, running, causes)
            return
        backoff = Backoff()
        while causes:
            try:
                await self._settle_dead(child, causes)
                break
            except LeaseLostError:
                await self._open()
            except Exception as exc:  # whatever it is: without this process's end there is no successor
                _log.warning("what process %d was running cannot be settled yet (%s)", child.pid, exc)
                await self._clock.sleep(backoff.next())
        # what has ended, and was perhaps not settled, has started as well
        started = [*(one.id for one in running if one.id not in causes), *child.slot.ended_once()]
        await self._abandon(child, started)

    async def _settle_dead(self, child: Child, causes: Mapping[str, Cause]) -> None:
        consumer = self._lease.consumer
        incarnation = _incarnation(child)
        if incarnation is None:
            return
        deliveries = await consumer.adopt(incarnation, list(causes))
        outcomes = [self.casualties.judge(delivery, causes[delivery.id]) for delivery in deliveries]
        for outcome in outcomes:
            self._tell_of_dead(outcome, causes[outcome.delivery.id])
        if outcomes:
            # Adopted once, they are settled until it works: nobody else will.
            backoff = Backoff()
            while True:
                try:
                    await self._settler.settle(consumer, outcomes)
                    return
                except LeaseLostError:
                    return  # they are others' now
                except Exception as exc:
                    _log.warning("%d outcomes cannot be settled yet (%s)", len(outcomes), exc)
                    await self._clock.sleep(backoff.next())

    async def _leave_word(self, child: Child, running: Sequence[Running], causes: Mapping[str, Cause]) -> None:
        """Note how what it ran has ended, and settle here what is in no queue any more."""
        dragged = Dragged(pid=child.pid)
        left = {**dict.fromkeys((one.id for one in running), dragged), **causes}
        await self._until_it_works(
            lambda: self._note(child, {one: cause for one, cause in left.items() if one not in child.noted}),
            f"how the tasks of process {child.pid} ended cannot be noted yet",
        )
        if child.unheld:
            judged = []
            for delivery in child.unheld.values():
                cause = left.get(delivery.id, dragged)
                outcome = self.casualties.judge(delivery, cause)
                self._tell_of_dead(outcome, cause)
                judged.append(outcome)
            await self._until_it_works(
                lambda: self._settler.settle_unheld(judged), f"{len(judged)} outcomes cannot be stored yet"
            )

    async def _note(self, child: Child, causes: Mapping[str, Cause]) -> None:
        assert self._notary is not None
        if causes:
            node, at = self.options.node, self._clock.time()
            notes = {one: Note(cause=cause, node=node, pid=child.pid, at=at).encode() for one, cause in causes.items()}
            await self._notary.note_lost(notes)
            child.noted.update(causes)

    async def _until_it_works(self, work: Callable[[], Awaitable[None]], what: str) -> None:
        """Try for a minute: word that comes later helps nobody, and the process has no successor before."""
        backoff = Backoff()
        until = self._clock.monotonic() + WORD_S
        while True:
            try:
                return await work()
            except Exception as exc:
                if self._clock.monotonic() > until:
                    _log.error("%s, and is given up: %s", what, exc)
                    return None
                _log.warning("%s (%s)", what, exc)
                await self._clock.sleep(backoff.next())

    def _tell_of_dead(self, outcome: Outcome, cause: Cause) -> None:
        event = casualty_event(outcome, cause)
        if event is not None:
            self.tell_of(event[0], **event[1])

    async def _abandon(self, child: Child, running: Sequence[str]) -> None:
        incarnation = _incarnation(child)
        if incarnation is None:
            return
        backoff = Backoff()
        for _ in range(10):  # after that its lease is over anyway, and any worker's reaper finds it
            try:
                count = await self.broker.abandon(incarnation, running=running)
                if count:
                    _log.info("%d messages of process %d went back to their queues", count, child.pid)
                return
            except Exception as exc:
                _log.warning("what process %d held cannot be given back yet (%s)", child.pid, exc)
                await self._clock.sleep(backoff.next())

    # -- receivers of the worker's own signals -------------------------------------------------------------------

    def _listen(self, nursery: Nursery) -> None:
        """Fork the process that calls them (`listener`). It has a slot, the last one, and never uses it."""
        ours, theirs = socket.socketpair()
        index = self.slots.slots - 1
        self._listens = self.manifest.listens  # of the code that it runs, whatever a restart imports
        self._listener = listener = Child(self.slots.slot(index), index, ours, self._on_heard)
        nursery.fork(listener, theirs, (), role="listener")
        listener.ended.add_done_callback(self._on_listener_ended)

    def _announce(self, name: str, **arguments: Any) -> None:
        """Have the receivers of a signal called, soon and elsewhere."""
        if self._listener is not None and name in self._listens:
            self._unheard += 1
            self._listener.send({"what": "event", "signal": name, "arguments": arguments})

    async def ask_application(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """The reply of one of the application's own remote-control commands."""
        if self._listener is None:
            return {"error": f"the process that runs {command!r} has ended; see the worker's log"}
        answer = await self._listener.ask(COMMAND_S, "command", name=command, arguments=dict(arguments))
        return {"error": f"{command!r} gave no reply within {COMMAND_S:g} s"} if answer is None else answer["reply"]

    def _on_heard(self, listener: Child, message: Mapping[str, Any]) -> None:
        self._unheard -= 1

    def _on_listener_ended(self, ended: asyncio.Future[int | None]) -> None:
        if self._listener is not None and not self._listener.is_leaving:
            _log.error(
                "the process that calls receivers of worker signals ended with %s; no more are called",
                _ending(ended.result()),
            )
            self._listener = None

    async def _dismiss_listener(self) -> None:
        listener = self._listener
        if listener is None:
            return
        self._announce("worker_shutdown")
        listener.stop(0.0)
        await asyncio.wait([listener.ended], timeout=COLD_S if self._signals > 1 else LISTEN_S)
        if not listener.ended.done():
            _log.error("receivers of worker_shutdown did not return in time; their process is killed")
            listener.kill()
            await asyncio.wait([listener.ended], timeout=1.0)

    # -- the schedule --------------------------------------------------------------------------------------------

    @property
    def beat_pid(self) -> int | None:
        """The process that runs the schedule; None: this worker does not run it, or just now has no such process."""
        beat = self._beat_child
        return None if beat is None or beat.ended.done() else beat.pid or None

    def _start_beat(self) -> None:
        """Fork the process that runs the schedule. Its slot is never used."""
        ours, theirs = socket.socketpair()
        index = self.slots.slots - ASIDE
        beat = Child(self.slots.slot(index), index, ours, self._on_beat_ready)
        self._beat_child = beat
        try:
            self._nurseries[-1].fork(beat, theirs, (), role="beat")
        except OSError:
            beat.end(None)  # the fork server has just ended, which is dealt with where it is noticed
        self._start(self._attend_beat(beat))

    @staticmethod
    def _on_beat_ready(beat: Child, message: Mapping[str, Any]) -> None:
        _log.info("the schedule is run by process %d, %s", beat.pid, message["name"])

    async def _attend_beat(self, beat: Child) -> None:
        """Wait for its end, and start another one: where it has got to is in the store."""
        started = self._clock.monotonic()
        status = await beat.ended
        if beat is not self._beat_child or self._is_stopping:
            return
        is_steady = self._clock.monotonic() - started >= BEAT_STEADY_S
        self._beat_ends = 1 if is_steady else self._beat_ends + 1
        pause_s = min(BEAT_PAUSE_S, 0.1 * 2.0 ** (self._beat_ends - 1))
        _log.error(
            "the beat, process %d, ended with %s; another one begins in %.1f s", beat.pid, _ending(status), pause_s
        )
        await self._pause(pause_s)
        self._replace_beat(beat)

    def _replace_beat(self, beat: Child) -> None:
        if beat is self._beat_child and not self._is_stopping and not self._nurseries[-1].lost.done():
            self._start_beat()

    # -- leases --------------------------------------------------------------------------------------------------

    async def _open(self) -> bool:
        backoff = Backoff()
        while True:
            if self._is_stopping:
                return False
            try:
                consumer = await self.broker.open_consumer(
                    (), incarnation=new_incarnation(), lease_s=self.options.lease_s, name=self.options.node
                )
            except Exception as exc:
                if not self._was_open and not isinstance(exc, BrokerUnavailableError):
                    raise
                delay_s = backoff.next()
                _log.warning("cannot reach the broker (%s); trying again in %.1f s", exc, delay_s)
                await self._pause(delay_s)
            else:
                lost = getattr(self, "_lease", None)
                self._lease = Lease(consumer)
                if lost is not None:  # it has connections, and a listener that would keep them up
                    self._start(self._give_back(lost))
                self._stamp = -1 if self._was_open else consumer.cancel_stamp  # orders may have come meanwhile
                self._was_open = True
                return True

    async def _give_back(self, lease: Lease) -> None:
        try:
            async with asyncio.timeout(2.0):
                await lease.consumer.close()
        except Exception as exc:
            _log.debug("the supervisor's lease is left to the reaper: %s", exc)

    async def _beat(self) -> None:
        lease_s = self.options.lease_s
        backoff = Backoff()
        while True:
            await self._clock.sleep(lease_s / 3.0)
            while not await self._beat_once():
                await self._clock.sleep(min(backoff.next(), lease_s / 10.0))
            backoff.reset()

    async def _beat_once(self) -> bool:
        own = self._lease.consumer.incarnation
        held = [
            (child, incarnation)
            for child in self._children.values()
            if not child.ended.done() and (incarnation := _incarnation(child)) is not None
        ]
        before = self._clock.monotonic()
        try:
            lost = await self.broker.beat([own, *(incarnation for _, incarnation in held)])
        except Exception as exc:
            _log.warning("the leases cannot be renewed (%s)", exc)
            return False
        for child, incarnation in held:
            if _incarnation(child) == incarnation:
                # 0 makes the process ask for itself before it starts another task
                child.slot.lease_until = 0.0 if incarnation in lost else safe_until(before, self.options.lease_s)
        if own in lost:
            await self._open()
        if self._unheard < MOST_UNHEARD:
            self._announce("heartbeat_sent")
        return True

    async def _stay_connected(self) -> None:
        """Open another connection when this one, by which orders come, is lost."""
        told_at = self._clock.monotonic()
        while True:
            await self._clock.sleep(CONNECTION_S)
            try:
                await self._lease.consumer.beat()
            except LeaseLostError as exc:
                _log.warning("the connection to the broker was lost: %s", exc)
                await self._open()
            except Exception as exc:
                _log.warning("whether the broker is there is unknown (%s)", exc)
            else:
                now = self._clock.monotonic()
                if now - told_at >= self.options.lease_s / 3.0 and self._unheard < MOST_UNHEARD:
                    told_at = now
                    self._announce("heartbeat_sent")

    async def _reap(self) -> None:
        while True:
            await self._clock.sleep(self.options.reap_every_s)
            try:
                count = await self.broker.reap(limit=REAP_LIMIT)
                if count:
                    _log.warning("%d messages of dead workers went back to their queues", count)
            except Exception as exc:
                _log.warning("cannot look for dead workers: %s", exc)

    # -- what runs -----------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        last = self._clock.monotonic()
        pause_s = TICK_S
        while True:
            await asyncio.sleep(pause_s)
            now = self._clock.monotonic()
            slept = now - last > self.options.lease_s / 2.0  # stopped or suspended: others need a moment as well
            last = now
            held: list[tuple[Child, list[Running]]] = []
            for child in list(self._children.values()):
                if child.ended.done() or not child.pid:
                    continue
                running = child.slot.running()
                if running:
                    held.append((child, running))
                if not child.is_leaving:
                    self._look_after(child, running, now, slept)
                for one in running:
                    if one.deadline is not None and one.deadline - now < TICK_S:
                        delay_s = max(0.0, one.deadline - now)
                        asyncio.get_running_loop().call_later(delay_s, self._enforce, child, one)
            await self._look_for_orders(held, now)
            self._look_after_nurseries()
            pause_s = TICK_S if held else IDLE_TICK_S

    def _look_after(self, child: Child, running: Sequence[Running], now: float, slept: bool) -> None:
        silent_s = now - child.slot.progress
        if running and silent_s > self.options.lease_s / 2.0 and child.is_ready:
            blocking = min(running, key=lambda one: (one.entry >= self._sync_entries, one.started))
            # one that has just started is not to blame for what was before it
            is_to_blame = now - blocking.started > self.options.lease_s / 2.0
            if is_to_blame and blocking.epoch != child.blocked_by and not slept:
                child.blocked_by = blocking.epoch
                _log.warning(
                    "%s[%s] blocks the interpreter of process %d for %.0f s; its lease is kept",
                    blocking.name,
                    blocking.id,
                    child.pid,
                    silent_s,
                )
        if child.is_hung_up:
            # Alive, and its channel closed: a task has closed descriptors that it did not open.
            reason = "has lost its descriptors"
            patience_s = TICK_S
        elif child.is_ready and silent_s > max(self.options.lease_s, SILENT_S) and not running:
            reason = f"claims nothing and runs nothing since {silent_s:.0f} s"
            patience_s = 1.0  # a machine that just woke up is not a fault
        else:
            child.suspect_since = None
            return
        if slept or child.suspect_since is None:
            child.suspect_since = now
        elif now - child.suspect_since >= patience_s:
            _log.error("process %d %s: it is replaced", child.pid, reason)
            child.is_broken = True
            child.kill()

    def _enforce(self, child: Child, late: Running) -> None:
        if not child.was_killed and self._still_runs(child, late):
            # Async tasks and threads share their process, and Python has no way to end one of them alone, so the
            # others go down with it: they are given back and run again, with this start counted.
            _log.error(
                "%s[%s] is past its hard limit of %g s; process %d is killed",
                late.name,
                late.id,
                late.limit_s,
                child.pid,
            )
            self._kill(child, late, HardLimit(limit_s=late.limit_s))

    def _kill(self, child: Child, one: Running, cause: Cause) -> None:
        """Kill a process because of a task it runs."""
        if self._notary is None:
            child.kill(**{one.id: cause})
        elif one.epoch not in child.condemned:
            child.condemned.add(one.epoch)
            self._start(self._note_and_kill(child, one, cause))

    async def _note_and_kill(self, child: Child, one: Running, cause: Cause) -> None:
        # Its message is in its queue again the moment it dies: whoever gets it must find the note there.
        try:
            async with asyncio.timeout(NOTE_S):
                await self._note(child, {one.id: cause})
        except Exception as exc:
            _log.warning("why process %d is killed cannot be noted before (%s)", child.pid, exc)
        if self._still_runs(child, one):
            child.kill(**{one.id: cause})
        else:
            child.noted.discard(one.id)

    @staticmethod
    def _still_runs(child: Child, one: Running) -> bool:
        return any(now.epoch == one.epoch for now in child.slot.running())

    async def _look_for_orders(self, held: Sequence[tuple[Child, list[Running]]], now: float) -> None:
        consumer = self._lease.consumer
        stamp = consumer.cancel_stamp
        if stamp != self._stamp:
            ids = {one.id for _, running in held for one in running}
            try:
                orders = await consumer.cancelled(ids) if ids else ()
            except Exception as exc:
                _log.warning("cannot ask what is cancelled: %s", exc)
                return
            self._stamp = stamp
            for order in orders:
                self._orders[order.id] = order  # replaces one that `remember` noted
                if order.terminate:
                    self._terminating.setdefault(order.id, now + ASYNC_STOP_S)
        if not self._terminating:
            return
        seen = set()
        for child, running in held:
            for one in running:
                until = self._terminating.get(one.id)
                if until is None:
                    continue
                seen.add(one.id)
                # An async task is cancelled by its own process; one that does not obey shares the fate of the others.
                is_due = one.entry < self._sync_entries or now >= until
                if is_due and one.epoch not in child.terminated and self._still_runs(child, one):
                    child.terminated.add(one.epoch)
                    self._start(self._terminate(child, one, self._orders[one.id].signal))
        for task_id in [one for one in self._terminating if one not in seen]:
            del self._terminating[task_id]

    async def _terminate(self, child: Child, one: Running, name: str) -> None:
        """End a running task with its process, after the handler that the task may have installed has had its turn."""
        number = signal.Signals.__members__.get(name, signal.SIGKILL)
        if number != signal.SIGKILL:
            answer = await child.ask(ANSWER_S, "may_signal", signal=int(number), id=one.id)
            if answer is not None and answer["handles"] and self._still_runs(child, one):
                _log.warning("%s[%s] is sent %s in process %d", one.name, one.id, name, child.pid)
                child.signal(number)
                until = self._clock.monotonic() + HANDLER_S
                while self._still_runs(child, one) and self._clock.monotonic() < until:  # noqa: ASYNC110 - the map
                    await asyncio.sleep(0.01)  # has no event
        if not child.ended.done() and self._still_runs(child, one):
            _log.warning("%s[%s] is terminated with process %d", one.name, one.id, child.pid)
            self._kill(child, one, Terminated(signal=name))

    def _look_after_nurseries(self) -> None:
        for nursery in list(self._nurseries):
            for child in nursery.orphans():
                if not child.ended.done() and child.pid and (child.is_hung_up or not _is_alive(child.pid)):
                    child.end(None)
        current = self._nurseries[-1]
        if current.lost.done() and not self._is_stopping and not self._is_restarting:
            _log.error("the fork server ended; a new one is started")
            self.restart()

    # -- control -------------------------------------------------------------------------------------------------

    async def _serve_control(self) -> None:
        from celeriac.worker.control import Control

        control = Control(self)
        assert self.links.control is not None
        backoff = Backoff()
        while self._control is None:
            try:
                self._control = await self.links.control.serve(self.options.node, control.handle, clock=self.clock)
            except Exception as exc:
                _log.warning("remote control is not available yet: %s", exc)
                await self._clock.sleep(backoff.next())
        await asyncio.Event().wait()


def _incarnation(child: Child) -> Incarnation | None:
    return child.slot.incarnation or None  # type: ignore[return-value]


def _ended_count(child: Child) -> int:
    counters = child.slot.counters()
    return sum(counters[name] for name in ("succeeded", "failed", "retried", "buried"))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return True


def _ending(status: int | None) -> str:
    if status is None:
        return "an unknown status"
    if status < 0:
        try:
            return f"signal {-status} ({signal.Signals(-status).name})"
        except ValueError:
            return f"signal {-status}"
    return f"exit code {status}"


def _what(running: Sequence[Running]) -> str:
    if not running:
        return ""
    names = ", ".join(f"{one.name}[{one.id}]" for one in running[:3])
    return f" while it ran {names}" + (f" and {len(running) - 3} more" if len(running) > 3 else "")
