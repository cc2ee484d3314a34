"""What a worker is made of: its options as plain data, and the parts that the application hands it.

The supervisor runs no user code, so options and facts about tasks travel to it as JSON from the fork server, which
imported the application.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from celeriac.engine.casualties import TaskFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celeriac.engine.casualties import Casualties
    from celeriac.engine.executor import Executor
    from celeriac.interfaces import Broker, ControlChannel, EventChannel, ResultStore


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a worker needs to know besides code; resolved once from settings and command line."""

    node: str
    """`celery@<host>` unless named."""
    queues: tuple[str, ...]
    pool: str = "processes"
    """`processes`, `threads` (one process with threads) or `solo` (everything in the foreground process)."""
    processes: int = 1
    threads: int = 0
    """Threads per process for `def` tasks; 0 runs them one after another in the main thread."""
    async_slots: int = 100
    """`async def` tasks at a time per process."""
    lease_s: float = 30.0
    """A lease without a beat ends after this; beats come every third of it."""
    reap_every_s: float = 5.0
    grace_s: float = 30.0
    """What running tasks get to finish after SIGTERM."""
    soft_shutdown_s: float = 0.0
    """Of a cold shutdown: what running tasks still get (`worker_soft_shutdown_timeout`)."""
    max_tasks_per_child: int | None = None
    max_memory_per_child_kib: int | None = None
    max_deliveries: int = 5
    """A message handed out more often than this without an end is buried."""
    claim_ahead_s: float = 0.075
    """How much work one claim takes, by the moving average of task duration."""
    log_level: str = "INFO"
    log_json: bool = False
    log_color: bool | None = None
    """None: colours on a terminal."""
    log_file: str | None = None
    log_setup: bool = True
    """Set up the root logger of the processes that have the application; False leaves it to the application."""
    log_tasks: bool = True
    """A line when a task has ended."""
    autoreload: bool = False
    tombstones_s: float | None = None
    """How long it is remembered that a task is over; None: its result says so, as long as it is kept."""
    task_events: bool = False
    """Send task events from the start; remote control switches them on and off."""
    beat: bool = False
    """Also run the application's schedule: what `Loaded.beat` makes."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker's processes do otherwise than their code says; the supervisor tells each of them all of it."""

    events: bool = False
    """Send task events."""
    rates: dict[str, tuple[int, float]] = {}
    """Per task name with a rate limit, the cell of the board and the seconds between two starts."""
    limits: dict[str, tuple[float | None, float | None]] = {}
    """Per task name, other (hard, soft) time limits than its own."""
    queues: dict[str, dict[str, Any]] = {}
    """Per name, what queues are that the application does not know: Celery's options of `add_consumer`. Heard by
    processes that start."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the fork server tells the supervisor once the application is imported."""

    app: str
    options: WorkerOptions
    tasks: tuple[TaskFacts, ...]
    broker_url: str
    """With its password: it stays on the inherited socket between two processes of one user."""
    result_url: str | None
    settings: dict[str, object] = {}
    """What `connect` needs besides the URLs (transport options), and what `inspect conf` shows."""
    listens: tuple[str, ...] = ()
    """Those of `listener.HEARD` that have receivers."""
    commands: tuple[str, ...] = ()
    """Remote-control commands of the application's own; the listener runs them."""
    modules: tuple[str, ...] = ()
    """Files that autoreload watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The adapters of one process."""

    broker: Broker
    results: ResultStore | None
    control: ControlChannel | None
    fused: bool
    """The broker stores results itself, inside `settle`."""
    events: EventChannel | None = None
    """None where the engine carries none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What a process that runs tasks is handed by the application."""

    options: WorkerOptions
    links: Links
    executor: Executor
    casualties: Casualties
    on_process_start: Callable[[], None]
    """Sends `worker_process_init`; runs in the main thread before the first task."""
    on_process_stop: Callable[[int, int], None]
    """Sends `worker_process_shutdown` with (pid, exit code)."""
    define: Callable[[str, Mapping[str, Any]], None] = lambda name, options: None
    """Told of each of `Orders.queues` before anything is consumed."""
    rates: Mapping[str, str] = field(default_factory=dict)
    """Rate limits by task name, for a station without a supervisor, which otherwise says what they are."""


class Beating(Protocol):
    """What sends an application's periodic tasks when they are due."""

    @property
    def name(self) -> str:
        """Shown where beats are listed."""

    @property
    def looked_at(self) -> float:
        """When it last reached its store, on the monotonic clock; 0: not yet."""

    def run(self) -> None:
        """Go on until told to stop."""

    def stop(self) -> None:
        """Have `run` return soon; from any thread, also before it has begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What the fork server gets from importing the application."""

    manifest: Manifest
    runtime: Callable[[], Runtime]
    """Makes the parts of one process; called after the fork, so that no connection is shared."""
    on_logging: Callable[[], None] = lambda: None
    """Called when logging has been set up, for the application to add to it."""
    commands: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """The application's own remote-control commands: `command(node, **arguments)` returns a reply."""
    beat: Callable[[], Beating] | None = None
    """Makes the beat of a worker that has one; called in its process, after the fork."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Oversight:
    """What the supervisor is handed: adapters of its own, and the judge of what died."""

    links: Links
    casualties: Casualties
    define: Callable[[str, Mapping[str, Any]], None] = lambda name, options: None
    """Takes note of a queue that the application does not know, by Celery's options of `add_consumer`."""
    describe: Callable[[str], Mapping[str, Any]] = lambda name: {"name": name}
    """A queue as `inspect active_queues` shows it."""


class Loader(msgspec.Struct, frozen=True, kw_only=True):
    """How the fork server gets its `Loaded`: a name it imports and calls, so that no room imports one above it."""

    target: str
    """`package.module:function`; called with `arguments` as keywords, returns a `Loaded`."""
    arguments: dict[str, Any] = {}
    """JSON values."""
