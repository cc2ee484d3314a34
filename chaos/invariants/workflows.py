"""Bodies of chords, ends of chains, and what is called when they fail."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from chaos.invariants.world import Case, Invariant

if TYPE_CHECKING:
    from chaos.history import Event
    from chaos.invariants.world import World


class _Once(Invariant):
    """Counts, for each workflow, how many different tasks have started what must start so and so often.

    The same task that starts again after a fault is one: whether it may is the leases' affair.
    """

    fact = ""
    default = 0
    name = ""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._seen: dict[str, set[str]] = {}

    def note(self, event: Event) -> None:
        run = self.world.live.get(event.token)
        self._seen.setdefault(event.id, set()).add(run.case.id if run is not None else event.token)

    def close(self) -> None:
        for case in self.world.cases.values():
            if not case.is_workflow:
                continue
            wanted = case.facts.get(
                self.fact, 0 if self.fact == "bodies" and case.facts.get("errbacks") else self.default
            )
            seen = self._seen.get(case.id, set())
            self.checked += 1
            if len(seen) > wanted or (case.acked < inf and len(seen) < wanted):
                self.complain(
                    case.id,
                    f"{len(seen)} {self.name} of workflow {case.what} have started, and {wanted} should have",
                    ids=tuple(sorted(seen)[:5]),
                )


class W1(_Once):
    """Every body starts once, after all that it waits for, with each of their results once."""

    key = "W1"
    fact, default, name = "bodies", 1, "bodies"

    def on_body(self, event: Event) -> None:
        self.note(event)
        case = self.world.case(event.id)
        members = case.facts.get("members")
        value = event.value
        if members is None:
            return
        self.checked += 1
        if not isinstance(value, list) or len(value) != members:
            self._wrong(case, event, f"should be handed {members} results and has {value!r:.100}")
        elif len(set(map(str, value))) != len(value):
            self._wrong(case, event, f"is handed a result twice: {value!r:.200}")
        elif unfinished := [one for one in value if isinstance(one, str) and one in self.world.live]:
            self._wrong(case, event, f"has the result of run {unfinished[0]}, which has not ended")

    def _wrong(self, case: Case, event: Event, says: str) -> None:
        run: Any = self.world.live.get(event.token)
        self.complain(event.id, f"the body of {case.what} {says}", ids=(run.case.id,) if run else ())


class W2(_Once):
    """The errback of a workflow that failed is called once, that of one that did not never."""

    key = "W2"
    fact, default, name = "errbacks", 0, "errbacks"

    def on_errback(self, event: Event) -> None:
        self.note(event)
