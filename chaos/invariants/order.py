"""Who is first."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

from chaos.invariants.world import Case, Invariant

if TYPE_CHECKING:
    from chaos.history import Event
    from chaos.invariants.world import Run, World

_ROUND_S = 3.0
"""Beyond a poll: what a process has taken already and still runs, the longest body of the load included."""
_IN_HAND_S = 0.1
"""A task that has been claimed waits for nobody, and is started in this time; in another process that may be later."""


class O1(Invariant):
    """Tasks of a key with concurrency 1 run one at a time, in the order in which they were published."""

    key = "O1"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._waiting: dict[str, dict[str, Case]] = {}
        """By key: acknowledged, never started."""
        self._last: dict[str, Run] = {}

    def on_enqueue(self, event: Event) -> None:
        case = self.world.cases[event.id]
        key = case.facts.get("key")
        if key is not None and event.type == "ok" and not case.runs and "due" not in case.facts:
            self._waiting.setdefault(key, {})[event.id] = case

    def on_revoke(self, event: Event) -> None:
        case = self.world.cases[event.id]
        self._waiting.get(case.facts.get("key", ""), {}).pop(event.id, None)

    def on_start(self, event: Event) -> None:
        case = self.world.cases[event.id]
        key = case.facts.get("key")
        if key is None:
            return
        self.checked += 1
        last = self._last.get(key)
        if last is not None and last.ended == inf and last.case is not case and self.world.cause(last) is None:
            self.complain(
                event.id,
                f"it starts while {last.case.id} of the same key {key!r}, whose concurrency is 1, runs in {last.p}",
                ids=(last.case.id,),
                since=last.began,
            )
        self._last[key] = case.runs[-1]
        waiting = self._waiting.get(key, {})
        waiting.pop(event.id, None)
        if len(case.runs) > 1:
            return
        for other in waiting.values():
            if other.acked < case.invoked:
                self.complain(
                    event.id,
                    f"it starts before {other.id} of the same key {key!r}, which was acknowledged at "
                    f"{other.acked:.3f}, before this one was published at {case.invoked:.3f}",
                    ids=(other.id,),
                    since=other.acked,
                )
            return  # those after the first were published later still


class O2(Invariant):
    """No task of a lower priority starts while a higher one waits for more than a round of claims."""

    key = "O2"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._waiting: dict[tuple[str, int], dict[str, Case]] = {}
        """By queue and priority, oldest first: acknowledged, never started."""
        self._started: deque[tuple[Event, str, int]] = deque()
        """With queue and priority: not yet judged."""

    def on_enqueue(self, event: Event) -> None:
        case = self.world.cases[event.id]
        facts = case.facts
        if "priority" in facts and event.type == "ok" and not case.runs and "due" not in facts and "key" not in facts:
            self._waiting.setdefault((facts.get("queue", ""), facts["priority"]), {})[event.id] = case

    def on_revoke(self, event: Event) -> None:
        case = self.world.cases[event.id]
        if "priority" in case.facts:
            self._waiting.get((case.facts.get("queue", ""), case.facts["priority"]), {}).pop(event.id, None)

    def on_start(self, event: Event) -> None:
        self._judge(event.t - _IN_HAND_S)
        case = self.world.cases[event.id]
        if "priority" not in case.facts:
            return
        queue, priority = case.facts.get("queue", ""), case.facts["priority"]
        self._waiting.get((queue, priority), {}).pop(event.id, None)
        if len(case.runs) == 1:
            self._started.append((event, queue, priority))

    def close(self) -> None:
        self._judge(inf)

    def _judge(self, until: float) -> None:
        while self._started and self._started[0][0].t <= until:
            self.checked += 1
            event, queue, priority = self._started.popleft()
            for (where, higher), waiting in self._waiting.items():
                if where != queue or higher <= priority or not waiting:
                    continue
                other = next(iter(waiting.values()))
                waits_s = event.t - other.acked
                if waits_s > self.terms.poll_s + _ROUND_S and not self.world.troubled(other.acked):
                    self.complain(
                        event.id,
                        f"it starts with priority {priority}, and {other.id} with {higher} waits since {waits_s:.2f} s",
                        ids=(other.id,),
                        since=other.acked,
                    )
                    break
