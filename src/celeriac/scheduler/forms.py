"""Schedules as plain JSON data, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from celeriac.errors import ScheduleError
from celeriac.scheduler.at import at
from celeriac.scheduler.crontab import crontab
from celeriac.scheduler.every import every
from celeriac.scheduler.rrule import rrule
from celeriac.scheduler.solar import solar

if TYPE_CHECKING:
    from celeriac.scheduler.schedule import Schedule


def schedule_of(form: Any) -> Schedule:
    """The schedule whose `form()` this is, as read from JSON.

    Raises:
        ScheduleError: It is none, or its values are wrong.
    """
    kinds = [key for key in form if key in _READERS] if isinstance(form, Mapping) else []
    if len(kinds) != 1:
        raise ScheduleError(
            f"{form!r} is no schedule: one key of {', '.join(map(repr, _READERS))} says which kind it is"
        )
    (kind,) = kinds
    known = _OPTIONS.get(kind, ())
    if unknown := [key for key in form if key not in (kind, *known)]:
        more = f"beside it there may be {', '.join(map(repr, known))}" if known else "nothing stands beside it"
        raise ScheduleError(f"{form!r}: {unknown[0]!r} is nothing of a schedule {kind!r}; {more}")
    options = {key: form[key] for key in known if key in form}
    return _READERS[kind](form[kind], **options)


def _crontab(text: Any) -> Schedule:
    if not isinstance(text, str):
        raise ScheduleError(f"crontab {text!r}: a text of five fields is wanted")
    return crontab.from_string(text)


def _every(seconds: Any, *, aligned: bool = False) -> Schedule:
    return every(seconds, aligned=aligned)


def _solar(where: Any) -> Schedule:
    if not isinstance(where, (list, tuple)) or len(where) != 3:
        raise ScheduleError(f"solar {where!r}: a list of event, latitude and longitude is wanted")
    return solar(*where)


def _rrule(rule: Any, *, time: str | None = None, start: str | None = None) -> Schedule:
    return rrule(rule, at=time, start=start)


_READERS: dict[str, Callable[..., Schedule]] = {
    "crontab": _crontab,
    "every": _every,
    "at": at,
    "solar": _solar,
    "rrule": _rrule,
}
_OPTIONS = {"every": ("aligned",), "rrule": ("time", "start")}
