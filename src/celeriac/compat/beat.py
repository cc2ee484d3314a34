"""Which beat an application written for Celery gets: celeriac's, or the loop of a scheduler class of its own.

- Celery's own schedulers: celeriac's beat, with the entries of `beat_schedule`.
- django-celery-beat's scheduler: celeriac's beat, with the entries of its tables (`celeriac.compat.django_beat`).
- Any other subclass of `celery.beat.Scheduler`: that class, in the loop of `celery.beat`, publishing by the marks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.app import beats
from celeriac.app.application import Celeriac
from celeriac.app.options import KNOWN
from celeriac.compat.catching import catching
from celeriac.errors import BrokerError, ConfigError, NotRegistered, NotSupportedError, ScheduleError
from celeriac.model import Tick, Ticked
from celeriac.scheduler import Beat, Entry
from celeriac.scheduler.entry import as_schedule, entry_of, instant_of
from celeriac.scheduler.schedule import SECOND
from celeriac.scheduler.walltime import moment_of

if TYPE_CHECKING:
    from celeriac.compat.celery.app.base import Celery
    from celeriac.model import Instant, Mark, Outgoing, TaskId
    from celeriac.scheduler import Source

_log = logging.getLogger("celery.beat")

EXTENSIONS: Final = "celery.beat_schedulers"
_CELERYS: Final = frozenset({"celery.beat.PersistentScheduler", "celery.beat.Scheduler"})
_DJANGOS: Final = "django_celery_beat.schedulers.DatabaseScheduler"
_KNOWN: Final[Mapping[str, str]] = {"django": _DJANGOS}
"""Where the package is not installed, its entry point is not there to say so."""
_REDBEAT: Final = (
    "beat_scheduler={!r}: RedBeat keeps its entries and one lock in Redis keys of its own, which celeriac's beat does "
    "not read. Leave the scheduler out: entries of beat_schedule and add_periodic_task are then sent by as many beats "
    "as you start, each once, and need no lock; entries that were made with RedBeatSchedulerEntry(…).save() are added "
    "with app.schedules.add(name, task, schedule) or `celeriac schedule add`"
)
CLEANUP: Final = "celery.backend_cleanup"
_LONGEST_LOOK_S: Final = 1.0
_RETRY_S: Final = 5.0
"""After the broker was not reached."""


# -- which one ---------------------------------------------------------------------------------------------------------


def _dotted(name: Any, namespace: str = EXTENSIONS) -> Any:
    """`module.Class` of a dotted name, or of an alias that a package has announced; a class as it is."""
    if not isinstance(name, str):
        return name
    found = next((entry.value for entry in entry_points(group=namespace) if entry.name == name), None)
    return (found or _KNOWN.get(name, name)).replace(":", ".")


def scheduler_class(name: Any, namespace: str = EXTENSIONS) -> Any:
    """The class that `beat_scheduler` names.

    Raises:
        ConfigError: It cannot be imported, or is no scheduler.
        NotSupportedError: It is RedBeat's.
    """
    from celeriac.app.finder import load_symbol
    from celeriac.compat.celery.beat import Scheduler

    dotted = _dotted(name, namespace)
    if isinstance(dotted, str):
        if dotted.partition(".")[0] == "redbeat":
            raise NotSupportedError(_REDBEAT.format(name))
        found: Any = load_symbol(dotted, "beat_scheduler")
    else:
        found = dotted
    if not isinstance(found, type) or not issubclass(found, Scheduler):
        raise ConfigError(f"beat_scheduler={name!r}: {found!r} is not a subclass of celery.beat.Scheduler")
    if any(base.__module__.partition(".")[0] == "redbeat" for base in found.__mro__):
        raise NotSupportedError(_REDBEAT.format(name))
    return found


def own_scheduler(app: Celery, name: Any = None) -> Any:
    """The application's own scheduler class; None where celeriac's beat runs.

    Raises:
        ConfigError: As `scheduler_class`.
    """
    from celeriac.compat.celery.beat import PersistentScheduler, Scheduler

    chosen = name or app.settings.beat_scheduler
    if not chosen or _dotted(chosen) in {*_CELERYS, _DJANGOS}:
        return None
    found = scheduler_class(chosen)
    return None if found in (Scheduler, PersistentScheduler) or _is_djangos(found) else found


def _is_djangos(kind: Any) -> bool:
    return isinstance(kind, type) and f"{kind.__module__}.{kind.__qualname__}" == _DJANGOS


def source_of(app: Celery, name: Any = None, *, writes: bool = True) -> Source:
    """Where the entries of the code come from.

    Args:
        app: The application.
        name: Of the scheduler; as the settings say unless given.
        writes: False: it is only looked at.

    Raises:
        ConfigError: As `scheduler_class`, or what it reads is not there.
    """
    chosen = name or app.settings.beat_scheduler
    kind = own_scheduler(app, chosen)
    if kind is not None:
        return LoopSource(app, kind)
    if chosen and (_dotted(chosen) == _DJANGOS or _is_djangos(chosen)):
        from celeriac.compat.django_beat import DatabaseSource

        return DatabaseSource(app, writes=writes)
    return CelerySource(app)


def make_beat(app: Celery, *, name: str | None = None, service: Any = None) -> CeleryBeat:
    """The beat of an application, not yet running.

    Args:
        app: With its task modules imported.
        name: Shown where beats are listed.
        service: The `celery.beat.Service` that it belongs to.

    Raises:
        ConfigError: As `source_of`.
        ScheduleError: An entry of the code is wrong.
    """
    from celeriac.compat.celery.beat import Service

    service = service or Service(app)
    chosen = service.scheduler_cls if service.scheduler_cls is not Service.scheduler_cls else None
    if own_scheduler(app, chosen) is None:
        made = beats.make_beat(app, source=source_of(app, chosen), name=name, host=CeleryHost, kind=CeleryBeat)
    else:
        made = beats.make_beat(app, source=_Nothing(), name=name, host=CeleryHost, kind=LoopBeat)
    assert isinstance(made, CeleryBeat)
    made.look_often()
    made.service = service
    service.beat = made
    return made


# -- entries -----------------------------------------------------------------------------------------------------------


class _Nothing:
    """A source without entries."""

    def read(self) -> Mapping[str, Entry] | None:
        return {}

    def fired(self, entry: Entry, mark: Mark, /) -> None:
        """Never."""


def celery_entry(app: Celery, name: str, spec: Mapping[str, Any], **more: Any) -> Entry | None:
    """An entry as Celery takes it: its task may be unknown here, and what is no option is passed over.

    Returns:
        None where its task could not be called like that, which is logged: beat sends the others.

    Raises:
        ScheduleError: Its schedule, or a policy, is wrong.
    """
    conf = app.settings
    options = {key: value for key, value in (spec.get("options") or {}).items() if key in KNOWN}
    fields = {**spec, "options": options}
    entry = entry_of(name, fields, zone=conf.timezone, deadline_s=conf.beat_cron_starting_deadline, **more)
    beats.check_overlap(app, entry)
    try:
        Celeriac.check_call(app, entry.task, entry.args, entry.kwargs, entry.options)
    except NotRegistered as exc:
        if name not in app.told_of:
            app.told_of.add(name)
            _log.warning("beat: entry %r: %s. It is sent all the same", name, exc)
    except Exception as exc:
        _log.error("beat: entry %r is left out: %s", name, exc)
        return None
    return entry


def default_entries(app: Celery) -> dict[str, dict[str, Any]]:
    """What every application has whose results are also kept where nothing deletes them: `celery.backend_cleanup`."""
    from celeriac.compat.celery.schedules import crontab

    if app.conf.other_backend is None or not app.conf.result_expires:
        return {}
    if getattr(getattr(app.results, "backend", None), "supports_autoexpire", False):
        return {}
    nightly = {"task": CLEANUP, "schedule": crontab("0", "4", "*"), "options": {"expires": 12 * 3600}}
    return {CLEANUP: nightly}


class CelerySource(beats.CodeSource):
    """The entries of `beat_schedule`, `add_periodic_task` and `@app.periodic`, as Celery takes them."""

    _app: Celery

    def entries(self) -> Mapping[str, Entry]:
        return code_entries(self._app)


def code_specs(app: Celery) -> dict[str, Mapping[str, Any]]:
    """The entries of the code by name, in Celery's form.

    Raises:
        ScheduleError: Two share a name.
    """
    app.finalize(auto=True)
    specs: dict[str, Mapping[str, Any]] = dict(app.settings.beat_schedule)
    for name, spec in app.periodic_tasks.items():
        if name in specs:
            raise ScheduleError(
                f"schedule entry {name!r} is there twice, in beat_schedule and by @app.periodic; give one another name="
            )
        specs[name] = spec
    return specs


def code_entries(app: Celery) -> dict[str, Entry]:
    """The same, checked, and what every application has."""
    specs = code_specs(app)
    specs = {**default_entries(app), **specs}
    made = {name: celery_entry(app, name, spec) for name, spec in specs.items()}
    return {name: entry for name, entry in made.items() if entry is not None}


class LoopSource:
    """What a scheduler class of the application's own says of its entries, for who wants to look at them."""

    def __init__(self, app: Celery, kind: Any) -> None:
        self._app = app
        self._kind = kind

    def read(self) -> Mapping[str, Entry] | None:
        app = self._app
        try:
            looked_at = self._kind(app=app, schedule_filename=app.conf.beat_schedule_filename, lazy=True)
            entries = dict(looked_at.schedule or {})
        except Exception as exc:
            _log.warning("beat: %s cannot be looked into: %s", self._kind.__qualname__, exc)
            entries = {}
        found = {name: _as_entry(name, entry, app) for name, entry in entries.items()}
        return found or code_entries(app)

    def fired(self, entry: Entry, mark: Mark, /) -> None:
        """It is only looked at."""


def _as_entry(name: str, entry: Any, app: Celery) -> Entry:
    schedule = entry.schedule
    return Entry(
        name=name,
        task=entry.task,
        schedule=as_schedule(schedule),
        zone=getattr(schedule, "own_zone", None) or app.timezone,
        args=tuple(entry.args or ()),
        kwargs=dict(entry.kwargs or {}),
        options={key: value for key, value in (entry.options or {}).items() if key in KNOWN},
    )


# -- sending -----------------------------------------------------------------------------------------------------------


class CeleryHost(beats.BeatHost):
    """As the base class; a task whose class has an `apply_async` of its own is sent by that.

    What such a method does besides (take a lock, write a row) must happen once, so the mark moves first, and its
    message follows in a second step. A beat that dies in between loses that one.
    """

    def __init__(self, app: Any, source: Source) -> None:
        super().__init__(app, source)
        self._entries: dict[str, Entry] = {}

    def build(self, entry: Entry, at: Instant, task_id: TaskId, /) -> Outgoing:
        if self._sends_itself(entry.task):
            self._entries[entry.name] = entry
        return super().build(entry, at, task_id)

    def _sends_itself(self, name: str) -> bool:
        from celeriac.compat.celery.app.task import Task

        task = self._app.tasks.get(name)
        return isinstance(task, Task) and type(task).apply_async is not Task.apply_async

    def tick(self, ticks: Sequence[Tick], /) -> Sequence[Ticked]:
        own = {
            place
            for place, tick in enumerate(ticks)
            if tick.message is not None and tick.name in self._entries and self._sends_itself(tick.message.task)
        }
        if not own:
            return super().tick(ticks)
        answers: dict[int, Ticked] = {}
        rest = [place for place in range(len(ticks)) if place not in own]
        if rest:
            answers.update(zip(rest, super().tick([ticks[place] for place in rest]), strict=True))
        for place in sorted(own):
            answers[place] = self._tick_own(ticks[place])
        return [answers[place] for place in range(len(ticks))]

    def _tick_own(self, tick: Tick) -> Ticked:
        planned = tick.message
        assert planned is not None, "only those are given here"
        (claimed,) = self.store.tick([msgspec.structs.replace(tick, message=None)])
        if claimed.verdict == "lost":
            return claimed
        entry = self._entries[tick.name]
        task = self._app.tasks[entry.task]
        due = moment_of(tick.at)
        headers = {"periodic_task_name": entry.name, "scheduled_at": due.isoformat(), "celery_beat_task": True}
        options = {**entry.options, "headers": {**headers, **(entry.options.get("headers") or {})}}
        if planned.not_before is not None:
            options["eta"] = datetime.fromtimestamp(planned.not_before, UTC)
        args, kwargs = entry.call()
        try:
            with catching(task.name) as caught:
                task.apply_async(args, kwargs, task_id=planned.id, **options)
        except BrokerError:
            raise
        except Exception as exc:
            _log.error("beat: entry %r: %s.apply_async sent nothing: %r", tick.name, type(task).__name__, exc)
            return claimed
        if caught.message is None:
            _log.info("beat: entry %r: %s.apply_async sent nothing", tick.name, type(task).__name__)
            return claimed
        return super().tick([msgspec.structs.replace(tick, after=tick.at, message=caught.message, skipped=0)])[0]


# -- the beats ---------------------------------------------------------------------------------------------------------


class CeleryBeat(Beat):
    """celeriac's beat, with the service that receivers of `beat_init` get to see."""

    service: Any = None

    def look_often(self) -> None:
        """Whatever `--max-interval` says: with Celery that is how long it may sleep at most."""
        self._look_s = min(self._look_s, _LONGEST_LOOK_S)


class LoopBeat(CeleryBeat):
    """Runs a scheduler class of the application's own; entries of run time besides, as every beat."""

    def turn(self) -> float:
        pause_s = super().turn()
        if self._trouble is not None:
            return pause_s
        scheduler = self.service.scheduler
        scheduler._clerk.paused = {name for name, row in self._rows.items() if row.paused}
        try:
            own_s = scheduler.tick()
        except BrokerError as exc:
            return self._wait_after(exc)
        if isinstance(own_s, (int, float)) and own_s > 0:
            if scheduler.should_sync():
                scheduler._do_sync()
            return min(pause_s, float(own_s))
        return 0.0

    def leave(self) -> None:
        try:
            if self.service.has_scheduler:
                self.service.scheduler.close()
        finally:
            super().leave()


class Clerk:
    """Keeps the marks of the entries of a `celery.beat.Scheduler`, and publishes by them."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._host = CeleryHost(app, _Nothing())
        self._marks: dict[str, Mark | None] = {}
        self._outcomes: dict[str, str] = {}
        """Of the last try, where it was not sent by us: `lost` or `failed`."""
        self.paused: set[str] = set()

    def follow(self, scheduler: Any, *, create: bool = True) -> None:
        """Have entries know what other beats have sent, and the store know of the entries.

        Args:
            scheduler: Whose.
            create: Make marks that are not there, of when entries say that they ran last.
        """
        entries = {name: entry for name, entry in scheduler.schedule.items() if entry.last_run_at is not None}
        unknown = {name: entry for name, entry in entries.items() if self._marks.get(name) is None}
        queues = {name: self._host.queue_of(_as_entry(name, entry, self._app)) for name, entry in unknown.items()}
        if unknown:
            self._marks.update(zip(unknown, self._host.store.marks(list(queues.items())), strict=True))
        if new := [name for name in unknown if self._marks[name] is None and create]:
            now = self._now()
            ticks = [
                Tick(
                    name=name, queue=queues[name], after=0, at=max(1, min(now, _instant(entries[name].last_run_at))),
                    note="new",
                )
                for name in new
            ]  # fmt: skip
            for name, answer in zip(new, self._host.store.tick(ticks), strict=True):
                self._marks[name] = answer.mark
        for name, entry in entries.items():
            mark = self._marks.get(name)
            has_no_past = name in unknown and not entry.total_run_count
            if mark is not None and (has_no_past or mark.at > _instant(entry.last_run_at) or _is_over(entry, mark)):
                _set_past(entry, moment_of(mark.at), max(mark.runs, entry.total_run_count or 0))

    def send(self, scheduler: Any, entry: Any, producer: Any = None) -> Any:
        """Publish an entry's message, if no other beat has; returns the handle, or None."""
        from celeriac.compat.celery.beat import Scheduler

        name = entry.name
        made = _as_entry(name, entry, self._app)
        self._outcomes[name] = "failed"
        queue = self._host.queue_of(made)
        mark = self._marks.get(name)
        if mark is None:
            (mark,) = self._host.store.marks([(name, queue)])
        at = self._now() if mark is None else max(self._now(), mark.at + 1)
        tick = Tick(name=name, queue=queue, after=0 if mark is None else mark.at, at=at)
        by_itself = type(scheduler).send_task is not Scheduler.send_task and entry.task not in self._app.tasks
        task_id = self._host.task_id(name, at)
        if name in self.paused:
            (answer,) = self._host.store.tick([msgspec.structs.replace(tick, note="paused")])
        elif by_itself:
            (answer,) = self._host.store.tick([tick])
        else:
            message = self._host.build(made, at, task_id)
            (answer,) = self._host.tick([msgspec.structs.replace(tick, queue=message.queue, message=message)])
        self._marks[name] = answer.mark
        if answer.verdict == "lost":
            self._outcomes[name] = "lost"
            _log.info("beat: entry %r was sent by another beat", name)
            return None
        self._outcomes.pop(name)
        if by_itself and name not in self.paused:
            args, kwargs = made.call()
            headers = {"celery_beat_task": True, **(made.options.get("headers") or {})}
            return scheduler.send_task(
                entry.task, args, kwargs, producer=producer, **{**made.options, "headers": headers}
            )
        return self._app.AsyncResult(task_id) if answer.verdict == "fired" else None

    def put_right(self, scheduler: Any, entry: Any, following: Any) -> float | None:
        """After a try to send `entry`, have what takes its place say how it stands.

        Returns:
            In how many seconds to look at it; None: as its schedule has said.
        """
        outcome = self._outcomes.pop(entry.name, "")
        if outcome == "failed":
            _set_past(following, entry.last_run_at, entry.total_run_count)
            return _RETRY_S
        mark = self._marks.get(entry.name)
        if outcome == "lost" and mark is not None:
            _set_past(following, moment_of(mark.at), max(mark.runs, entry.total_run_count or 0))
            return float(scheduler.delay_of(following) or 0)
        return None

    def _now(self) -> Instant:
        return round(self._app.clock.time() * SECOND)


def _instant(moment: datetime) -> Instant:
    return instant_of(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


def _is_over(entry: Any, mark: Mark) -> bool:
    """Whether it was to run once, and has.

    Rows of django-celery-beat say so until two beats save them at once, each as a whole: one that the first has ended
    is as new by the second's. A row that somebody enables again has no last run, for which its change is taken.
    """
    model: Any = getattr(entry, "model", None)
    return getattr(model, "one_off", False) and mark.runs > 0 and model.last_run_at != model.date_changed


def _set_past(entry: Any, last_run_at: Any, runs: Any) -> None:
    holders = [entry, *([entry.model] if hasattr(entry, "model") else [])]
    for holder in holders:
        holder.last_run_at, holder.total_run_count = last_run_at, runs
