"""`celery.beat`: entries and schedulers, for applications that bring a scheduler of their own, or look into one.

Celery's own scheduler classes are names here for celeriac's beat (see `celeriac.compat.beat`). A subclass is run by
the loop below, which is Celery's: it asks entries whether they are due. What it sends goes through the marks of the
store, as all that beats send, so two of them do not send the same.
"""

from __future__ import annotations

import copy
import heapq
import logging
import multiprocessing
import threading
from collections import namedtuple
from functools import total_ordering
from typing import TYPE_CHECKING, Any

from celeriac.clock import SYSTEM_CLOCK
from celeriac.compat.celery.schedules import crontab, maybe_schedule, schedule
from celeriac.compat.celery.utils.time import humanize_seconds, maybe_make_aware
from celeriac.errors import BrokerError
from celeriac.scheduler.entry import Late

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from celeriac.compat.beat import CeleryBeat, Clerk

__all__ = [
    "BeatLazyFunc",
    "EmbeddedService",
    "PersistentScheduler",
    "ScheduleEntry",
    "Scheduler",
    "SchedulingError",
    "Service",
    "crontab",
    "event_t",
    "schedule",
]

DEFAULT_MAX_INTERVAL = 300
_EDITABLE = ("task", "args", "kwargs", "options", "schedule")

event_t = namedtuple("event_t", ("time", "priority", "entry"))
logger = logging.getLogger("celery.beat")


class SchedulingError(Exception):
    """A periodic task could not be sent."""


class BeatLazyFunc(Late):
    """An argument of a periodic task that is worked out when it is sent."""

    def delay(self) -> Any:
        return self()


@total_ordering
class ScheduleEntry:
    """A periodic task, and how far it has come.

    Args:
        name: Of the entry.
        task: The task's.
        last_run_at: When it was sent last; now unless given.
        total_run_count: How often.
        schedule: When it is due; seconds and a timedelta are an interval.
        args: For the task.
        kwargs: Likewise.
        options: As of `apply_async`.
        relative: As of `celery.schedules.schedule`.
        app: The application.
    """

    name: Any = None
    schedule: Any = None
    args: Any = None
    kwargs: Any = None
    options: Any = None
    last_run_at: Any = None
    total_run_count = 0

    def __init__(
        self, name: Any = None, task: Any = None, last_run_at: Any = None, total_run_count: Any = None,
        schedule: Any = None, args: Any = (), kwargs: Any = None, options: Any = None, relative: bool = False,
        app: Any = None,
    ) -> None:  # fmt: skip
        self.app = app
        self.name = name
        self.task = task
        self.args = args
        self.kwargs = kwargs or {}
        self.options = options or {}
        self.schedule = maybe_schedule(schedule, relative, app=app)
        self.last_run_at = last_run_at or self.default_now()
        self.total_run_count = total_run_count or 0

    def default_now(self) -> Any:
        """This moment, as the schedule has it."""
        return self.schedule.now() if self.schedule else self.app.now()

    _default_now = default_now

    def is_due(self) -> Any:
        """Whether it is due, and in how many seconds to look again."""
        return self.schedule.is_due(self.last_run_at)

    def _next_instance(self, last_run_at: Any = None) -> Any:
        fields = dict(self)
        fields["last_run_at"] = last_run_at or self.default_now()
        fields["total_run_count"] = self.total_run_count + 1
        return type(self)(**fields)

    def __next__(self) -> Any:
        return self._next_instance()

    next = __next__

    def update(self, other: Any) -> None:
        """Take everything but its past from another entry."""
        vars(self).update({name: getattr(other, name) for name in _EDITABLE})

    def editable_fields_equal(self, other: Any) -> bool:
        return all(getattr(self, name) == getattr(other, name) for name in _EDITABLE)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(vars(self).items())

    def __reduce__(self) -> Any:
        past = (self.name, self.task, self.last_run_at, self.total_run_count)
        return type(self), (*past, self.schedule, self.args, self.kwargs, self.options)

    def __repr__(self) -> str:
        named = [f"{name}={value!r}" for name, value in self.kwargs.items()]
        call = ", ".join([*map(repr, self.args or ()), *named])
        return f"<{type(self).__name__}: {self.name} {self.task}({call}) {self.schedule}"

    def __eq__(self, other: object) -> bool:
        return self.editable_fields_equal(other) if isinstance(other, ScheduleEntry) else NotImplemented

    def __lt__(self, other: object) -> bool:  # in a heap, where it does not matter
        return id(self) < id(other) if isinstance(other, ScheduleEntry) else NotImplemented

    __hash__: Any = None


class Scheduler:
    """Sends what is due; `tick` is called again and again.

    Args:
        app: The application.
        schedule: Entries by name to begin with, or a function that returns them.
        max_interval: Longest sleep in seconds.
        Producer: Accepted.
        lazy: Only to look at: nothing is set up.
        sync_every_tasks: `sync` is called after so many were sent.
        kwargs: Of subclasses.
    """

    Entry: Any = ScheduleEntry
    max_interval: Any = DEFAULT_MAX_INTERVAL
    sync_every: float = 3 * 60
    sync_every_tasks: int | None = None
    logger = logger
    _last_sync: float | None = None
    _tasks_since_sync = 0
    _heap: list[Any] | None = None
    old_schedulers: Any = None
    _clerk_made: Clerk | None = None

    def __init__(
        self, app: Any, schedule: Any = None, max_interval: Any = None, Producer: Any = None, lazy: bool = False,
        sync_every_tasks: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        self.app = app
        self.data = schedule() if callable(schedule) else {} if schedule is None else schedule
        self.max_interval = max_interval or app.conf.beat_max_loop_interval or self.max_interval
        self.Producer = Producer
        self._heap = None
        self.old_schedulers = None
        self.sync_every_tasks = app.conf.beat_sync_every if sync_every_tasks is None else sync_every_tasks
        if not lazy:
            self.setup_schedule()

    # -- what there is -------------------------------------------------------------------------------------------

    def setup_schedule(self) -> None:
        """Called once, in the beginning."""
        self.merge_inplace(self.app.conf.beat_schedule)
        self.install_default_entries(self.schedule)
        self._follow()

    def _follow(self) -> None:
        """Have entries know how far they have come."""
        try:
            self._clerk.follow(self, create=False)
        except BrokerError as exc:
            self.logger.warning("beat: how far entries have come is not known yet: %s", exc)

    def install_default_entries(self, data: Any) -> None:
        """Add what every application has."""
        from celeriac.compat.beat import default_entries

        self.update_from_dict({name: entry for name, entry in default_entries(self.app).items() if name not in data})

    def get_schedule(self) -> Any:
        return self.data

    def set_schedule(self, schedule: Any) -> None:
        self.data = schedule

    schedule: Any = property(lambda self: self.get_schedule(), lambda self, value: self.set_schedule(value))

    def add(self, **kwargs: Any) -> Any:
        """Add an entry."""
        entry = self.Entry(app=self.app, **kwargs)
        self.schedule[entry.name] = entry
        return entry

    def _maybe_entry(self, name: str, entry: Any) -> Any:
        if isinstance(entry, self.Entry):
            entry.app = self.app
            return entry
        return self.Entry(**{**dict(entry), "name": name, "app": self.app})

    def update_from_dict(self, dict_: Mapping[str, Any]) -> None:
        """Add or replace entries."""
        self.schedule.update({name: self._maybe_entry(name, entry) for name, entry in dict_.items()})

    def merge_inplace(self, b: Mapping[str, Any]) -> None:
        """Make the entries those of `b`; ones that stay keep their past."""
        mine = self.schedule
        for name in [name for name in mine if name not in b]:
            mine.pop(name, None)
        for name, fields in b.items():
            entry = self.Entry(**{**dict(fields), "name": name, "app": self.app})
            if mine.get(name):
                mine[name].update(entry)
            else:
                mine[name] = entry

    def schedules_equal(self, old_schedules: Any, new_schedules: Any) -> bool:
        """Whether nothing was added, removed or changed."""
        if old_schedules is None or new_schedules is None:
            return old_schedules is new_schedules
        if old_schedules.keys() != new_schedules.keys():
            return False
        return all((new := new_schedules.get(name)) and not new != old for name, old in old_schedules.items())  # noqa: SIM202

    # -- the loop ------------------------------------------------------------------------------------------------

    def adjust(self, n: Any, drift: float = -0.010) -> Any:
        """A little sooner, for what the way takes."""
        return n + drift if n and n > 0 else n

    def is_due(self, entry: Any) -> Any:
        return entry.is_due()

    def _ask(self, entry: Any, ask: Callable[[], Any]) -> tuple[bool, Any]:
        try:
            is_due, delay = ask()
        except Exception:
            self.logger.exception(
                "beat: entry %r cannot say when it is due; it is asked again in %s", entry.name,
                humanize_seconds(self.max_interval),
            )  # fmt: skip
            return False, self.max_interval
        return is_due, delay

    def _when(self, entry: Any, next_time_to_run: Any, mktime: Any = None) -> float:
        return float(maybe_make_aware(entry.default_now()).timestamp() + (self.adjust(next_time_to_run) or 0))

    def populate_heap(self, event_t: Any = event_t, heapify: Any = heapq.heapify) -> None:
        """Order all entries by when they are due."""
        self._clerk.follow(self)
        self._heap = []
        for entry in list(self.schedule.values()):
            is_due, delay = self._ask(entry, entry.is_due)
            self._heap.append(event_t(self._when(entry, 0 if is_due else delay), 5, entry))
        heapify(self._heap)

    def tick(
        self, event_t: Any = event_t, min: Any = min, heappop: Any = heapq.heappop, heappush: Any = heapq.heappush
    ) -> Any:
        """Send one entry that is due, if there is one; returns the seconds until there is more to do."""
        if self._heap is None or not self.schedules_equal(self.old_schedulers, self.schedule):
            self.old_schedulers = copy.copy(self.schedule)
            self.populate_heap()
        heap = self._heap
        if not heap:
            return self.max_interval
        event = heap[0]
        entry = event[2]
        early_s = event[0] - self._when(entry, 0)
        if early_s > 0:
            return min(early_s, self.max_interval)
        is_due, delay = self._ask(entry, lambda: self.is_due(entry))
        taken = heappop(heap)
        if taken is not event:  # somebody has been at the heap meanwhile
            heappush(heap, taken)
            return min(taken[0] - self._when(taken[2], 0), self.max_interval)
        if is_due:
            following = self.reserve(entry)
            self.apply_entry(entry, producer=self.producer)
            again = self._clerk.put_right(self, entry, following)
            heappush(heap, event_t(self._when(following, delay if again is None else again), event[1], following))
            return 0
        if isinstance(delay, bool) or not isinstance(delay, (int, float)):
            delay = self.max_interval
        heappush(heap, event_t(self._when(entry, delay), event[1], entry))
        return 0 if heap[0][2] is not entry else min(self.adjust(delay), self.max_interval)

    def delay_of(self, entry: Any) -> Any:
        """In how many seconds to look at an entry."""
        is_due, delay = self._ask(entry, lambda: self.is_due(entry))
        return 0 if is_due else delay

    # -- sending -------------------------------------------------------------------------------------------------

    @property
    def _clerk(self) -> Clerk:
        if self._clerk_made is None:
            from celeriac.compat.beat import Clerk

            self._clerk_made = Clerk(self.app)
        return self._clerk_made

    def reserve(self, entry: Any) -> Any:
        """The entry as it is after it was sent, which takes its place."""
        following = self.schedule[entry.name] = next(entry)
        return following

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send an entry, and log what becomes of it."""
        self.logger.info("Scheduler: Sending due task %s (%s)", entry.name, entry.task)
        try:
            result = self.apply_async(entry, producer=producer, advance=False)
        except Exception:
            self.logger.exception("beat: entry %r was not sent", entry.name)
        else:
            self.logger.debug("%s: %s", entry.task, "sent" if result is None else f"sent. id->{result.id}")

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        """Send an entry.

        Returns:
            A handle on the result; None where another beat was first.

        Raises:
            SchedulingError: It was not sent.
        """
        entry = self.reserve(entry) if advance else entry
        try:
            return self._clerk.send(self, entry, producer)
        except Exception as exc:
            raise SchedulingError(f"Couldn't apply scheduled task {entry.name}: {exc}") from exc
        finally:
            self._tasks_since_sync += 1
            if self.should_sync():
                self._do_sync()

    def send_task(self, *args: Any, **kwargs: Any) -> Any:
        """For subclasses: what sends a task; `celeriac.compat.beat.Clerk` unless it is overridden."""
        return self.app.send_task(*args, **kwargs)

    # -- keeping -------------------------------------------------------------------------------------------------

    def should_sync(self) -> bool:
        now = SYSTEM_CLOCK.monotonic()
        return bool(
            not self._last_sync
            or now - self._last_sync > self.sync_every
            or (self.sync_every_tasks and self._tasks_since_sync >= self.sync_every_tasks)
        )

    def _do_sync(self) -> None:
        try:
            self.sync()
        finally:
            self._last_sync = SYSTEM_CLOCK.monotonic()
            self._tasks_since_sync = 0

    def sync(self) -> None:
        """For subclasses: write down what is kept."""

    def close(self) -> None:
        """Called in the end."""
        self.sync()

    @property
    def connection(self) -> Any:
        return self.app.connection_for_write()

    @property
    def producer(self) -> Any:
        from celeriac.compat.connection import Producer

        return (self.Producer or Producer)(self.app)

    @property
    def info(self) -> str:
        """A line for the banner."""
        return ""


class _Store(dict[str, Any]):
    """In place of the file: the marks of the store say how far entries have come."""

    def sync(self) -> None:
        """There is no file."""

    close = sync


class PersistentScheduler(Scheduler):
    """Keeps its entries' past; not in a file, as with Celery, but with the broker. Arguments as of `Scheduler`."""

    persistence: Any = None
    known_suffixes = ("", ".db", ".dat", ".bak", ".dir")
    _store: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.schedule_filename = kwargs.get("schedule_filename")
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        self._store = _Store(entries={})
        self.merge_inplace(self.app.conf.beat_schedule)
        self.install_default_entries(self.schedule)
        self._follow()
        self.sync()

    def get_schedule(self) -> Any:
        return {} if self._store is None else self._store["entries"]

    def set_schedule(self, schedule: Any) -> None:
        if self._store is None:
            self._store = _Store()
        self._store["entries"] = schedule

    schedule: Any = property(lambda self: self.get_schedule(), lambda self, value: self.set_schedule(value))

    def sync(self) -> None:
        if self._store is not None:
            self._store.sync()

    def close(self) -> None:
        self.sync()
        if self._store is not None:
            self._store.close()

    @property
    def info(self) -> str:
        return "    . db -> with the broker"


class Service:
    """A beat, started from Python.

    Args:
        app: The application.
        max_interval: Longest sleep in seconds.
        schedule_filename: Accepted: no file is kept.
        scheduler_cls: A class, or its dotted name; the setting `beat_scheduler` unless given.
        remote_control: Accepted: `celeriac beat` answers `ping`.
        hostname: The node's name.
    """

    scheduler_cls: Any = PersistentScheduler

    def __init__(
        self, app: Any, max_interval: Any = None, schedule_filename: Any = None, scheduler_cls: Any = None,
        remote_control: Any = None, hostname: Any = None,
    ) -> None:  # fmt: skip
        self.app = app
        self.max_interval = max_interval or app.conf.beat_max_loop_interval
        self.scheduler_cls = scheduler_cls or app.conf.beat_scheduler or self.scheduler_cls
        self.schedule_filename = schedule_filename or app.conf.beat_schedule_filename
        self.remote_control = remote_control
        self.hostname = hostname
        self._is_stopped = threading.Event()
        self._beat: CeleryBeat | None = None
        self._scheduler: Any = None

    def __reduce__(self) -> Any:
        given = (self.max_interval, self.schedule_filename, self.scheduler_cls, self.remote_control, self.hostname)
        return type(self), (self.app, *given)

    @property
    def beat(self) -> CeleryBeat:
        """What runs."""
        if self._beat is None:
            from celeriac.compat.beat import make_beat

            self._beat = make_beat(self.app, service=self, name=self.hostname)
        return self._beat

    @beat.setter
    def beat(self, beat: CeleryBeat) -> None:
        self._beat = beat

    def start(self, embedded_process: bool = False) -> None:
        """Run it until it is told to stop."""
        from celeriac.engine import signals

        beat = self.beat
        signals.beat_init.send(beat)
        if embedded_process:
            signals.beat_embedded_init.send(beat)
        try:
            beat.run()
        except (KeyboardInterrupt, SystemExit):
            beat.stop()
        finally:
            self._is_stopped.set()

    def stop(self, wait: bool = False) -> None:
        """Tell it to stop."""
        self.beat.stop()
        if wait:
            self._is_stopped.wait()

    def sync(self) -> None:
        """Have the scheduler write down what it keeps."""
        self.scheduler.close()
        self._is_stopped.set()

    def get_scheduler(self, lazy: bool = False, extension_namespace: str = "celery.beat_schedulers") -> Any:
        """A new scheduler of the class."""
        from celeriac.compat.beat import scheduler_class

        return scheduler_class(self.scheduler_cls, extension_namespace)(
            app=self.app, schedule_filename=self.schedule_filename, max_interval=self.max_interval, lazy=lazy
        )

    @property
    def has_scheduler(self) -> bool:
        """Whether it has been made."""
        return self._scheduler is not None

    @property
    def scheduler(self) -> Any:
        """The scheduler; where celeriac's beat runs, one to look at."""
        if self._scheduler is None:
            self._scheduler = self.get_scheduler()
        return self._scheduler


class _Threaded(threading.Thread):
    def __init__(self, app: Any, **kwargs: Any) -> None:
        super().__init__(name="Beat", daemon=True)
        self.app = app
        self.service = Service(app, **kwargs)

    def run(self) -> None:
        self.app.set_current()
        self.service.start()

    def stop(self) -> None:
        self.service.stop(wait=True)


class _Process(multiprocessing.Process):
    def __init__(self, app: Any, **kwargs: Any) -> None:
        super().__init__(name="Beat")
        self.app = app
        self.service = Service(app, **kwargs)

    def run(self) -> None:
        self.app.set_default()
        self.app.set_current()
        self.service.start(embedded_process=True)

    def stop(self) -> None:
        self.terminate()


def EmbeddedService(app: Any, max_interval: Any = None, **kwargs: Any) -> Any:
    """A beat as a thread (`thread=True`) or a process of its own; both have `start()` and `stop()`."""
    if kwargs.pop("thread", False):
        return _Threaded(app, **kwargs)
    return _Process(app, max_interval=max_interval, **kwargs)
