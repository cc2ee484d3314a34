"""Poison ends among the dead letters and takes nobody along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.invariants.world import Invariant

if TYPE_CHECKING:
    from chaos.history import Event


class P1(Invariant):
    """The dead letters are what is poison, each with its reason, after at most `max_deliveries` starts."""

    key = "P1"

    def on_dead(self, event: Event) -> None:
        self.checked += 1
        case = self.world.cases[event.id]
        if not event.what.strip():
            self.complain(event.id, f"{case.what} is among the dead letters without a reason")
        if not case.may_fail:
            self.complain(event.id, f"{case.what or 'what nobody sent'} is among the dead letters: {event.what}")

    def close(self) -> None:
        for case in self.world.cases.values():
            if not case.is_poison or case.acked > self.world.now:
                continue
            self.checked += 1
            if self.terms.expected_dead and case.dead is None:
                self.complain(case.id, f"{case.what} should be among the dead letters, and is not")
            most = self.terms.max_deliveries
            if len(case.runs) > most:
                self.complain(case.id, f"{case.what} started {len(case.runs)} times; {most} are the most")


class P2(Invariant):
    """Neighbours of poison finish."""

    key = "P2"

    def close(self) -> None:
        cases = self.world.cases.values()
        if not any(case.is_poison and case.acked <= self.world.now for case in cases):
            return
        for case in cases:
            if not case.is_owed or case.may_fail or case.is_revoking:
                continue
            self.checked += 1
            if self.terms.stores_results and case.state not in (
                "SUCCESS",
                "REVOKED" if "expires" in case.facts else "",
            ):
                self.complain(case.id, f"{case.what} lay beside poison and ended as {case.state or 'nothing'}")


class X1(Invariant):
    """Nothing that is sent ends a worker, or breaks something inside of it."""

    key = "X1"

    def on_start(self, event: Event) -> None:
        if event.what.startswith("poison"):
            self.checked += 1

    def on_gone(self, event: Event) -> None:
        self.checked += 1
        self.complain(event.id, f"{event.id} ended, and nobody had ended it: {event.what}")

    def on_log(self, event: Event) -> None:
        self.checked += 1
        self.complain(event.id, f"{event.id} logged what it must not, whatever happens to it: {event.what}")
