"""One run at a time, one run in all, unless a fault that was recorded explains another one."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from chaos.invariants.world import SETTLE_S, Case, Invariant

if TYPE_CHECKING:
    from chaos.history import Event
    from chaos.invariants.world import Run, World


class L1(Invariant):
    """Nobody starts what somebody else runs, and has not lost."""

    key = "L1"

    def on_start(self, event: Event) -> None:
        self.checked += 1
        world = self.world
        case = world.cases[event.id]
        if len(case.runs) == 1 or case.is_doubled:
            return
        for before in case.runs[:-1]:
            if before.ended == inf and world.cause(before) is None:
                self.complain(
                    event.id,
                    f"{case.what} (attempt {event.n}) starts at {event.t:.3f} in {event.p} while {before.p}, which no "
                    f"fault concerns, runs attempt {before.n} since {before.began:.3f}",
                    since=before.began,
                )
                return


class L2(Invariant):
    """Every second run is explained. What was published more than once under its id is D4's."""

    key = "L2"

    def on_start(self, event: Event) -> None:
        world = self.world
        case = world.cases[event.id]
        if not self.concerns(case):
            return
        self.checked += 1
        before = world.previous
        if before is not None and before.ended < inf and not world.is_explained:
            self.complain(
                event.id,
                f"{case.what} (attempt {event.n}) starts again at {event.t:.3f} in {event.p}: it ran in {before.p} "
                f"from {before.began:.3f} to {before.ended:.3f}, and no fault concerns that{self.more(case)}",
                since=before.began,
            )

    def concerns(self, case: Case) -> bool:
        return case.asked <= 1

    def more(self, case: Case) -> str:
        return ""


class D4(L2):
    """What is published again under its id is still one task."""

    key = "D4"

    def concerns(self, case: Case) -> bool:
        return case.asked > 1

    def more(self, case: Case) -> str:
        return f"; it was published {case.asked} times under this id"


class D3(Invariant):
    """What was refused never runs; what has an unknown outcome runs once at most."""

    key = "D3"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._twice: set[str] = set()

    def on_start(self, event: Event) -> None:
        if self.world.cases[event.id].acked == inf and self.world.previous is not None and not self.world.is_explained:
            self._twice.add(event.id)

    def close(self) -> None:
        for case in self.world.cases.values():
            if not case.asked or case.acked < inf:
                continue
            self.checked += 1
            if case.is_refused and case.runs:
                self.complain(case.id, f"{case.what} was refused, for good as its producer was told, and it runs")
            elif case.id in self._twice:
                self.complain(case.id, f"{case.what} runs twice, and nobody ever told its producer that it is stored")


class L3(Invariant):
    """What a run under a lost lease brought about does not count: the result is the last run's."""

    key = "L3"

    def on_result(self, event: Event) -> None:
        case = self.world.cases[event.id]
        if event.what != "SUCCESS" or not event.token:
            return
        self.checked += 1
        run = next((run for run in case.runs if run.token == event.token), None)
        if run is None:
            self.complain(event.id, f"the result of {case.what} names run {event.token}, and there was no such run")
        elif run.ended == inf:
            self.complain(event.id, f"the result of {case.what} names run {event.token}, which never ended")
        else:
            other = self._overtaker(case, run)
            if other is not None:
                self.complain(
                    event.id,
                    f"the result of {case.what} is that of run {run.token} in {run.p}, which ended at {run.ended:.3f}; "
                    f"its lease was lost by {other.began:.3f}, when run {other.token} began in {other.p}",
                    since=run.began,
                )

    def _overtaker(self, case: Case, run: Run) -> Run | None:
        if self.terms.connection_lease or case.is_doubled:
            # The first result that is stored stays, whoever's it is.
            for other in case.runs:
                if other.n >= run.n and other.ended + SETTLE_S < run.ended and self.world.cause(other) is None:
                    return other
            return None
        last = next(other for other in reversed(case.runs) if other is run or not other.is_woken)
        return None if last is run else last


class L4(Invariant):
    """What a killed process ran is run again in time."""

    key = "L4"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.slowest_s: float | None = None

    def on_start(self, event: Event) -> None:
        before = self.world.previous
        fault = None if before is None or before.case.is_poison else self.world.cause(before)
        if fault is None or not fault.is_kill:
            return
        others = [one for one in self.world.faults if one is not fault and one.ended > fault.began]
        if any(one.blame.cuts for one in others):
            return
        self.checked += 1
        took_s = event.t - fault.began
        if took_s > self.terms.recovery_s and others:
            took_s = event.t - others[-1].began  # who was killed then may have had it
        self.slowest_s = max(took_s, self.slowest_s or 0.0)
        if took_s > self.terms.recovery_s:
            self.complain(
                event.id,
                f"its process was killed (fault {fault.number}), and it starts again after {took_s:.2f} s; "
                f"{self.terms.recovery_s:g} s is the most",
                since=fault.began,
            )


_DECIDED_S = 0.05
"""What a thread has decided to start when the lease is found to be lost begins so much later at most."""


class L5(Invariant):
    """Whoever knows that a lease is lost starts nothing under it."""

    key = "L5"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._fenced: dict[str, float] = {}

    def on_fenced(self, event: Event) -> None:
        self.checked += 1
        self._fenced[event.id] = event.t

    def on_start(self, event: Event) -> None:
        since = self._fenced.get(event.value) if self._fenced and event.value else None
        if since is not None and event.t > since + _DECIDED_S:
            self.complain(
                event.id,
                f"{event.p} starts it at {event.t:.3f} under incarnation {event.value}, and knows since {since:.3f} "
                "that this has lost its lease",
                since=since,
            )
