"""Not too early, not too late, not too often."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from chaos.invariants.world import STRICT_S, Invariant

if TYPE_CHECKING:
    from chaos.history import Event
    from chaos.invariants.world import World

_LATE_S = 0.25
"""Between the look whether a task has expired and the first line of its body, on a machine that is full."""


class E1(Invariant):
    """Nothing starts before it is due. How late it starts is a figure: with a full machine it depends on the load."""

    key = "E1"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._late: list[float] = []

    def on_start(self, event: Event) -> None:
        case = self.world.cases[event.id]
        due = event.at or case.facts.get("due")
        if due is None:
            return
        self.checked += 1
        if event.t < due - STRICT_S:
            self.complain(event.id, f"{case.what} is due at {due:.3f} and starts at {event.t:.3f}")
        elif len(case.runs) == 1 and not self.world.troubled(due):
            self._late.append(event.t - due)

    def close(self) -> None:
        if self._late:
            late = sorted(self._late)
            self.world.figures["late p99 s"] = round(late[int(0.99 * (len(late) - 1))], 3)


class E2(Invariant):
    """What has expired does not start."""

    key = "E2"

    def on_start(self, event: Event) -> None:
        case = self.world.cases[event.id]
        expires = case.facts.get("expires")
        if expires is None:
            return
        self.checked += 1
        if event.t > expires + _LATE_S:
            self.complain(event.id, f"{case.what} expires at {expires:.3f} and starts at {event.t:.3f}")


class R1(Invariant):
    """Attempts come one after another: each after its delay, none beyond the most."""

    key = "R1"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._next: dict[tuple[str, int], float] = {}
        """By id and number: not before."""

    def on_end(self, event: Event) -> None:
        if event.at:
            number = (event.id, event.n + 1)
            self._next[number] = min(event.at, self._next.get(number, inf))

    def on_start(self, event: Event) -> None:
        case = self.world.cases[event.id]
        most = case.facts.get("max_retries")
        if event.n == 0 and most is None:
            return
        self.checked += 1
        if most is not None and event.n > most:
            self.complain(event.id, f"{case.what} starts with attempt {event.n}; {most} retries are the most")
        if event.n == 0:
            return
        before = [run for run in case.runs if run.n == event.n - 1 and run.ended < inf]
        if not before:
            self.complain(event.id, f"attempt {event.n} of {case.what} starts, and attempt {event.n - 1} has not ended")
            return
        due = self._next.get((event.id, event.n))
        if due is not None and event.t < due - STRICT_S:
            self.complain(
                event.id, f"attempt {event.n} of {case.what} may start at {due:.3f} and starts at {event.t:.3f}"
            )
