"""What runs by the calendar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chaos.invariants.world import Invariant

if TYPE_CHECKING:
    from chaos.history import Event
    from chaos.invariants.world import World

_SAME_S = 1e-3
"""Instants of one entry that are so near are one."""


class B1(Invariant):
    """Each instant of an entry that a beat lives through is enqueued once."""

    key = "B1"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.ticks: dict[str, dict[int, str]] = {}
        """By entry and instant: the task's id."""
        self.entries: dict[str, dict[str, Any]] = {}

    def on_entry(self, event: Event) -> None:
        self.entries[event.id] = {**self.entries.get(event.id, {}), **event.value}

    def on_tick(self, event: Event) -> None:
        run = self.world.live.get(event.token)
        task = run.case.id if run is not None else event.token
        first = self.ticks.setdefault(event.id, {}).setdefault(round(event.at / _SAME_S), task)
        self.checked += 1
        if first != task:
            self.complain(
                event.id,
                f"the tick of {event.id} at {event.at:.3f} was enqueued twice, as {first} and as {task}",
                ids=(first, task),
            )

    def close(self) -> None:
        for name, entry in self.entries.items():
            if "every" not in entry:
                continue
            down = entry.get("down")
            for instant in _instants(entry):
                if down and down[0] <= instant <= down[1]:
                    continue
                self.checked += 1
                if round(instant / _SAME_S) not in self.ticks.get(name, {}):
                    self.complain(name, f"the tick of {name} at {instant:.3f} never ran")


class B2(B1):
    """What was due while no beat lived follows the policy of the entry: none of it, one, or all."""

    key = "B2"

    def on_tick(self, event: Event) -> None:
        self.ticks.setdefault(event.id, {})[round(event.at / _SAME_S)] = ""

    def close(self) -> None:
        for name, entry in self.entries.items():
            down = entry.get("down")
            if not down:
                continue
            self.checked += 1
            due = [instant for instant in _instants(entry) if down[0] <= instant <= down[1]]
            ran = [instant for instant in due if round(instant / _SAME_S) in self.ticks.get(name, {})]
            policy = entry.get("policy", "all")
            wanted = {"all": len(due), "one": min(1, len(due)), "skip": 0}[policy]
            if len(ran) != wanted:
                self.complain(
                    name,
                    f"{len(due)} ticks of {name} were due without a beat, and its policy is {policy!r}: "
                    f"{wanted} should have run, and {len(ran)} have",
                )


def _instants(entry: dict[str, Any]) -> list[float]:
    count = int((entry["last"] - entry["first"]) / entry["every"] + _SAME_S) + 1
    return [entry["first"] + number * entry["every"] for number in range(count)]
