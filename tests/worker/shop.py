"""The application of these tests: its tasks, and the loader that a fork server calls. Every task writes the ledger."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from celeriac.clock import SYSTEM_CLOCK
from celeriac.codec import Codec
from celeriac.engine.casualties import Casualties, TaskFacts
from celeriac.engine.executor import Executor
from celeriac.engine.outcomes import ResultWriter
from celeriac.engine.plan import Plan
from celeriac.engine.submit import Submitter
from celeriac.errors import SoftTimeLimitExceeded
from celeriac.worker.runtime import Links, Loaded, Manifest, Oversight, Runtime, WorkerOptions

LEDGER = "LEDGER"
"""Environment variable: the O_APPEND file that is the truth about what ran."""


def note(event: str, name: str) -> None:
    """One line, one write: survives any end of the process."""
    fd = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{event} {name} {os.getpid()} {time.time():.4f}\n".encode())
    os.close(fd)


def work(name: str, seconds: float = 0.0) -> str:
    note("start", name)
    if seconds:
        time.sleep(seconds)
    note("end", name)
    return name


def noop() -> None:
    return None


def until(name: str, gate: str, seconds: float = 30.0) -> str:
    """Run until a file exists."""
    note("start", name)
    stop = time.monotonic() + seconds
    while not Path(gate).exists():
        if time.monotonic() > stop:
            raise TimeoutError(gate)
        time.sleep(0.005)
    note("end", name)
    return name


def leave(name: str, code: int) -> None:
    note("start", name)
    os._exit(code)


def polite_exit(name: str) -> None:
    note("start", name)
    sys.exit(3)


def segfault(name: str) -> None:
    note("start", name)
    ctypes.string_at(0)


def suicide(name: str) -> None:
    note("start", name)
    os.kill(os.getpid(), signal.SIGKILL)


def hungry(name: str) -> None:
    note("start", name)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    try:
        blocks = [bytearray(1 << 26) for _ in range(1000)]
        note("never", str(len(blocks)))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.RLIM_INFINITY)[:1] * 2)


def grow(name: str, mib: int) -> int:
    note("start", name)
    keep.append(bytearray(os.urandom(1 << 20)) * mib)
    note("end", name)
    return os.getpid()


keep: list[Any] = []


def hold_gil(name: str, seconds: float) -> None:
    """Keep the interpreter: no other thread of this process runs for so long."""
    note("start", name)
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    note("end", name)


def close_fds(name: str) -> None:
    note("start", name)
    os.closerange(0, 256)


def shout(name: str) -> int:
    note("start", name)
    print("x" * (1 << 20))
    note("end", name)
    return 1 << 20


def stubborn(name: str) -> None:
    note("start", name)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(0.01)


def tidy(name: str, ending: str) -> str:
    """Handles SIGTERM itself."""
    told: list[int] = []

    def on_term(signum: int, frame: object) -> None:
        note("tidied", name)
        told.append(signum)
        if ending == "raises":
            raise InterruptedError("tidied up")

    before = signal.signal(signal.SIGTERM, on_term)
    try:
        note("start", name)
        while not (told and ending == "returns"):
            time.sleep(0.01)
        return name
    finally:
        signal.signal(signal.SIGTERM, before)


def soft(name: str, seconds: float) -> str:
    note("start", name)
    try:
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            time.sleep(0.005)
    except SoftTimeLimitExceeded:
        note("soft", name)
        return "cleaned up"
    note("end", name)
    return "whole"


def spin(name: str, seconds: float) -> str:
    """Never sleeps; short enough to end around a soft limit."""
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop:
        pass
    return name


async def awork(name: str, seconds: float = 0.0) -> str:
    note("start", name)
    await asyncio.sleep(seconds)
    note("end", name)
    return name


async def asoft(name: str, seconds: float) -> str:
    note("start", name)
    try:
        await asyncio.sleep(seconds)
    except SoftTimeLimitExceeded:
        note("soft", name)
        return "cleaned up"
    note("end", name)
    return "whole"


async def anoop() -> None:
    return None


TASKS = {
    function.__name__: function
    for function in (
        work, noop, until, leave, polite_exit, segfault, suicide, hungry, grow, hold_gil, close_fds, shout,
        stubborn, tidy, soft, spin, awork, asoft, anoop,
    )
}  # fmt: skip
ONCE = "once_"
"""What tasks that may not run twice are called before the name of the function."""
TASKS |= {ONCE + name: TASKS[name] for name in ("work", "until", "leave", "suicide", "awork", "noop", "stubborn")}


def make_facts(options: WorkerOptions) -> dict[str, TaskFacts]:
    return {
        name: TaskFacts(name=name, max_deliveries=options.max_deliveries, rerun_when_lost=not name.startswith(ONCE))
        for name in TASKS
    }


class NothingFollows:
    def after_success(self, attempt: Any, value: Any) -> tuple[()]:
        return ()

    def after_failure(self, attempt: Any, exc: BaseException, traceback: str | None = None) -> tuple[()]:
        return ()


def make_links(url: str) -> Links:
    if url.startswith("far://"):
        from far import FarBroker, FarResults

        broker: Any = FarBroker(url.removeprefix("far://"))
        return Links(broker=broker, results=FarResults(url.removeprefix("far://")), control=None, fused=True)
    if url.startswith("line://"):
        from connection_lease import LineBroker
        from far import FarResults

        line: Any = LineBroker(url.removeprefix("line://"))
        return Links(broker=line, results=FarResults(url.removeprefix("line://")), control=None, fused=False)
    if url.startswith("sqlite:"):
        from celeriac.brokers.sqlite import SqliteBroker, SqliteControl
        from celeriac.results.sqlite import SqliteResultStore

        sqlite = SqliteBroker(url, durability="process")
        store = SqliteResultStore(url, durability="process")
        return Links(broker=sqlite, results=store, control=SqliteControl(url), fused=True)
    if url.startswith("redis:"):
        from celeriac.brokers.redis import RedisBroker, RedisControl
        from celeriac.results.redis import RedisResultStore

        return Links(broker=RedisBroker(url), results=RedisResultStore(url), control=RedisControl(url), fused=True)
    from celeriac.brokers.memory.broker import MemoryBroker
    from celeriac.brokers.memory.control import MemoryControl
    from celeriac.results.memory.store import MemoryResultStore

    return Links(broker=MemoryBroker(url), results=MemoryResultStore(url), control=MemoryControl(url), fused=True)


def make_writer(options: WorkerOptions) -> ResultWriter:
    return ResultWriter(
        Codec(), SYSTEM_CLOCK, node=options.node, expires_s=3600.0, failure_expires_s=3600.0, extended=False
    )


def make_casualties(options: WorkerOptions) -> Casualties:
    return Casualties(
        facts=make_facts(options),
        codec=Codec(),
        writer=make_writer(options),
        continuation=NothingFollows(),
        store_results=True,
        node=options.node,
    )


def make_runtime(url: str, options: WorkerOptions) -> Runtime:
    links = make_links(url)
    codec = Codec()
    executor = Executor(
        plans={
            name: Plan(
                name=name,
                task=name,
                call=call,
                is_async=asyncio.iscoroutinefunction(call),
                max_deliveries=options.max_deliveries,
                rerun_when_lost=not name.startswith(ONCE),
            )
            for name, call in TASKS.items()
        },
        codec=codec,
        clock=SYSTEM_CLOCK,
        writer=make_writer(options),
        submitter=Submitter(codec, SYSTEM_CLOCK, options.node),
        continuation=NothingFollows(),
        results=links.results,
        fused=links.fused,
        node=options.node,
    )
    return Runtime(
        options=options,
        links=links,
        executor=executor,
        casualties=make_casualties(options),
        on_process_start=lambda: start_process(options),
        on_process_stop=lambda pid, code: note("process", "stop"),
    )


def start_process(options: WorkerOptions) -> None:
    if options.node == "cannot-start":
        raise RuntimeError("no process of this worker can start")
    note("process", "start")


def load(url: str, options: dict[str, Any], broken: str | None = None, modules: Any = ()) -> Loaded:
    import msgspec

    if broken and Path(broken).exists():
        raise RuntimeError("this application is broken")
    resolved = msgspec.convert(options, WorkerOptions)
    make_links(url).broker.close()  # imports the adapters before the fork, so that children share them
    manifest = Manifest(
        app="shop",
        options=resolved,
        tasks=tuple(make_facts(resolved).values()),
        broker_url=url,
        result_url=url,
        settings={"broker_url": "redis://user:hidden@host/0", "task_default_queue": "q"},
        modules=tuple(modules),
    )
    return Loaded(manifest=manifest, runtime=lambda: make_runtime(url, resolved))


def oversee(manifest: Manifest) -> Oversight:
    return Oversight(links=make_links(manifest.broker_url), casualties=make_casualties(manifest.options))


def main() -> int:
    """A worker as a program: `python shop.py URL OPTIONS`."""
    import msgspec

    from celeriac.worker.runtime import Loader
    from celeriac.worker.supervisor import Supervisor

    arguments = msgspec.json.decode(sys.argv[1])
    sys.path.insert(0, str(Path(__file__).parent))
    supervisor = Supervisor(
        Loader(target="shop:load", arguments=arguments),
        oversee,
        version="test",
        on_ready=lambda: note("worker", "ready"),
    )
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
