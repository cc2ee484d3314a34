"""Processes: how much they take, how they leave and how they come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.invariants.world import SETTLE_S, Invariant

if TYPE_CHECKING:
    from chaos.history import Event
    from chaos.invariants.world import World

_GROWTH_KIB = 50 * 1024
_GROWTH = 10
"""Of descriptors and connections."""
WARM_S = 5.0
"""A process that has begun so recently still grows into what it needs."""
_LEAVES = ("leave", "reload")
_EXIT_S = 2.0
"""What leaving may take beyond the grace."""
_IMPORT_S = 20.0
"""A reload imports the application before it tells anybody to leave: on a busy machine that takes a while."""


class M1(Invariant):
    """No process grows by 50 MB, or by ten descriptors or connections, once it is warm."""

    key = "M1"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._warm: dict[str, float] = {}
        """When a process will be: some time after it was seen first, and after its worker has begun a task."""
        self._working: set[str] = set()
        """Names of workers that have."""
        self._first: dict[tuple[str, str], float] = {}
        """The most that a process held until it was warm."""
        self._told: set[tuple[str, str]] = set()
        self._most: dict[str, float] = {}

    def on_start(self, event: Event) -> None:
        self._working.add(event.p.partition(":")[0])

    def on_sample(self, event: Event) -> None:
        if event.id.partition(":")[0] not in self._working:
            return
        is_warm = event.t >= self._warm.setdefault(event.id, event.t + WARM_S)
        self.checked += is_warm
        for what, value in event.value.items():
            name = (event.id, what)
            if not is_warm:
                self._first[name] = max(value, self._first.get(name, value))
                continue
            growth = value - self._first.setdefault(name, value)
            self._most[what] = max(growth, self._most.get(what, 0.0))
            bound = _GROWTH_KIB if what == "rss_kib" else _GROWTH
            if growth > bound and name not in self._told:
                self._told.add(name)
                self.complain(event.id, f"{what} of {event.id} grew by {growth:g} to {value:g}; {bound} is the most")

    def close(self) -> None:
        for what, growth in self._most.items():
            self.world.figures[f"growth of {what}"] = growth


class G1(Invariant):
    """Who is told to leave does, in time, and nothing that it ran is lost or runs again."""

    key = "G1"

    def on_fault(self, event: Event) -> None:
        if event.type != "ok" or event.what not in _LEAVES:
            return
        self.checked += 1
        fault = next(one for one in reversed(self.world.faults) if one.number == event.id)
        took_s, most_s = fault.ended - fault.began, self.terms.grace_s + _EXIT_S
        if event.what == "reload":
            most_s += _IMPORT_S
        if took_s > most_s:
            self.complain(event.id, f"to {event.what} took {took_s:.2f} s; {most_s:g} s is the most", since=fault.began)

    def on_start(self, event: Event) -> None:
        before = self.world.previous
        if before is None or self.world.is_explained:
            return
        for fault in self.world.faults:
            if fault.kind in _LEAVES and before.began <= fault.ended and fault.began <= before.ended + SETTLE_S:
                self.complain(event.id, f"it runs again after {before.p}; a worker was told to {fault.kind} then")
                return


class G2(Invariant):
    """After a fault is over, everybody works again by himself and soon."""

    key = "G2"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.slowest_s: float | None = None

    def on_back(self, event: Event) -> None:
        self.checked += 1
        self.slowest_s = max(event.at, self.slowest_s or 0.0)
        if event.at > self.terms.back_s:
            self.complain(
                event.id,
                f"{event.at:.2f} s after fault {event.id} was over somebody consumed again; "
                f"{self.terms.back_s:g} s is the most",
            )


class X2(Invariant):
    """Who only watches, a monitor or a dashboard, can go away without harm: what was sent meanwhile has its result."""

    key = "X2"

    def close(self) -> None:
        faults = [fault for fault in self.world.faults if fault.kind.startswith(("monitor", "dashboard", "events"))]
        if not faults or not self.terms.stores_results:
            return
        for case in self.world.cases.values():
            if case.is_owed and any(fault.began <= case.acked <= fault.ended for fault in faults):
                self.checked += 1
                if case.state != "SUCCESS" and not case.is_revoking and not case.may_fail:
                    self.complain(
                        case.id, f"it was sent while a monitor was away, and ended as {case.state or 'nothing'}"
                    )
