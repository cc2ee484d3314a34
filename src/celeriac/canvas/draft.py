"""A sequel in the making: what links, chords and flows add to what follows one task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeriac.canvas.lowering import Sending
from celeriac.engine.continuation import NOTHING, Sequel
from celeriac.model import Workflow

if TYPE_CHECKING:
    from celeriac.model import Arrival, Record, StoredResult


class Draft(Sending):
    """Everything that is to happen together with the end of a task."""

    __slots__ = ("arrivals", "closed", "records", "results")

    def __init__(self) -> None:
        super().__init__()
        self.results: list[StoredResult] = []
        self.records: list[Record] = []
        self.arrivals: list[Arrival] = []
        self.closed: list[str] = []

    def lists(self) -> tuple[list[Any], ...]:
        return *super().lists(), self.results, self.records, self.arrivals, self.closed

    def sequel(self) -> Sequel:
        workflow = None
        if self.results or self.records or self.joins or self.arrivals or self.closed:
            workflow = Workflow(
                results=tuple(self.results),
                records=tuple(self.records),
                joins=tuple(self.joins),
                arrivals=tuple(self.arrivals),
                closed=tuple(self.closed),
            )
        elif not self.messages:
            return NOTHING
        return Sequel(messages=tuple(self.messages), workflow=workflow, children=tuple(self.children))
