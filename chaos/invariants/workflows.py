"""Bodies of chords, ends of chains, and what is called when they fail."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from chaos.invariants.world import Invariant

if TYPE_CHECKING:
    from chaos.history import Event
    from chaos.invariants.world import World


class _Endings(Invariant):
    """Which tasks have begun as the body or the errback of which workflow.

    The same task that starts again after a fault is one: whether it may is the leases' affair.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.flows: dict[str, Event] = {}
        self.seen: dict[str, dict[str, set[str]]] = {}
        """By workflow: `body` or `errback`, ids of tasks."""

    def on_flow(self, event: Event) -> None:
        self.flows[event.id] = event

    def on_body(self, event: Event) -> None:
        self._note(event)

    def on_errback(self, event: Event) -> None:
        self._note(event)

    def _note(self, event: Event) -> None:
        run = self.world.live.get(event.token)
        tasks = self.seen.setdefault(event.id, {}).setdefault(event.f, set())
        tasks.add(run.case.id if run is not None else event.token)

    def is_sent(self, flow: Event) -> bool:
        return all(self.world.case(one).acked < inf for one in flow.value)

    def count(self, flow: Event, kind: str, least: int, most: int) -> None:
        tasks = self.seen.get(flow.id, {}).get(kind, set())
        if len(tasks) > most or (len(tasks) < least and self.is_sent(flow)):
            wanted = f"{least}" if least == most else f"{least} to {most}"
            self.complain(
                flow.id,
                f"{len(tasks)} different tasks have begun as {kind} of this workflow, and {wanted} should have",
                ids=(*sorted(tasks)[:5], *flow.value[:20]),
            )


class W1(_Endings):
    """Every body starts once, after all that it waits for, with each of their results once."""

    key = "W1"

    def on_body(self, event: Event) -> None:
        super().on_body(event)
        self.checked += 1
        flow = self.flows.get(event.id)
        if flow is None:
            self.complain(event.id, "a body begins of a workflow that nobody sent")
            return
        header, tokens = flow.value, event.value
        if not isinstance(tokens, list) or len(tokens) != len(header):
            self.complain(event.id, f"its body should be handed {len(header)} results, and has {tokens!r:.200}")
            return
        for member, token in zip(header, tokens, strict=True):
            run = next((run for run in self.world.case(member).runs if run.token == token), None)
            if run is None:
                says = f"its body should be handed the result of {member}, and has {token!r:.60}, which is none of it"
            elif run.ended > event.t:
                says = f"its body has the result of run {token} of {member}, which has not ended"
            else:
                continue
            self.complain(event.id, says, ids=(member,))

    def close(self) -> None:
        for flow in self.flows.values():
            self.checked += 1
            self.count(flow, "body", flow.what == "body", flow.what != "errback")


class W2(_Endings):
    """The errback of a workflow that fails is called once, that of one that does not never, and one of both comes."""

    key = "W2"

    def close(self) -> None:
        for flow in self.flows.values():
            self.checked += 1
            self.count(flow, "errback", flow.what == "errback", flow.what != "body")
            if flow.what == "either" and self.is_sent(flow):
                seen = self.seen.get(flow.id, {})
                if len(seen) != 1:
                    both = " and ".join(sorted(seen)) or "nothing"
                    self.complain(
                        flow.id, f"its body or its errback should have begun, and {both} did", ids=tuple(flow.value)
                    )
