"""A worker of a world: the real supervisor and the real stations, with processes of the world for those of the host."""

from __future__ import annotations

import asyncio
from collections import deque
from queue import Empty
from typing import TYPE_CHECKING, Any, Final

from celeriac.app.runtime import WorkerOverrides, make_runtime, worker_options
from celeriac.engine.settle import Settler
from celeriac.model import Incarnation
from celeriac.probe import Probe
from celeriac.worker import exits, slots
from celeriac.worker.children import Child
from celeriac.worker.runtime import Orders
from celeriac.worker.slots import SlotMap
from celeriac.worker.station import Station
from celeriac.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from celeriac.worker.desk import Job
    from celeriac.worker.runtime import WorkerOptions
    from chaos.simulator.loop import Proc
    from chaos.simulator.world import World

PROCESSES: Final = 2
ASYNC_SLOTS: Final = 3
_SLOTS: Final = 12
_FORK_S: Final = 0.03
"""What a fork takes, and how soon an end is known."""
_SIGKILL: Final = 9


class _Channel:
    """Stands for a socket of a supervisor: nothing is sent through it."""

    def setblocking(self, flag: bool) -> None: ...


class _Child(Child):
    """A process of the world as its supervisor knows it; messages are handles of the other side."""

    world: World
    proc: Proc
    station: Station | None = None

    def send(self, message: Any) -> None:
        if not self.ended.done():
            self.world.send(self.proc, lambda: self._obey(message))

    def _obey(self, message: Any) -> None:
        if self.station is not None and message["what"] == "stop":
            self.station.stop(message["grace_s"])

    def signal(self, number: int) -> None:
        if self.pid and not self.ended.done() and number == _SIGKILL:
            self.world.kill_by_supervisor(self.proc)

    def end(self, status: int | None) -> None:
        if not self.ended.done():
            self.ended.set_result(status)

    @property
    def is_hung_up(self) -> bool:
        return False  # its end is reported


class _Nursery:
    """Forks processes of the world."""

    def __init__(self, supervisor: SimSupervisor) -> None:
        self._supervisor = supervisor
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fork(self, child: _Child) -> None:
        supervisor, world = self._supervisor, self._supervisor.world
        proc = child.proc = world.new_proc(supervisor.name, "child")
        supervisor.kin[proc] = child

        def forked() -> None:
            child.pid = proc.pid
            if child.was_killed:
                child.kill()

        world.loop.call_later(_FORK_S, forked)
        world.start_child(proc, supervisor, child)

    def orphans(self) -> Sequence[Child]:
        return ()

    def stop(self) -> None: ...

    async def close(self) -> None: ...


class SimSupervisor(Supervisor):
    """The real one but for what it does with the operating system: signals, sockets, forks.

    Args:
        world: In which it lives.
        proc: As which.
        name: Of its node.
    """

    def __init__(self, world: World, proc: Proc, name: str) -> None:
        super().__init__(None, None, clock=world.clock)  # type: ignore[arg-type]
        self.world = world
        self.proc = proc
        self.name = name
        self.kin: dict[Proc, _Child] = {}
        self.options = options_of(world, name)

    async def serve(self) -> None:
        """As `run`, from where the application is loaded."""
        self._stopped = asyncio.Event()
        self._came_up = asyncio.Event()
        self.started_at = self._clock.monotonic()
        nursery: Any = _Nursery(self)
        self._nurseries.append(nursery)
        self.queues = list(self.options.queues)
        self.wanted = self.options.processes
        runtime = make_runtime(self.world.app, self.options)
        self.links = links = runtime.links
        self.broker = links.broker
        self.casualties = runtime.casualties
        self._settler = Settler(links.results, self.broker, fused=links.fused)
        self._notary = None
        self.slots = SlotMap.create(slots=_SLOTS, entries=Station.entries(0, ASYNC_SLOTS))
        self.world.closing.append(self.slots.close)
        self._sync_entries = 1
        self._events = None
        loop = asyncio.get_running_loop()
        if not await self._open():
            return
        for _ in range(self.wanted):
            self._spawn()
        loops = [loop.create_task(one, name=name) for name, one in self._loops().items()]
        stopped = loop.create_task(self._stopped.wait())
        done, _ = await asyncio.wait([stopped, *loops], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        for task in done - {stopped}:
            task.result()
        await self._close(loops)

    def _loops(self) -> dict[str, Any]:
        return {"tick": self._tick(), "reap": self._reap(), "beat": self._beat()}

    def _spawn(self) -> None:
        if self._is_stopping:
            return
        index = next(one for one in range(_SLOTS) if one not in self._children)
        slot = self.slots.slot(index)
        slot.reset()
        slot.state = slots.STARTING
        slot.progress = self._clock.monotonic()
        child = _Child(slot, index, _Channel(), self._on_message)  # type: ignore[arg-type]
        child.world = self.world
        self._children[index] = child
        self._nurseries[-1].fork(child)  # type: ignore[call-arg,arg-type]
        self._start(self._attend(child))


class _Told(Probe):
    """Notes in the history what a station says."""

    def __init__(self, world: World) -> None:
        self._world = world

    def signal(self, name: str, value: Any = None) -> None:
        if name == "lease_lost":
            self._world.note("fenced", id=str(value))


class _OneJob:
    """A desk's queue that has one job and then tells the runner to leave."""

    def __init__(self, station: SimStation, job: Job) -> None:
        self._station = station
        self._job: Job | None = job

    def get_nowait(self) -> Job | None:
        job, self._job = self._job, None
        self._station.queue_back()
        return job

    get = get_nowait


class _Jobs:
    """The desk's queue: whoever puts a job wakes the main thread."""

    def __init__(self, wake: Any) -> None:
        self.jobs: deque[Job] = deque()
        self._wake = wake

    def put(self, job: Job | None) -> None:
        if job is not None:
            self.jobs.append(job)
            self._wake()

    def get_nowait(self) -> Job:
        if not self.jobs:
            raise Empty
        return self.jobs.popleft()

    def qsize(self) -> int:
        return len(self.jobs)


class SimStation(Station):
    """The real one; its main thread is a handle of the loop, which blocks as a thread would."""

    def __init__(self, world: World, *args: Any, **options: Any) -> None:
        super().__init__(*args, main=True, board=None, orders=Orders(), clock=world.clock, **options)  # type: ignore[arg-type]
        self._sim = world
        self._jobs: Any = _Jobs(self._wake)
        self._is_busy = False
        self.queue_back()

    def queue_back(self) -> None:
        self._desk.ready = self._jobs

    def _wake(self) -> None:
        self._sim.loop.call_soon(self._run_one)

    def _run_one(self) -> None:
        if self._is_busy or not self._jobs.jobs:
            return
        self._is_busy = True
        try:
            ready: Any = _OneJob(self, self._jobs.get_nowait())
            self._desk.ready = ready
            self.runners[0].run()
        finally:
            self._is_busy = False
        if self._jobs.jobs:
            self._wake()

    def _ask(self, question: Coroutine[Any, Any, bool]) -> bool:
        task = asyncio.get_running_loop().create_task(question)
        self._sim.loop.block(task.done)
        return not task.cancelled() and task.result()


async def run_child(world: World, proc: Proc, supervisor: SimSupervisor, child: _Child) -> None:
    """The life of a process that runs tasks."""
    runtime = make_runtime(world.app, supervisor.options)
    station = child.station = SimStation(world, runtime, child.slot, queues=supervisor.queues, probe=_Told(world))

    def tell(message: dict[str, Any]) -> None:
        world.send(supervisor.proc, lambda: supervisor._on_message(child, message))

    station.on_ready = lambda: tell({"what": "ready"})
    station.on_recycle = lambda: tell({"what": "draining"})
    is_clean = await station.serve()
    if not is_clean:
        world.nemesis.note_forced(proc)
    world.exit(proc, exits.OK if is_clean else exits.FORCED)


def orphan(station: Station) -> None:
    """What a process does that finds its supervisor gone."""
    station.beat_alone()
    station.stop(min(station.options.grace_s, 10.0))


def options_of(world: World, name: str) -> WorkerOptions:
    wanted = WorkerOverrides(node=f"{name}@model", processes=PROCESSES, async_slots=ASYNC_SLOTS, queues=("celery",))
    return worker_options(world.app, wanted)


def held_by(child: _Child) -> Incarnation:
    """What it claims under."""
    return Incarnation(child.slot.incarnation)
