"""One instant."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from celeriac.errors import ScheduleError
from celeriac.scheduler.value import Value
from celeriac.scheduler.walltime import instant

if TYPE_CHECKING:
    from datetime import tzinfo

    from celeriac.model import Instant


class at(Value):  # noqa: N801
    """Once.

    Args:
        moment: An aware datetime, or its ISO text with the offset: `"2026-12-01T10:00+01:00"`.

    Raises:
        ScheduleError: It is no moment, or has no offset.
    """

    __slots__ = ("_moment",)

    _moment: datetime

    def __init__(self, moment: datetime | str, /) -> None:
        found = moment
        if isinstance(found, str):
            try:
                found = datetime.fromisoformat(found.strip())
            except ValueError:
                raise ScheduleError(f"at({moment!r}): not a moment; write '2026-12-01T10:00+01:00'") from None
        if not isinstance(found, datetime):
            raise ScheduleError(
                f"at({moment!r}): an aware datetime or its ISO text is wanted, not {type(moment).__name__}"
            )
        ahead = found.utcoffset()
        if ahead is None:
            raise ScheduleError(
                f"at({moment!r}): without an offset from UTC that is no instant; write "
                f"{f'{found.isoformat()}+00:00'!r} for UTC, or give datetime(…, tzinfo=ZoneInfo('Europe/Rome'))"
            )
        from datetime import timezone

        fixed = found.replace(tzinfo=timezone(ahead))
        self._put(_moment=fixed)

    @property
    def moment(self) -> datetime:
        """With the offset it was given with."""
        return self._moment

    def next_after(self, moment: Instant, zone: tzinfo, /) -> Instant | None:
        then = instant(self._moment)
        return then if moment < then else None

    def describe(self) -> str:
        moment = self._moment
        clock = "%H:%M:%S" if moment.second or moment.microsecond else "%H:%M"
        if moment.utcoffset() == timedelta(0):
            return moment.strftime(f"once on %Y-%m-%d at {clock} UTC")
        return f"{moment.strftime(f'once on %Y-%m-%d at {clock}')} {moment.isoformat()[-6:]}"

    def form(self) -> dict[str, Any]:
        return {"at": self._moment.isoformat()}

    def _key(self) -> tuple[str]:
        return (self._moment.isoformat(),)

    def __repr__(self) -> str:
        return f"at({self._moment.isoformat()!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return at, (self._moment,)
