"""What is called off."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from chaos.invariants.world import Invariant

if TYPE_CHECKING:
    from chaos.history import Event
    from chaos.invariants.world import World

_AT_ONCE_S = 0.1
"""Between a worker's last look whether a task is revoked and the first line of its body, on a machine that is full."""
_ENDS_S = 1.0


class V1(Invariant):
    """What is revoked, and its revoker was told so, does not start any more."""

    key = "V1"

    def on_revoke(self, event: Event) -> None:
        if event.type == "ok":
            self.checked += 1

    def on_start(self, event: Event) -> None:
        case = self.world.cases[event.id]
        if event.t > case.revoked + _AT_ONCE_S:
            self.complain(
                event.id,
                f"{case.what} starts at {event.t:.3f} in {event.p}; that it is revoked was acknowledged at "
                f"{case.revoked:.3f}",
                since=case.revoked,
            )


class V2(Invariant):
    """A running task that is terminated stops within a second, and its result says so.

    Or within a second of when its worker has to be back after a cut, if that is later.
    """

    key = "V2"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._terminated: dict[str, float] = {}

    def on_revoke(self, event: Event) -> None:
        runs = self.world.cases[event.id].runs
        if event.type == "ok" and (event.value or {}).get("terminate") and runs and runs[-1].ended == inf:
            self._terminated[event.id] = event.t

    def on_end(self, event: Event) -> None:
        since = self._terminated.pop(event.id, None)
        if since is None:
            return
        self.checked += 1
        back = max((fault.ended + self.terms.back_s for fault in self.world.faults if fault.blame.cuts), default=since)
        if event.t - max(since, back) > _ENDS_S:
            self.complain(event.id, f"it was terminated at {since:.3f} and ran until {event.t:.3f}", since=since)

    def close(self) -> None:
        for task_id in self._terminated:
            self.checked += 1
            case = self.world.cases[task_id]
            if self.terms.stores_results and case.looked and case.state != "REVOKED":
                self.complain(task_id, f"it was terminated while it ran, and its result is {case.state or 'none'}")
