"""What is acknowledged reaches an end, what runs was sent, and whoever sends hears of it in time."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from chaos.invariants.world import Case, Invariant

if TYPE_CHECKING:
    from chaos.history import Event
    from chaos.invariants.world import World

_SLACK_S = 0.5
"""What a publish may take beyond its timeout."""


class D1(Invariant):
    """Every acknowledged task reaches a final state, and nothing is left in a queue."""

    key = "D1"

    def on_depth(self, event: Event) -> None:
        left = {name: event.value.get(name, 0) for name in ("ready", "delayed", "held")}
        self.checked += 1
        if any(left.values()):
            self.complain(event.what, f"queue {event.what} was drained, and still holds {left}")

    def close(self) -> None:
        if any(fault.blame.loses for fault in self.world.faults):
            return
        for case in self.world.cases.values():
            if not case.is_owed:
                continue
            self.checked += 1
            if not self._has_ended(case):
                began = len(case.runs)
                self.complain(
                    case.id,
                    f"{case.what} was acknowledged and is lost: no result, no dead letter, "
                    + (f"{began} starts that never ended" if began else "never started"),
                )
            elif case.state == "FAILURE" and not (case.may_fail or case.dead is not None):
                self.complain(case.id, f"{case.what} ended with FAILURE, and nothing of it was meant to fail")
            elif case.state == "SUCCESS" and case.facts.get("ends") == "failure":
                self.complain(case.id, f"{case.what} ended with SUCCESS, and was meant to fail")
            elif case.state == "REVOKED" and not (
                case.is_revoking or "expires" in case.facts or case.facts.get("ends") == "any"
            ):
                self.complain(case.id, f"{case.what} ended as REVOKED, and nobody revoked it")

    @staticmethod
    def _has_ended(case: Case) -> bool:
        # An end without a result is S2's.
        return (
            bool(case.state) or case.dead is not None or case.revoked < inf or any(run.ended < inf for run in case.runs)
        )


class D2(Invariant):
    """Nothing runs that was not sent."""

    key = "D2"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._ticks: set[str] = set()

    def on_tick(self, event: Event) -> None:
        if event.type == "info":
            self._ticks.add(event.value)

    def close(self) -> None:
        for case in self.world.cases.values():
            if not case.runs:
                continue
            self.checked += 1
            if not case.asked and case.id not in self._ticks:
                self.complain(case.id, f"{case.what} ran, and nobody sent it")


class M2(Invariant):
    """No publish blocks beyond its timeout, and none stays without an answer."""

    key = "M2"

    def on_enqueue(self, event: Event) -> None:
        if event.type == "invoke":
            return
        self.checked += 1
        most_s = self.terms.timeout_s + _SLACK_S
        if event.at > most_s and not self._was_stopped(event.p, event.t - event.at):
            self.complain(
                event.id,
                f"a publish of {event.p} took {event.at:.2f} s; its timeout is {self.terms.timeout_s:g} s, "
                f"so {most_s:g} s is the most",
            )

    def close(self) -> None:
        for case in self.world.cases.values():
            if not case.open_by or "follows" in case.facts:
                continue
            self.checked += 1
            if not self._was_stopped(case.open_by, case.invoked):
                self.complain(case.id, f"{case.open_by} never heard what became of its publish, and was not killed")

    def _was_stopped(self, p: str, since: float) -> bool:
        return self.world.troubled(since, int(p.rpartition(":")[2])) is not None
