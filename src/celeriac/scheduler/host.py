"""What a beat wants of the application, and of where entries come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celeriac.interfaces import ScheduleStore
    from celeriac.model import Instant, Mark, Outgoing, ScheduleRow, TaskId, Tick, Ticked
    from celeriac.scheduler.entry import Entry


class Source(Protocol):
    """Where entries come from, beside the store's."""

    def read(self) -> Mapping[str, Entry] | None:
        """The entries by name; None: they are those of the last time. Called about twice a second."""

    def fired(self, entry: Entry, mark: Mark, /) -> None:
        """A message of an entry was published by this beat."""


class Host(Protocol):
    """The application as a beat sees it."""

    @property
    def source(self) -> Source:
        """The entries of the code."""

    @property
    def store(self) -> ScheduleStore:
        """Marks, and entries of run time."""

    def entry_of(self, row: ScheduleRow, /) -> Entry:
        """The entry of a row that has a spec.

        Raises:
            ScheduleError: Something is wrong with it.
        """

    def queue_of(self, entry: Entry, /) -> str:
        """Where its messages go."""

    def build(self, entry: Entry, at: Instant, task_id: TaskId, /) -> Outgoing:
        """The message of one instant.

        Raises:
            Exception: What is wrong with it, which is then no reason to leave other entries waiting.
        """

    def tick(self, ticks: Sequence[Tick], /) -> Sequence[Ticked]:
        """As `ScheduleStore.tick`, with what the application wants to happen around a publish."""

    def cancel(self, task_id: TaskId, /) -> None:
        """Revoke a message if it has not ended: remove it where it waits, stop it where it runs."""

    def task_id(self, name: str, at: Instant, /) -> TaskId:
        """The id of the message of one instant of an entry: the same for every beat."""
