"""What a schedule is: a frozen value that knows its next instant."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from datetime import tzinfo

    from celeriac.model import Instant

SECOND = 1_000_000
DAY = 86_400 * SECOND


class Due(NamedTuple):
    """Instants that have come."""

    newest: tuple[Instant, ...]
    """At most as many as were asked for, oldest first."""
    total: int
    """How many have come in all."""


class Schedule(ABC):
    """When something happens. Values: equal ones are interchangeable, and `schedule_of(schedule.form())` is equal.

    Instants are microseconds since the epoch; `zone` says what "07:30" means.
    """

    __slots__ = ()  # values are many: without this, each would have a dict

    is_elapsed: ClassVar[bool] = False
    """Whether it counts time that passes, from its last instant on, instead of times on the wall."""

    @abstractmethod
    def next_after(self, moment: Instant, zone: tzinfo, /) -> Instant | None:
        """The first instant after `moment`, which is that of the last one where `is_elapsed`; None: there is none."""

    def due(self, after: Instant, until: Instant, zone: tzinfo, /, *, newest: int) -> Due:
        """The instants after `after` up to and with `until`.

        Args:
            after: As `moment` of `next_after`.
            until: Usually now.
            zone: As there.
            newest: At most so many of them, the last ones, are wanted.
        """
        found: deque[Instant] = deque(maxlen=newest)
        total, moment = 0, self.next_after(after, zone)
        while moment is not None and moment <= until:
            found.append(moment)
            total += 1
            moment = self.next_after(moment, zone)
        return Due(tuple(found), total)

    def begun_at(self, start: Instant, /) -> Schedule:
        """The same, for an entry that starts then: an elapsed schedule counts from there, and is due there first."""
        return self

    @abstractmethod
    def describe(self) -> str:
        """For people, without the zone: `every day at 07:30`."""

    @abstractmethod
    def form(self) -> dict[str, Any]:
        """As plain JSON data, with one key that says which kind: `{"crontab": "30 7 * * *"}`."""
