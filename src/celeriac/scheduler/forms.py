"""Schedules as plain JSON data, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from celeriac.errors import ScheduleError
from celeriac.scheduler.at import at
from celeriac.scheduler.crontab import crontab
from celeriac.scheduler.every import every

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
    options = {str(key): value for key, value in form.items() if key != kind}
    try:
        return _READERS[kind](form[kind], **options)
    except TypeError as exc:
        raise ScheduleError(f"{dict(form)!r} is no {kind!r} schedule: {exc}") from None


def _crontab(text: Any) -> Schedule:
    if not isinstance(text, str):
        raise ScheduleError(f"crontab {text!r}: a text of five fields is wanted")
    return crontab.from_string(text)


def _every(seconds: Any, *, aligned: bool = False) -> Schedule:
    return every(seconds, aligned=aligned)


_READERS: dict[str, Callable[..., Schedule]] = {
    "crontab": _crontab,
    "every": _every,
    "at": at,
}
