"""A world: servers in memory, workers, producers and beats on one loop, and a nemesis; all of it drawn from a seed."""

from __future__ import annotations

import itertools
import logging
import random
import traceback
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from celeriac.brokers.memory import MemoryBroker
from celeriac.brokers.memory.queues import Queues
from celeriac.canvas import chain, chord
from celeriac.clock import ENTROPY
from celeriac.errors import BrokerError, EnqueueRejectedError
from celeriac.model import Settled
from celeriac.model import ids as model_ids
from celeriac.results.memory import MemoryResultStore
from celeriac.storage.memory import open_space
from chaos.history import Blame, Event
from chaos.simulator.application import ENTRIES, MOST_RETRIES, Model
from chaos.simulator.broker import renamed
from chaos.simulator.loop import BEGIN_S, CLOCK, PROCESS, SERVER_CLOCK, Crash, Proc, SimLoop
from chaos.simulator.network import KINDS, POINTS, Bomb, Network
from chaos.simulator.worker import SimSupervisor, orphan, run_child

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from celeriac.model import Delivery, Outcome, Outgoing

LOAD_S: Final = 5.0
"""How long producers and nemesis are at it."""
DRAIN_S: Final = 60.0
"""How long what is left may take then, on a calm network."""
TASKS: Final = 9
"""Sendings of each producer."""
_names = itertools.count(1)


class Fault(NamedTuple):
    """Something that the nemesis does at a time."""

    number: int
    at: float
    kind: str
    target: float
    """From 0 to 1: which of those it may befall."""
    size: float
    """From 0 to 1."""


FAULTS: Final = (
    "kill worker", "kill worker", "kill supervisor", "kill child", "kill child", "kill producer", "kill beat",
    "stop worker", "stop worker", "stop supervisor", "stop child", "stop beat", "stop producer", "trouble", "trouble",
    "cut", "skew", "end worker",
)  # fmt: skip


def plan_of(seed: int) -> tuple[Fault | Bomb, ...]:
    """What the nemesis of a seed will do."""
    luck = random.Random(f"{seed} nemesis")
    found: list[Fault | Bomb] = []
    for number in range(luck.choice((0, 3, 5, 7, 9, 12))):
        if luck.random() < 0.65:
            skip = int(luck.random() ** 2 * (5 if luck.random() < 0.5 else 60))
            found.append(Bomb(number, luck.choice(POINTS), luck.choice(KINDS), skip, luck.random()))
        else:
            at, kind = luck.uniform(0.1, LOAD_S), luck.choice(FAULTS)
            found.append(Fault(number, at, kind, luck.random(), luck.random()))
    if luck.random() < 0.25:  # what is done about a process that died, and goes wrong as well
        number = len(found)
        found.append(Fault(number, luck.uniform(0.1, LOAD_S), "kill child", luck.random(), luck.random()))
        point = luck.choice(("adopt", "adopt", "abandon", "open", "settle"))
        found.append(Bomb(number + 1, point, luck.choice(KINDS), 0 if point == "adopt" else 4, luck.random()))
    return tuple(found)


class Run(msgspec.Struct):
    """A run of a task's body, as the servers know it."""

    id: str
    proc: Proc
    started: float
    committed: float | None = None
    """When its outcome was taken."""


class Nemesis:
    """Makes the trouble and writes it down."""

    def __init__(self, world: World, plan: Sequence[Fault | Bomb]) -> None:
        self._world = world
        self._loop = world.loop
        self._primed: dict[Proc, list[Bomb]] = {}
        self._lasting: list[tuple[float, int, str, Collection[Proc]]] = []
        """What keeps processes from the servers: until when, its number and kind, and whom."""
        self.faults = self.crashes = 0
        world.network.arm([one for one in plan if isinstance(one, Bomb)])
        for one in plan:
            if isinstance(one, Fault):
                world.loop.call_later(
                    one.at, lambda fault=one: self._happen(fault), context=world.server.context.copy()
                )

    # -- bombs ---------------------------------------------------------------------------------------------------

    def explode(self, bomb: Bomb, proc: Proc) -> str:
        """A call of a process meets a bomb; what befalls the call."""
        kind = bomb.kind
        if kind in ("crash-after", "stop-after"):
            self._primed.setdefault(proc, []).append(bomb)
        elif kind == "crash-before":
            self._crash(proc, bomb.number, f"{kind} {bomb.point}", bomb.size)
        elif kind == "stop-before":
            self._stop(self._kin(proc, bomb.size), bomb.number, f"{kind} {bomb.point}", bomb.size)
        elif kind == "cut":
            self._cut(self._world.group_of(proc), bomb.number, bomb.size)
        else:
            # one call alone explains nothing, unless it keeps a beat from its work for long
            lasts_s = 5.0 if kind == "slow" else 0.0
            procs = self._world.group_of(proc) if lasts_s else []
            self._note(bomb.number, f"{kind} {bomb.point}", procs, lasts_s, cuts=bool(lasts_s))
        return kind

    def strike(self, proc: Proc, kind: str) -> None:
        """The second half of a bomb; several calls of a process may have met one."""
        primed = self._primed.get(proc, [])
        bomb = next((one for one in primed if one.kind == kind), None)
        if bomb is None:
            return
        primed.remove(bomb)
        if kind == "crash-after":
            self._crash(proc, bomb.number, f"{bomb.kind} {bomb.point}", bomb.size)
        else:
            self._stop(self._kin(proc, bomb.size), bomb.number, f"{bomb.kind} {bomb.point}", bomb.size)

    def _kin(self, proc: Proc, size: float) -> list[Proc]:
        return self._world.group_of(proc) if size > 0.5 else [proc]

    # -- at its time ---------------------------------------------------------------------------------------------

    def _happen(self, fault: Fault) -> None:
        world = self._world
        if world.is_draining:
            return
        what, _, whom = fault.kind.partition(" ")
        role = "worker" if whom in ("", "supervisor") else whom
        alive = [proc for proc in world.alive if proc.role == role]
        if not alive:
            return
        proc = alive[int(fault.target * len(alive))]
        group = [proc] if whom == "supervisor" else world.group_of(proc) if role == "worker" else [proc]
        for each in group:
            for point, count in each.points.items():
                if count:
                    world.network.hits[f"{what}-during", point] += 1
            if not any(each.points.values()):
                world.network.hits[f"{what}-during", "elsewhere"] += 1
        if what == "kill":
            self.kill(group, fault.number, fault.kind)
        elif what == "stop":
            self._stop(group, fault.number, fault.kind, fault.size)
        elif what == "trouble":
            lasts_s = 0.5 + 4.0 * fault.size
            world.network.trouble(group, 0.3 + 0.4 * fault.target, self._loop.now + lasts_s)
            self._note(fault.number, "trouble", group, lasts_s + 3.0, cuts=True)
        elif what == "cut":
            self._cut(group, fault.number, fault.size)
        elif what == "skew":
            for each in group:
                # the wall clock of a worker says when a retry is due, so an hour would be one
                most_s = 20.0 if role == "worker" else 3600.0
                each.skew_s = most_s * (2.0 * fault.size - 1.0)
            self._note(fault.number, "skew", [], 0.0)
        else:
            self._note(fault.number, "end worker", [], 0.0)
            world.end_worker(proc)

    def _crash(self, proc: Proc, number: int, kind: str, size: float) -> None:
        self.kill(self._kin(proc, size) if proc.role in ("worker", "child") else [proc], number, kind)

    def kill(self, procs: Sequence[Proc], number: int = -1, kind: str = "kill") -> None:
        """SIGKILL to all of these."""
        self._note(number, kind, procs, 0.0)
        self._world.kill(procs)

    def _stop(self, procs: Sequence[Proc], number: int, kind: str, size: float) -> None:
        lasts_s = 0.3 + 6.0 * size * size
        for proc in procs:
            self._loop.stop_process(proc)
        # nobody beats for the processes of a supervisor that is stopped
        blamed = {
            one: None for proc in procs for one in (self._world.group_of(proc) if proc.role == "worker" else [proc])
        }
        self._note(number, kind, list(blamed), lasts_s, cuts=True)

        def go_on() -> None:
            for proc in procs:
                self._loop.continue_process(proc)

        self._loop.call_later(lasts_s, go_on, context=self._world.server.context.copy())

    def _cut(self, procs: Sequence[Proc], number: int, size: float) -> None:
        lasts_s = 0.5 + 5.0 * size
        self._world.network.cut(procs, self._loop.now + lasts_s)
        self._note(number, "cut", procs, lasts_s + 2.0, cuts=True)

    def _note(self, number: int, kind: str, procs: Collection[Proc], lasts_s: float, *, cuts: bool = False) -> None:
        self.faults += 1
        self.crashes += kind.startswith(("kill", "crash"))
        if cuts:
            self._lasting.append((self._loop.now + lasts_s, number, kind, procs))
        self._write(str(number), kind, procs, lasts_s, cuts=cuts)

    def note_born(self, proc: Proc, supervisor: Proc) -> None:
        """A process has been forked, and its supervisor, who beats for it, may be kept from the servers."""
        now = self._loop.now
        self._lasting = [one for one in self._lasting if one[0] > now]
        for until, number, kind, procs in self._lasting:
            if supervisor in procs:
                self._write(f"{number}.{proc.pid}", kind, [proc], until - now, cuts=True)

    def note_forced(self, proc: Proc) -> None:
        """A process has left while a task ran that its grace was too short for: that one runs again."""
        self._write(f"forced.{proc.pid}", "end of grace", [proc], 0.0, cuts=False)

    def _write(self, number: str, kind: str, procs: Collection[Proc], lasts_s: float, *, cuts: bool) -> None:
        blame = Blame(pids=tuple(proc.pid for proc in procs), cuts=cuts, everyone=False)
        value = msgspec.to_builtins(blame)
        context = self._world.server.context.copy
        context().run(self._world.note, "fault", "invoke", id=number, what=kind, value=value)
        over = lambda: self._world.note("fault", "ok", id=number, what=kind, value=value)  # noqa: E731
        self._loop.call_later(lasts_s, over, context=context())


class World:
    """See the module; `run` it once.

    Args:
        model: The application, of this process.
        seed: Of everything.
        plan: What the nemesis does; that of the seed unless given.
        script: Starts a fleet and its load, called by the servers; that of the seed unless given.
        bug: A planted one.
    """

    def __init__(
        self,
        model: Model,
        seed: int,
        *,
        plan: Sequence[Fault | Bomb] | None = None,
        script: Callable[[World], None] | None = None,
        bug: str = "",
    ) -> None:
        self.seed = seed
        self.bug = bug
        self._script = script or World._start_fleet
        self.model = model
        self.app = model.app
        self.clock = CLOCK
        self.events: list[Event] = []
        self.troubles: list[str] = []
        """What nobody expected: exceptions that left a process's code."""
        self.closing: list[Callable[[], object]] = []
        """What lets go of the host's descriptors, at the end."""
        self._pids = itertools.count(100)
        self._tokens = itertools.count(1)
        self.loop = SimLoop(self.luck("turns"), self._on_fault)
        CLOCK.loop = self.loop
        self.server = Proc("server", 1, "server")
        url = f"memory://world-{next(_names)}"
        self.broker = MemoryBroker(url, clock=SERVER_CLOCK)
        self.queues = open_space(url).part(Queues)
        self.results = MemoryResultStore(url if model.app.fused else f"{url}-results", clock=SERVER_CLOCK)
        self.schedules = self.broker.schedules("simulator")
        self.alive: list[Proc] = []
        self.is_draining = False
        self.supervisors: dict[Proc, SimSupervisor] = {}
        self.runs: dict[str, Run] = {}
        self._open_runs: dict[tuple[int, str], Run] = {}
        self._left: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self.network = Network(self)
        self.nemesis = Nemesis(self, plan_of(seed) if plan is None else plan)
        self.stale: list[str] = []
        """Ids of which a settlement was taken under a lease that was over."""
        self._acked_early: dict[Any, Any] = {}
        self._published: set[str] = set()
        self.sent: dict[str, dict[str, Any]] = {}

    def luck(self, what: str) -> random.Random:
        """A source of its own for each part, so that a fault less does not change what is not its business."""
        return random.Random(f"{self.seed} {what}")

    # -- history -------------------------------------------------------------------------------------------------

    def note(self, f: str, type: Any = "info", /, **fields: Any) -> None:
        """Write an event of now, of the process whose code runs."""
        proc = PROCESS.get()
        if proc.is_dead:
            raise Crash
        self.events.append(Event(t=round(self.loop.now, 6), p=proc.where, f=f, type=type, **fields))

    def new_token(self) -> str:
        return f"t{next(self._tokens)}"

    def began(self, task_id: str, token: str) -> None:
        """A body has begun."""
        proc = PROCESS.get()
        run = self.runs[token] = Run(task_id, proc, self.loop.now)
        self._open_runs[proc.pid, task_id] = run

    def on_settled(
        self, proc: Proc, outcomes: Sequence[Outcome], answers: Sequence[Settled], *, is_stale: bool
    ) -> None:
        """The broker has answered a settlement."""
        for outcome, answer in zip(outcomes, answers, strict=True):
            if answer is not Settled.OK:
                continue
            if is_stale:
                self.stale.append(outcome.delivery.id)
            run = self._open_runs.get((proc.pid, outcome.delivery.id))
            if run is not None and run.committed is None:
                run.committed = self.loop.now

    def _on_fault(self, proc: Proc, what: str, exc: BaseException | None) -> None:
        if not self.loop.is_closed():
            lines = "" if exc is None else "".join(traceback.format_exception(exc))
            self.troubles.append(f"{self.loop.now:.6f} {proc.where}: {what}\n{lines}")

    # -- processes -----------------------------------------------------------------------------------------------

    def new_proc(self, name: str, role: str) -> Proc:
        proc = Proc(name, next(self._pids), role)
        self.alive.append(proc)
        return proc

    def group_of(self, proc: Proc) -> list[Proc]:
        """With all of its worker."""
        if proc.role not in ("worker", "child"):
            return [proc]
        return [one for one in self.alive if one.name == proc.name]

    def _name(self, kind: str) -> str:
        self._counts[kind] = count = self._counts.get(kind, 0) + 1
        return f"{kind}{count}"

    def start_worker(self) -> None:
        proc = self.new_proc(self._name("worker"), "worker")
        supervisor = self.supervisors[proc] = SimSupervisor(self, proc, proc.name)

        async def serve() -> None:
            await supervisor.serve()
            self.exit(proc, supervisor._code)

        self._main(proc, serve())

    def start_child(self, proc: Proc, supervisor: SimSupervisor, child: Any) -> None:
        self.nemesis.note_born(proc, supervisor.proc)
        self._main(proc, run_child(self, proc, supervisor, child))

    def _main(self, proc: Proc, coro: Any) -> None:
        """Run a process's main coroutine; that it fails is a fault of ours."""

        def on_end(task: Any) -> None:
            if not task.cancelled() and task.exception() is not None and not proc.is_dead:
                self._on_fault(proc, "the process failed", task.exception())
                self.kill([proc])

        self.loop.spawn(proc, coro).add_done_callback(on_end)

    def start_producer(self, name: str) -> None:
        proc = self.new_proc(name, "producer")
        self.loop.start(proc, _Producer(self, proc).turn)

    def start_beat(self) -> None:
        proc = self.new_proc(self._name("beat"), "beat")

        def begin() -> None:
            beat: Any = self.app.make_beat(name=proc.where)

            def turn() -> None:
                if self.is_draining:
                    beat.leave()
                    self.exit(proc, 0)
                    return
                self.loop.call_later(beat.turn(), turn)

            turn()

        self.loop.start(proc, begin)

    def end_worker(self, proc: Proc) -> None:
        """SIGTERM."""
        supervisor = self.supervisors[proc]
        self.send(proc, supervisor.stop)

    def send(self, proc: Proc, action: Callable[[], Any]) -> None:
        """Have another process do something a moment later."""
        if not proc.is_dead:
            self.loop.call_later(0.001, action, context=proc.context.copy())

    def kill(self, procs: Collection[Proc]) -> None:
        """SIGKILL to all of these at once. Whoever sees to them sees to it."""
        procs = [proc for proc in procs if not proc.is_dead]
        for proc in procs:
            self.loop.crash(proc)
            self.alive.remove(proc)
        for proc in procs:
            self._ended(proc, -9)
        if PROCESS.get().is_dead:
            raise Crash

    def kill_by_supervisor(self, proc: Proc) -> None:
        """Its own supervisor ends it."""
        if not proc.is_dead:
            value = msgspec.to_builtins(Blame(pids=(proc.pid,)))
            for kind in ("invoke", "ok"):
                self.note("fault", kind, id=f"own-{proc.pid}", what="killed by its supervisor", value=value)
            self.kill([proc])

    def exit(self, proc: Proc, code: int) -> None:
        """It ends by itself."""
        if not proc.is_dead:
            self.loop.crash(proc)
            self.alive.remove(proc)
            self._ended(proc, code)
        raise Crash

    def _ended(self, proc: Proc, status: int) -> None:
        if proc.role == "child":
            for supervisor in self.supervisors.values():
                child = supervisor.kin.pop(proc, None)
                if child is not None:
                    self.send(supervisor.proc, lambda child=child: child.end(status))
        elif proc.role == "worker":
            supervisor = self.supervisors.pop(proc)
            for one, child in supervisor.kin.items():
                if child.station is not None:
                    self.send(one, lambda station=child.station: orphan(station))
            self._again(1.0, self.start_worker)
        elif proc.role == "producer":
            if self._left.get(proc.name):
                self._again(0.2, lambda: self.start_producer(proc.name))
        elif proc.role == "beat" and not self.is_draining:
            self._again(0.3, self.start_beat)

    def _again(self, after_s: float, start: Callable[[], None]) -> None:
        self.loop.call_later(after_s, start, context=self.server.context.copy())

    # -- planted bugs --------------------------------------------------------------------------------------------

    def forget(self, delivery: Delivery) -> None:
        """Acknowledged before it is run: a lease that ends gives nothing back."""
        entry = self.queues.entries.pop(delivery.id, None)
        if entry is not None and entry.holder is not None:
            del entry.holder.held[delivery.tag]
            self._acked_early[delivery.tag] = entry

    def remember(self, consumer: Any, outcomes: Sequence[Outcome]) -> None:
        """What was acknowledged early has a result all the same."""
        for outcome in outcomes:
            entry = self._acked_early.pop(outcome.delivery.tag, None)
            if entry is not None:
                self.queues.entries[outcome.delivery.id] = entry
                consumer._holder.held[outcome.delivery.tag] = entry

    def rename_known(self, messages: Sequence[Outgoing]) -> list[Outgoing]:
        """What is published again gets another id."""
        sent = [renamed(one) if one.id in self._published else one for one in messages]
        self._published.update(one.id for one in messages)
        return sent

    def take_over(self, consumer: Any, outcomes: Sequence[Outcome]) -> None:
        """Nobody asks whose a message is: who settles it has it."""
        for outcome in outcomes:
            entry = self.queues.entries.get(outcome.delivery.id)
            if entry is not None and entry.holder is not None and entry.holder is not consumer._holder:
                del entry.holder.held[entry.tag]
                entry.holder = consumer._holder
                consumer._holder.held[outcome.delivery.tag] = entry

    @property
    def elapsed_s(self) -> float:
        """Of its own time."""
        return self.loop.now - BEGIN_S

    # -- life ----------------------------------------------------------------------------------------------------

    def left(self, name: str) -> int:
        """How much of its load a producer has not sent yet."""
        return self._left.get(name, 0)

    def took(self, name: str) -> None:
        self._left[name] -= 1

    def run(self) -> None:
        """From an empty place to an empty place, and look what is stored."""
        self.model.world = self
        ENTROPY.seed(f"{self.seed} entropy")
        before, model_ids._time = model_ids._time, lambda: CLOCK.EPOCH + self.loop.now
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            self.server.context.copy().run(self._begin)
            self.loop.run(lambda: self.is_draining, self.loop.now + LOAD_S + DRAIN_S)
            is_empty = self.loop.run(self._is_empty, self.loop.now + DRAIN_S)
            self.server.context.copy().run(self._collect, is_empty)
        finally:
            self.loop.end()
            for close in self.closing:
                close()
            model_ids._time = before
            logging.disable(level)

    def _begin(self) -> None:
        self.note("phase", what="begin")
        self._script(self)
        self.loop.call_later(LOAD_S, self._drain)

    def _start_fleet(self) -> None:
        self._left = dict.fromkeys(("producer1", "producer2"), TASKS)
        for _ in range(2):
            self.start_worker()
            self.start_beat()
        for name in self._left:
            self.start_producer(name)

    def sender(self) -> Sender:
        """A producer for scripts."""
        return Sender(self, self.new_proc("sender", "sender"))

    def at(self, after_s: float, action: Callable[[], Any], proc: Proc | None = None) -> None:
        """Have the servers, or a process, do something at a time."""
        self.loop.call_later(after_s, action, context=(proc or self.server).context.copy())

    def moment(self, after_s: float) -> datetime:
        """By the servers' clock."""
        return datetime.fromtimestamp(SERVER_CLOCK.time() + after_s, UTC)

    def runner_of(self, task_id: str) -> Proc:
        """The process that runs a task, or did last."""
        return [run for run in self.runs.values() if run.id == task_id][-1].proc

    def _drain(self) -> None:
        if any(self._left.values()) and self.elapsed_s < LOAD_S + DRAIN_S / 2:
            self.loop.call_later(0.5, self._drain)
            self.network.is_calm = True
            return
        self.note("phase", what="drain")
        self.is_draining = self.network.is_calm = True

    def _is_empty(self) -> bool:
        return not self.queues.entries and not any(proc.role in ("beat", "producer") for proc in self.alive)

    def _collect(self, is_empty: bool) -> None:
        ids = list(self.sent)
        found = self.results.get(ids)
        for task_id in ids:
            stored = found.get(task_id)
            if stored is not None:
                value = msgspec.json.decode(stored.payload).get("result")
                token = value if isinstance(value, str) else ""
                self.note("result", "ok", id=task_id, what=stored.state, token=token, n=1)
        for name, mark in sorted(self.schedules._table.marks.items()):
            ran = [round(event.at) for event in self.events if event.f == "tick" and event.id == name]
            step = round(ENTRIES[name] * 1e6)
            if ran:
                # some may have been passed over before the first that ran
                first = min(min(ran), mark.at - step * (mark.runs + mark.skipped - 1))
                account = {"first": first, "last": mark.at, "step": step, "skipped": mark.skipped}
                self.note("tick", "ok", id=name, value=account)
        for letter in self.broker.dead_letters(limit=1000):
            self.note("dead", "ok", id=letter.id, what=letter.reason)
        for queue, depth in self.broker.depth().items():
            self.note("depth", "ok", what=queue, value=msgspec.to_builtins(depth))
        self.note("phase", what="end")


class Sender:
    """Publishes until it is told how that ended, and notes it."""

    def __init__(self, world: World, proc: Proc) -> None:
        self._world = world
        self.proc = proc
        self._luck = random.Random(f"{world.seed} {proc.name} {world.left(proc.name)}")

    def send(
        self,
        task_id: str,
        task: str,
        args: tuple[Any, ...] = (),
        facts: Mapping[str, Any] = MappingProxyType({}),
        **options: Any,
    ) -> None:
        """One task."""
        app = self._world.app
        self._publish({task_id: task}, dict(facts), lambda: app.send_task(task, args, task_id=task_id, **options))

    def send_chord(self, flow: str, count: int, *, fails: bool) -> None:
        """A chord of so many members; one of them fails, or none."""
        known = self._world.app.tasks
        bad = self._luck.randrange(count) if fails else -1
        member, body, errback = known["member"], known["body"], known["errback"]
        header = [
            member.s(flow, number, round(self._luck.uniform(0.0, 0.3), 3), number == bad).set(
                task_id=f"{flow}-m{number}"
            )
            for number in range(count)
        ]
        failing = errback.s(flow).set(task_id=f"{flow}-errback")
        ending = body.s(flow).set(task_id=f"{flow}-body").on_error(failing)
        work = chord(header, ending)
        ids = [f"{flow}-m{number}" for number in range(count)]
        self._world.note("flow", "invoke", id=flow, what="errback" if fails else "body", value=ids)
        facts = {"flow": flow, "count": count, "fails": fails, "ends": "any"}
        tasks = {**dict.fromkeys(ids, "member"), f"{flow}-body": "body", f"{flow}-errback": "errback"}
        self._publish(tasks, facts, work.apply_async)

    def send_chain(self, flow: str, count: int) -> None:
        """A chain of so many steps."""
        step = self._world.app.tasks["step"]
        steps = [step.s(*(([], 0) if number == 0 else (number,))) for number in range(count)]
        work = chain(*(one.set(task_id=f"{flow}-s{number}") for number, one in enumerate(steps)))
        self._publish({f"{flow}-s{number}": "step" for number in range(count)}, {"flow": flow}, work.apply_async)

    def _publish(self, tasks: dict[str, str], facts: dict[str, Any], send: Callable[[], Any]) -> None:
        note, sent = self._world.note, self._world.sent
        while True:
            for task_id, task in tasks.items():
                own = {"follows": f"{facts['flow']}-body"} if task == "errback" else facts
                sent.setdefault(task_id, {"task": task, **own})
                note("enqueue", "invoke", id=task_id, what=task, value=own or None)
            began = CLOCK.monotonic()
            answer, why = "ok", ""
            try:
                send()
            except EnqueueRejectedError as exc:
                answer, why = "fail", type(exc).__name__
            except BrokerError as exc:
                answer, why = "info", type(exc).__name__
            for task_id in tasks:
                note("enqueue", answer, id=task_id, at=round(CLOCK.monotonic() - began, 4), what=why)
            if answer != "info":
                return
            CLOCK.pause(0.05)

    def revoke(self, task_id: str) -> None:
        """Forbid a task to start."""
        note = self._world.note
        note("revoke", "invoke", id=task_id)
        for _ in range(5):
            try:
                self._world.app.control.revoke(task_id)
            except BrokerError:
                CLOCK.pause(0.05)
            else:
                note("revoke", "ok", id=task_id)
                return


class _Producer(Sender):
    """Publishes what is left of a load."""

    def turn(self) -> None:
        """Send one, and come back."""
        world, luck, name = self._world, self._luck, self.proc.name
        if not world.left(name):
            world.exit(self.proc, 0)
        number = f"{name[-1]}-{world.left(name)}"
        world.took(name)
        kind = luck.choices(
            ("awork", "work", "once", "retrying", "later", "chord", "chain", "revoke"), (30, 12, 8, 8, 8, 14, 8, 8)
        )[0]
        seconds = round(luck.uniform(0.8, 2.5) if luck.random() < 0.12 else luck.uniform(0.0, 0.08), 4)
        if kind == "chord":
            self.send_chord(f"c{number}", luck.randint(2, 4), fails=luck.random() < 0.25)
        elif kind == "chain":
            self.send_chain(f"s{number}", luck.randint(2, 3))
        elif kind == "later":
            due = world.loop.now + luck.uniform(0.1, 2.0)
            eta = world.moment(due - world.loop.now)
            self.send(f"l{number}", "awork", (seconds,), {"due": due}, eta=eta)
        elif kind == "revoke":
            due = world.loop.now + luck.uniform(0.1, 1.0)
            eta = world.moment(due - world.loop.now)
            self.send(f"r{number}", "awork", (seconds,), {"due": due}, eta=eta)
            CLOCK.pause(luck.uniform(0.0, 1.2))
            self.revoke(f"r{number}")
        else:
            argument = luck.randint(0, MOST_RETRIES) if kind == "retrying" else seconds
            facts = {"once": {"ends": "any"}, "retrying": {"max_retries": MOST_RETRIES}}.get(kind, {})
            self.send(f"{kind[0]}{number}", kind, (argument,), facts)
        world.loop.call_later(luck.uniform(0.0, LOAD_S / TASKS), self.turn)
