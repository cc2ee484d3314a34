"""The socket for schedules: their marks, in one store with the messages, and what is changed at run time.

Synchronous, because a beat is a thread or a process of its own. Every call is bounded in time like a publish.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeriac.model import BeatInfo, Mark, ScheduleNews, ScheduleRow, Tick, Ticked


class ScheduleStore(Protocol):
    """The schedules of one application, by entry name. Opened with a scope: other scopes' names are others' entries."""

    @property
    def url(self) -> str:
        """The URL it was opened with, any password replaced by `***`."""

    def look(self, revision: int = 0, /) -> ScheduleNews:
        """The store's time, and the rows that were changed after `revision`; 0: all rows. Cheap when there are none.

        Raises:
            BrokerUnavailableError: Not reached.
        """

    def marks(self, entries: Sequence[tuple[str, str]], /) -> Sequence[Mark | None]:
        """How far entries have come, each given as its name and queue; in that order."""

    def tick(self, ticks: Sequence[Tick], /) -> Sequence[Ticked]:
        """Move marks and publish what goes with them; each tick by itself is one atomic step, in the order given.

        A mark that does not stand at `after` is left alone (`lost`). A message is published as by `Broker.publish`:
        its priority, `not_before`, limit and unique key hold, and an id that is live already counts as published. The
        first tick of an entry that finds no mark (`after=0`) makes it.

        Returns:
            One answer per tick, in order.

        Raises:
            EnqueueRejectedError: A message cannot be stored; ticks before it may have happened.
            BrokerUnavailableError: Nothing is known. Calling again with the same ticks is safe: one that happened is
                `lost` the second time, and the mark then carries its message's id.
        """

    def put(self, row: ScheduleRow, /, *, expected: int) -> ScheduleRow:
        """Write a row, if it has not been changed since.

        Args:
            row: Its `revision` and `changed_at` are ignored.
            expected: The revision of the row that the change was made from; 0: there is none, or a removed one.

        Returns:
            The row as stored.

        Raises:
            ScheduleChangedError: It has been changed in between.
        """

    def forget(self, names: Sequence[tuple[str, str]], /) -> int:
        """Delete the marks of entries that are gone, each given as its name and queue; returns how many there were."""

    def hail(self, beat: BeatInfo, /, *, ttl_s: float) -> None:
        """Say that a beat is there; it counts as gone when it has not said so again after `ttl_s`. 0: it leaves.

        Also deletes removed rows that are older than 30 days.
        """

    def beats(self) -> Sequence[BeatInfo]:
        """The beats that are there, by name."""

    def close(self) -> None:
        """Close this process's connections. Safe to call twice; using it again reopens them."""
