"""Entries of django-celery-beat's tables, for celeriac's beat (`beat_scheduler = "django_celery_beat.schedulers:…"`).

The tables say what there is; the marks in the broker's store say how far each entry has come, so any number of beats
may read the same tables. Into them goes what people look at there: when an entry ran last, how often, and that it is
over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from celeriac.compat.beat import CLEANUP, celery_entry, code_specs, default_entries
from celeriac.compat.conf import CeleryEntry
from celeriac.errors import ConfigError, NotSupportedError, ScheduleError
from celeriac.scheduler.at import at
from celeriac.scheduler.crontab import crontab
from celeriac.scheduler.entry import POLICIES, instant_of
from celeriac.scheduler.every import every
from celeriac.scheduler.schedule import Due, Schedule
from celeriac.scheduler.walltime import moment_of

if TYPE_CHECKING:
    from datetime import tzinfo

    from celeriac.compat.celery.app.base import Celery
    from celeriac.model import Instant, Mark
    from celeriac.scheduler import Entry

_log = logging.getLogger("celery.beat")

_FULL_READ_S: Final = 300.0
"""What was changed by `QuerySet.update` leaves no trace."""
_OPTIONS: Final = ("queue", "exchange", "routing_key")
_ONLY_HERE: Final = frozenset(POLICIES) - {"enabled", "description"}


class Once(Schedule):
    """The first instant of another schedule: django-celery-beat's one-off tasks.

    Args:
        schedule: The other.
        begin: Its first instant after this one.
    """

    def __init__(self, schedule: Schedule, begin: Instant) -> None:
        self.schedule = schedule
        self.begin = begin

    def next_after(self, moment: Instant, zone: tzinfo, /) -> Instant | None:
        first = self.schedule.next_after(self.begin, zone)
        return first if first is not None and moment < first else None

    def due(self, after: Instant, until: Instant, zone: tzinfo, /, *, newest: int) -> Due:
        first = self.next_after(after, zone)
        return Due((), 0) if first is None or first > until else Due((first,), 1)

    def begun_at(self, start: Instant, /) -> Schedule:
        return Once(self.schedule.begun_at(start), max(self.begin, start - 1))

    def describe(self) -> str:
        return f"once, {self.schedule.describe()}"

    def form(self) -> dict[str, Any]:
        return {"once": self.schedule.form(), "after": self.begin}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Once) and (self.schedule, self.begin) == (other.schedule, other.begin)

    def __hash__(self) -> int:
        return hash((self.schedule, self.begin))


class DatabaseSource:
    """The enabled rows of `PeriodicTask`, and what of the code has no place there.

    Args:
        app: The application, of a Django project.
        writes: False: it is only looked at.

    Raises:
        ConfigError: Django or the package is not there.
    """

    def __init__(self, app: Celery, *, writes: bool = True) -> None:
        self._app = app
        self._writes = writes
        self._models = _models(app)
        self._known: dict[str, tuple[Any, Entry | None]] = {}
        """By name: what of the row was read, and the entry that it made."""
        self._code: dict[str, Entry] = {}
        self._changed_at: datetime | None = None
        self._read_at: float | None = None
        self._is_synced = False
        self._unsaved: dict[str, tuple[Mark, int]] = {}
        """Of entries that have run since: their marks, and how often."""
        self._trouble = ""

    def read(self) -> Mapping[str, Entry] | None:
        from django.db import DatabaseError, InterfaceError, close_old_connections, connections

        try:
            close_old_connections()
            if not self._is_synced:
                self._code = self._sync() if self._writes else self._without_rows()
                self._is_synced = True
            for name in list(self._unsaved):
                self._save(name)
            is_first = self._read_at is None
            found = self._read()
            if is_first:
                connections.close_all()  # who has made this beat may be about to fork
        except (DatabaseError, InterfaceError) as exc:
            if self._read_at is None:
                raise ConfigError(
                    f"beat_scheduler={self._app.settings.beat_scheduler!r}: the tables of django-celery-beat cannot be "
                    f"read: {exc}; run `python manage.py migrate`, or look at DATABASES"
                ) from exc
            if str(exc) != self._trouble:
                _log.error("beat: the tables cannot be read: %s; the entries known so far go on", exc)
                self._trouble = str(exc)
            return None
        self._trouble = ""
        return found

    def _read(self) -> Mapping[str, Entry] | None:
        now_s = self._app.clock.monotonic()
        changed_at = self._models.PeriodicTasks.last_change()
        if self._read_at is not None and changed_at == self._changed_at and now_s - self._read_at < _FULL_READ_S:
            return None
        rows = self._models.PeriodicTask.objects.enabled().select_related("interval", "crontab", "solar", "clocked")
        known = {row.name: self._entry(row) for row in rows}
        self._known = known
        self._changed_at, self._read_at = changed_at, now_s
        return {**self._code, **{name: entry for name, (_, entry) in known.items() if entry is not None}}

    # -- a row -----------------------------------------------------------------------------------------------------

    def _entry(self, row: Any) -> tuple[Any, Entry | None]:
        said = _said(row)
        old = self._known.get(row.name)
        if old is not None and old[0] == said:
            return old
        try:
            return said, self._made(row)
        except Exception as exc:
            _log.error("beat: entry %r of the tables is left out: %s", row.name, exc)
            return said, None

    def _made(self, row: Any) -> Entry | None:
        since = instant_of(_aware(row.last_run_at or row.date_changed))
        if (row.one_off and row.total_run_count > 0) or (row.expires is not None and self._is_past(row.expires)):
            self._disable(row.pk)
            return None
        schedule, zone = self._schedule(row)
        if isinstance(schedule, at):
            moment = instant_of(schedule.moment)
            if row.last_run_at is not None and moment <= since:
                self._disable(row.pk)
                return None
            # one that was in the past already when it was saved is due at once
            schedule, since = at(moment_of(max(moment, since))), since - 1
        elif row.one_off:
            schedule = Once(schedule, since)
        options = {name: getattr(row, name) for name in _OPTIONS if getattr(row, name)}
        if row.priority is not None:
            options["priority"] = min(row.priority, 9)
        if (expires := row.expires if row.expires is not None else row.expire_seconds) is not None:
            options["expires"] = expires
        if headers := _json(row, "headers", dict):
            options["headers"] = headers
        spec = {
            "task": row.task,
            "schedule": schedule,
            "args": _json(row, "args", list),
            "kwargs": _json(row, "kwargs", dict),
            "options": options,
            "timezone": zone,
            "start": None if row.start_time is None else _aware(row.start_time),
            "end": None if row.expires is None else _aware(row.expires),
            "description": row.description,
        }
        return celery_entry(self._app, row.name, spec, origin="store", since=since)

    def _schedule(self, row: Any) -> tuple[Schedule, tzinfo | None]:
        from django.conf import settings

        if row.interval is not None:
            return every(timedelta(**{row.interval.period: row.interval.every})), None
        if row.crontab is not None:
            at_ = row.crontab
            knows_zones = getattr(settings, "DJANGO_CELERY_BEAT_TZ_AWARE", True)
            fields = (at_.minute, at_.hour, at_.day_of_week, at_.day_of_month, at_.month_of_year)
            return crontab(*(field.replace(" ", "") for field in fields)), at_.timezone if knows_zones else None
        if row.solar is not None:
            from celeriac.scheduler.solar import solar

            return solar(row.solar.event, float(row.solar.latitude), float(row.solar.longitude)), None
        if row.clocked is not None:
            return at(_aware(row.clocked.clocked_time)), None
        raise ScheduleError("it has no interval, crontab, solar event or clocked time")

    def _is_past(self, moment: datetime) -> bool:
        return instant_of(_aware(moment)) / 1e6 <= self._app.clock.time()

    # -- what happened ---------------------------------------------------------------------------------------------

    def fired(self, entry: Entry, mark: Mark, /) -> None:
        if entry.name in self._code:
            return
        self._unsaved[entry.name] = mark, self._unsaved.get(entry.name, (mark, 0))[1] + 1
        try:
            self._save(entry.name)
        except Exception as exc:
            _log.warning("beat: that entry %r has run is not in the tables yet: %s", entry.name, exc)

    def _save(self, name: str) -> None:
        from django.db.models import F

        mark, count = self._unsaved[name]
        rows = self._models.PeriodicTask.objects.filter(name=name)
        row = rows.filter(enabled=True).only("pk", "one_off", "clocked_id").first()
        if row is not None:
            if row.one_off or row.clocked_id is not None:
                self._disable(row.pk)
            else:
                ran_at = moment_of(mark.at)
                if not _uses_zones():
                    from django.utils.timezone import make_naive

                    ran_at = make_naive(ran_at)
                # neither of `save` and its signals: nothing was changed that others would have to read again
                rows.filter(pk=row.pk).update(last_run_at=ran_at, total_run_count=F("total_run_count") + count)
        self._unsaved.pop(name, None)

    def _disable(self, pk: Any) -> None:
        """As `PeriodicTask.save` leaves a row that is over, whatever else may be wrong with it."""
        from django.utils.timezone import now

        if not self._writes:
            return
        rows = self._models.PeriodicTask.objects.filter(pk=pk)
        rows.update(enabled=False, last_run_at=None, total_run_count=0, date_changed=now())
        self._models.PeriodicTasks.update_changed()

    # -- the code's entries ----------------------------------------------------------------------------------------

    def _sync(self) -> dict[str, Entry]:
        """Write the entries of the code into the tables; those that have no place there are returned."""
        from celeriac.compat.celery.schedules import BaseSchedule

        kept: dict[str, Entry] = {}
        specs = {**default_entries(self._app), **code_specs(self._app)}
        for name, spec in specs.items():
            fields = {key: value for key, value in spec.items() if value is not None}
            if isinstance(spec, CeleryEntry):
                fields.update(spec.model)
            schedule = fields.get("schedule")
            if _ONLY_HERE.isdisjoint(fields) and not (isinstance(schedule, (Schedule, str, Mapping, datetime))):
                if name == CLEANUP:
                    fields["options"] = {"expire_seconds": spec["options"]["expires"]}
                own_zone = isinstance(schedule, BaseSchedule) and schedule.own_zone is not None
                if isinstance(schedule, BaseSchedule) and not own_zone:
                    schedule.app = self._app
                if self._write(name, fields):
                    continue
            entry = celery_entry(self._app, name, spec)
            if entry is not None:
                kept[name] = entry
        return kept

    def _without_rows(self) -> dict[str, Entry]:
        """The entries of the code that are in no table."""
        rows = set(self._models.PeriodicTask.objects.values_list("name", flat=True))
        specs = {name: spec for name, spec in code_specs(self._app).items() if name not in rows}
        made = {name: celery_entry(self._app, name, spec) for name, spec in specs.items()}
        return {name: entry for name, entry in made.items() if entry is not None}

    def _write(self, name: str, fields: Mapping[str, Any]) -> bool:
        """Whether it is in the tables now."""
        from django.db import DatabaseError, InterfaceError
        from django_celery_beat.schedulers import ModelEntry

        try:
            wanted = ModelEntry._unpack_fields(**fields)
            row = self._models.PeriodicTask.objects.filter(name=name).first()
            # a row that is saved counts from then on: where beats start often, what is due each day would never be
            if row is None or any(getattr(row, field) != value for field, value in wanted.items()):
                ModelEntry.from_entry(name, app=self._app, **fields)
        except (DatabaseError, InterfaceError):
            raise
        except Exception as exc:
            _log.warning("beat: entry %r has no place in the tables, and is run from the code: %s", name, exc)
            return False
        return True


def _said(row: Any) -> tuple[Any, ...]:
    """All of a row that makes an entry."""
    own = (
        row.pk, row.task, row.args, row.kwargs, row.headers, row.queue, row.exchange, row.routing_key, row.priority,
        row.expires, row.expire_seconds, row.one_off, row.start_time, row.description,
        row.date_changed if row.last_run_at is None else None,
        row.one_off and row.total_run_count > 0,
    )  # fmt: skip
    return (*own, *_fields(row.interval), *_fields(row.crontab), *_fields(row.solar), *_fields(row.clocked))


def _fields(row: Any) -> Iterable[Any]:
    return () if row is None else [(field.name, getattr(row, field.attname)) for field in row._meta.concrete_fields]


def _json(row: Any, name: str, kind: type) -> Any:
    from celeriac.codec.values import revive

    text = getattr(row, name)
    if not text:
        return kind()
    import json

    try:
        found = revive(json.loads(text))
    except ValueError as exc:
        raise ScheduleError(f"{name}={text!r} is not JSON: {exc}") from None
    if not isinstance(found, kind):
        raise ScheduleError(f"{name}={text!r} is not a JSON {'array' if kind is list else 'object'}")
    return found


def _uses_zones() -> bool:
    from django.conf import settings

    return bool(settings.USE_TZ)


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is not None:
        return moment
    from django.utils.timezone import make_aware

    found: datetime = make_aware(moment)
    return found


def _models(app: Celery) -> Any:
    """The package's models, with Django set up."""
    from celeriac.compat.celery.fixups.django import DjangoFixup

    named = f"beat_scheduler={app.settings.beat_scheduler!r}"
    try:
        from django.core.exceptions import AppRegistryNotReady, ImproperlyConfigured
    except ImportError:
        raise NotSupportedError(f"{named}: Django is not installed") from None
    try:
        DjangoFixup.setup()
        from django_celery_beat import models
    except ImportError as exc:
        raise ConfigError(f"{named}: {exc}; install django-celery-beat") from exc
    except (ImproperlyConfigured, AppRegistryNotReady, RuntimeError) as exc:
        raise ConfigError(
            f"{named}: {exc}; set DJANGO_SETTINGS_MODULE, and have 'django_celery_beat' in INSTALLED_APPS"
        ) from exc
    return models
