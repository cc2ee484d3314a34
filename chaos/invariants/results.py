"""What is stored stays, and is stored before the task is done."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from chaos.invariants.world import Invariant

if TYPE_CHECKING:
    from chaos.history import Event
    from chaos.invariants.world import World


class S1(Invariant):
    """A final result is never replaced by another one, and does not go away."""

    key = "S1"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._look = 0
        self._found: set[str] = set()
        """What had a final result at a look, and had it at the one before."""

    def on_result(self, event: Event) -> None:
        if event.n > self._look:
            self._look = event.n
            self._found.clear()
        if event.n == 1:
            return
        case = self.world.cases[event.id]
        if case.state and (case.state, case.token) != (event.what, event.token):
            self.complain(
                event.id,
                f"its result was {case.state} {case.token} and is {event.what} {event.token} at look {event.n}",
            )
        self.checked += 1
        self._found.add(event.id)

    def close(self) -> None:
        if self._look < 2:
            return
        for case in self.world.cases.values():
            if case.state and case.id not in self._found:
                self.complain(case.id, f"its result was {case.state} {case.token}, and is gone at look {self._look}")


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
