"""An event loop on which many simulated processes live, on a time of its own.

Time stands still while anything is ready, and then jumps to the next timer. Every handle belongs to the process in
whose context it was made; the handles of one process run in their order, and whose turn it is among the processes is
drawn. A process can be crashed, stopped and continued between any two of its handles, which is at any `await`.

Code that blocks (a producer's publish, a beat's turn, a `def` task) runs in a plain handle and blocks in `block`: the
others go on below it on the same stack, and it goes on once what it waits for is there.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter, deque
from contextvars import ContextVar, copy_context
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine

STEP_S: Final = 1e-5
"""What a handle takes: time goes on also when something spins."""
BEGIN_S: Final = 1000.0


class Crash(BaseException):
    """The process that does this is dead: nothing of what follows happens."""


class Proc:
    """A simulated process.

    Args:
        name: Of the member of the fleet it belongs to.
        pid: Never used twice in a world.
        role: `worker` (a supervisor), `child`, `producer`, `beat`, `server`.
    """

    __slots__ = ("context", "is_dead", "is_stopped", "name", "pid", "points", "ready", "role", "skew_s", "where")

    def __init__(self, name: str, pid: int, role: str) -> None:
        self.name = name
        self.pid = pid
        self.role = role
        self.ready: deque[Handle] = deque()
        self.is_dead = False
        self.is_stopped = False
        self.skew_s = 0.0
        """Of its wall clock."""
        self.points: Counter[str] = Counter()
        """Calls under way, by point."""
        self.where = f"{name}:{pid}"
        self.context = copy_context()
        self.context.run(PROCESS.set, self)

    def __repr__(self) -> str:
        return f"<{self.where}>"


PROCESS: ContextVar[Proc] = ContextVar("process")
"""Whose code runs."""


class Handle:
    """Something to run; also what asyncio takes for a timer."""

    __slots__ = ("args", "at", "callback", "context", "is_cancelled", "owner")

    def __init__(self, callback: Any, args: Any, context: contextvars.Context, owner: Proc, at: float = 0.0) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.owner = owner
        self.at = at
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True
        self.callback = self.args = None

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self.at


class SimLoop(asyncio.AbstractEventLoop):
    """See the module.

    Args:
        luck: Draws whose turn it is.
        on_fault: Told of exceptions that nobody takes, with the process they came up in.
    """

    def __init__(self, luck: random.Random, on_fault: Callable[[Proc, str, BaseException | None], None]) -> None:
        self.now = BEGIN_S
        self.steps = 0
        self._random = luck.random
        self._on_fault = on_fault
        self._runnable: list[Proc] = []
        self._timers: list[tuple[float, int, Handle]] = []
        self._count = 0
        self._tasks: list[tuple[asyncio.Task[Any], contextvars.Context]] = []
        self._is_over = False
        self._until = float("inf")

    # -- what asyncio asks for -----------------------------------------------------------------------------------

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Handle:  # type: ignore[override]
        if context is None:
            context = copy_context()
        owner = context[PROCESS]
        handle = Handle(callback, args, context, owner)
        self._add(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        if context is None:
            context = copy_context()
        handle = Handle(callback, args, context, context[PROCESS], when)
        if not self._is_over:
            self._count += 1
            heappush(self._timers, (when, self._count, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: Any = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        if context is None:
            context = copy_context()
        task = asyncio.Task(coro, loop=self, name=name or "", context=context)
        self._tasks.append((task, context))
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """A thread of the process: a plain handle, which may block."""
        future = self.create_future()

        def run() -> None:
            try:
                result = func(*args)
            except Exception as exc:
                if not future.done():
                    future.set_exception(exc)
            else:
                if not future.done():
                    future.set_result(result)

        self.call_soon(run)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._is_over

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._is_over:
            self._on_fault(PROCESS.get(), context.get("message", ""), context.get("exception"))

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        """Nothing is ever read here."""

    def remove_reader(self, fd: Any) -> bool:
        return False

    # -- running -------------------------------------------------------------------------------------------------

    def _add(self, handle: Handle) -> None:
        owner = handle.owner
        if owner.is_dead or self._is_over:
            return
        if not owner.ready and not owner.is_stopped:
            self._runnable.append(owner)
        owner.ready.append(handle)

    def step(self) -> bool:
        """Run one handle, at the time of the next timer if need be; False when there is neither."""
        runnable = self._runnable
        timers = self._timers
        now = self.now
        while timers and (timers[0][0] <= now or not runnable):
            when, _, handle = heappop(timers)
            if handle.is_cancelled or handle.owner.is_dead:
                continue
            if when > now:
                self.now = now = when
            self._add(handle)
        if not runnable:
            return False
        place = int(self._random() * len(runnable)) if len(runnable) > 1 else 0
        proc = runnable[place]
        handle = proc.ready.popleft()
        if not proc.ready:
            runnable[place] = runnable[-1]
            runnable.pop()
        if not handle.is_cancelled:
            self.now += STEP_S
            self.steps += 1
            try:
                handle.context.run(handle.callback, *handle.args)
            except Crash:
                pass
            except Exception as exc:
                self._on_fault(proc, "a handle failed", exc)
        return True

    def run(self, is_over: Callable[[], bool], until: float) -> bool:
        """Run until something is so; whether it was before time was over."""
        self._until = until
        asyncio._set_running_loop(self)
        try:
            while not is_over():
                if self.now > until or not self.step():
                    return False
            return True
        finally:
            asyncio._set_running_loop(None)

    def block(self, is_over: Callable[[], bool]) -> None:
        """Have the caller, a plain handle of its process, wait; the others go on. Within a task, it waits for nothing.

        Raises:
            Crash: Its process has died meanwhile.
        """
        proc = PROCESS.get()
        if asyncio.current_task(self) is None:
            while not proc.is_dead and (proc.is_stopped or not is_over()):
                if self._is_over or self.now > self._until or not self.step():  # `run` cannot look meanwhile
                    raise Crash
        if proc.is_dead or self._is_over:
            raise Crash

    def pause(self, seconds: float) -> None:
        """Have the caller sleep, as in `block`."""
        until = self.now + seconds
        # a timer, or time might not get there
        self.call_at(until, _nothing)
        self.block(lambda: self.now >= until)

    def start(self, proc: Proc, callback: Callable[[], Any]) -> None:
        """Have a process run something."""
        self.call_soon(callback, context=proc.context.copy())

    def spawn(self, proc: Proc, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Have a process run a coroutine."""
        return self.create_task(coro, context=proc.context.copy())

    # -- what befalls processes ----------------------------------------------------------------------------------

    def crash(self, proc: Proc) -> None:
        """Nothing of it ever runs again."""
        proc.is_dead = True
        if proc.ready and not proc.is_stopped:
            self._runnable.remove(proc)
        proc.ready.clear()

    def stop_process(self, proc: Proc) -> None:
        """SIGSTOP: its handles wait."""
        if not proc.is_stopped and not proc.is_dead:
            if proc.ready:
                self._runnable.remove(proc)
            proc.is_stopped = True

    def continue_process(self, proc: Proc) -> None:
        """SIGCONT."""
        if proc.is_stopped:
            proc.is_stopped = False
            if proc.ready and not proc.is_dead:
                self._runnable.append(proc)

    def end(self) -> None:
        """The world is over: whatever is left unfinished is closed, and does nothing any more."""
        self._is_over = True
        self._timers.clear()
        self._runnable.clear()
        asyncio._set_running_loop(self)
        try:
            while self._tasks:  # closing one may make another
                task, context = self._tasks.pop()
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    coro: Any = task.get_coro()
                    try:
                        context.run(coro.close)
                    except (Exception, Crash):
                        pass  # it awaits or calls somebody in a `finally`
        finally:
            asyncio._set_running_loop(None)


def _nothing() -> None:
    """What a timer does that only moves time."""


class VirtualClock:
    """The wall clock of whoever asks, off by his skew; and the monotonic one, which all share. Of the loop set here."""

    EPOCH: Final = 1_800_000_000.0 - BEGIN_S

    def __init__(self) -> None:
        self.loop: SimLoop | None = None

    def time(self) -> float:
        assert self.loop is not None
        return self.EPOCH + self.loop.now + PROCESS.get().skew_s

    def monotonic(self) -> float:
        assert self.loop is not None
        return self.loop.now

    async def sleep(self, seconds: float, /) -> None:
        await asyncio.sleep(seconds)

    def pause(self, seconds: float, /) -> None:
        assert self.loop is not None
        self.loop.pause(seconds)


class ServerClock(VirtualClock):
    """That of the servers, which is right."""

    def time(self) -> float:
        return self.EPOCH + CLOCK.monotonic()

    def monotonic(self) -> float:
        return CLOCK.monotonic()


CLOCK: Final = VirtualClock()
SERVER_CLOCK: Final = ServerClock()
