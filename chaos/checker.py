"""Holds a history against the invariants, in one pass. `python -m chaos.checker FOLDER` shows what it says.

It knows what is in the folder and nothing else: the history, and in `terms.json` what was agreed for the run.
"""

from __future__ import annotations

import sys
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from chaos.history import Event, read
from chaos.invariants import ALL
from chaos.invariants.leases import L4
from chaos.invariants.resources import G2
from chaos.invariants.world import World
from chaos.verdict import Terms, Verdict, Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chaos.invariants.world import Complaint, Fault

MOST = 20
"""Violations of one invariant that are shown."""
_MOST_EVENTS = 200
"""Of one violation."""


def check(folder: Path) -> Verdict:
    """Read the history in `folder`, with its `terms.json`, and say what it shows.

    Raises:
        ValueError: A line of it is no event.
    """
    terms = msgspec.json.decode((folder / "terms.json").read_bytes(), type=Terms)
    verdict, complaints, faults = judge(read(folder), terms)
    if not complaints:
        return verdict
    return msgspec.structs.replace(verdict, violations=_with_histories(complaints, faults, read(folder), terms.seed))


def judge(events: Iterable[Event], terms: Terms) -> tuple[Verdict, list[Complaint], list[Fault]]:
    """The same of events, without the history of each violation."""
    world = World(terms, MOST)
    invariants = [one(world) for one in ALL if one.key not in terms.skip]
    handlers: dict[str, list[Callable[[Event], None]]] = {}
    for each in (world, *invariants):
        for name in dir(each):
            if name.startswith("on_"):
                handlers.setdefault(name[3:], []).append(getattr(each, name))
    nobody: list[Callable[[Event], None]] = []
    for event in events:
        world.now = event.t
        for handle in handlers.get(event.f, nobody):
            handle(event)
    for one in invariants:
        one.close()
    cases, counts = world.cases.values(), world.counts
    slowest = {type(one): one.slowest_s for one in invariants if isinstance(one, (L4, G2))}
    verdict = Verdict(
        tasks=sum(case.acked < inf or (not case.asked and bool(case.runs)) for case in cases),
        unknown=sum(bool(case.asked) and case.acked == inf and not case.is_refused for case in cases),
        runs=world.runs,
        faults=len(world.faults),
        lost=counts.get("D1", 0) + counts.get("S2", 0),
        unexpected=counts.get("D2", 0) + counts.get("D3", 0),
        explained=world.explained,
        unexplained=sum(counts.get(key, 0) for key in ("L1", "L2", "D4")),
        stale=counts.get("L3", 0) + counts.get("L5", 0),
        slowest_recovery_s=slowest.get(L4),
        slowest_back_s=slowest.get(G2),
        figures=world.figures,
        counts=counts,
        checked={one.key: one.checked for one in invariants},
        violations=tuple(Violation(invariant=one.invariant, id=one.id, says=one.says) for one in world.complaints),
    )
    return verdict, world.complaints, world.faults


def _with_histories(
    complaints: list[Complaint], faults: list[Fault], events: Iterable[Event], seed: int
) -> tuple[Violation, ...]:
    wanted: dict[str, list[Event]] = {each: [] for complaint in complaints for each in complaint.ids}
    of_faults: dict[str, list[Event]] = {}
    for event in events:
        if event.f == "fault":
            of_faults.setdefault(event.id, []).append(event)
        elif event.f != "back" and event.id in wanted:
            wanted[event.id].append(event)
    violations = []
    for complaint in complaints:
        own = [event for each in complaint.ids for event in wanted[each]]
        since = complaint.since
        if since < 0:
            since = min((event.t for event in own), default=0.0)
        near = [
            event
            for fault in faults
            if fault.began <= complaint.until and fault.ended >= since
            for event in of_faults.get(fault.number, [])
        ]
        shown = sorted([*own, *near], key=lambda event: event.t)[:_MOST_EVENTS]
        violations.append(
            Violation(
                invariant=complaint.invariant,
                id=complaint.id,
                says=f"{complaint.says} [seed {seed}]",
                history=tuple(shown),
            )
        )
    return tuple(violations)


def tell(verdict: Verdict, terms: Terms) -> str:
    """The verdict in words, with the history of each violation."""
    lines = [
        f"{terms.scenario} ({terms.title}) on {terms.engine}, seed {terms.seed}",
        f"{verdict.tasks} tasks, {verdict.unknown} of unknown outcome, {verdict.runs} runs, {verdict.faults} faults",
        f"lost {verdict.lost}, unexpected {verdict.unexpected}, stale {verdict.stale}",
        f"duplicates: {verdict.explained} explained, {verdict.unexplained} not",
        f"slowest recovery {_seconds(verdict.slowest_recovery_s)}, return {_seconds(verdict.slowest_back_s)}",
        "held against: " + ", ".join(f"{key} {count}" for key, count in verdict.checked.items() if count),
        "says nothing about: " + ", ".join(key for key, count in verdict.checked.items() if not count),
        *(f"{name}: {value:g}" for name, value in verdict.figures.items()),
        "broken: " + (", ".join(f"{key} {count} times" for key, count in verdict.counts.items()) or "nothing"),
    ]
    for one in verdict.violations:
        lines += ["", f"{one.invariant} {one.id}: {one.says}"]
        lines += [f"    {_line(event)}" for event in one.history]
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} s"


def _line(event: Event) -> str:
    words = [f"{event.t:12.3f}", f"{event.p:20}", f"{event.f} {event.type}"]
    words += [event.id] if event.f == "fault" else [f"n={event.n}"] if event.n else []
    words += [f"{name}={value}" for name in ("token", "what", "at", "value") if (value := getattr(event, name))]
    return "  ".join(words)


def main(folder: Path) -> int:
    verdict = check(folder)
    print(tell(verdict, msgspec.json.decode((folder / "terms.json").read_bytes(), type=Terms)))
    return 0 if verdict.is_clean else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
