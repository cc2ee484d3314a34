"""What is stored stays, and is stored before the task is done."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from chaos.invariants.world import FINAL, Invariant

if TYPE_CHECKING:
    from chaos.history import Event
    from chaos.invariants.world import World


class S1(Invariant):
    """A final result is never replaced by another one, and does not go away."""

    key = "S1"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._first: dict[str, tuple[str, str]] = {}
        self._look = 0
        self._again: set[str] = set()

    def on_result(self, event: Event) -> None:
        if event.n > self._look:
            self._look = event.n
            self._again.clear()
        first = self._first.get(event.id)
        if first is None:
            if event.what in FINAL:
                self._first[event.id] = (event.what, event.token)
            return
        self._again.add(event.id)
        self.checked += 1
        if first != (event.what, event.token):
            self.complain(
                event.id, f"its result was {first[0]} {first[1]} and, at look {event.n}, is {event.what} {event.token}"
            )

    def close(self) -> None:
        if self._look > 1:
            for task_id, (state, token) in self._first.items():
                if task_id not in self._again:
                    self.complain(task_id, f"its result was {state} {token}, and is gone at look {self._look}")


class S2(Invariant):
    """What ended well has its result."""

    key = "S2"

    def close(self) -> None:
        if not self.terms.stores_results or any(fault.blame.loses for fault in self.world.faults):
            return
        for case in self.world.cases.values():
            if not case.is_owed or case.dead is not None or not any(run.ended < inf for run in case.runs):
                continue
            self.checked += 1
            if not case.state and case.revoked == inf:
                self.complain(case.id, f"{case.what} was acknowledged and ran to its end, and has no result")
