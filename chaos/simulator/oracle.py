"""Holds a world against the invariants.

It knows more than a history shows: when a run's outcome was taken by the servers, so that a second run is explained by
no more than it should be. All else is left to the campaign's checker, which is asked as well.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import msgspec

from chaos.checker import judge
from chaos.history import Blame
from chaos.simulator.application import LEASE_S, MOST_RETRIES, REAP_S
from chaos.verdict import Terms, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.history import Event
    from chaos.simulator.world import Run, World

_SKIP: Final = ("L1", "L2", "L3", "L4", "D3", "D4", "G2", "M2")
"""Of the checker's: what runs twice is known better here, and how long things take is drawn."""
_AT_ONCE_S: Final = 0.001
"""Between a worker's last look whether a task is revoked and its first line."""
_FINAL: Final = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
_TOKENS: Final = frozenset({"member", "work", "awork", "once", "once_def", "retrying", "body"})
"""They return the token of their run."""


class _Window(msgspec.Struct):
    begin: float
    end: float
    blame: Blame


def examine(world: World) -> list[Violation]:
    """What is wrong; nothing in a sound world."""
    terms = Terms(
        scenario="simulator",
        title="the workers' code on a virtual clock",
        engine="model",
        seed=world.seed,
        lease_s=LEASE_S,
        reap_s=REAP_S,
        keeps_doubles=not world.app.fused,
        skip=_SKIP,
    )
    _, complaints, _ = judge(world.events, terms)
    found = [
        *_Oracle(world).all(),
        *((one.invariant, one.id, one.says) for one in complaints),
    ]
    return [
        Violation(invariant=invariant, id=task_id, says=says, history=_history(world, task_id))
        for invariant, task_id, says in found
    ]


def _history(world: World, task_id: str) -> tuple[Event, ...]:
    return tuple(event for event in world.events if event.id == task_id or event.f == "fault")


class _Oracle:
    def __init__(self, world: World) -> None:
        self._world = world
        self._is_apart = not world.app.fused
        self._windows: dict[str, _Window] = {}
        self._starts: defaultdict[str, list[Event]] = defaultdict(list)
        self._ends: dict[str, Event] = {}
        self._answers: defaultdict[str, set[str]] = defaultdict(set)
        self._asked: dict[str, float] = {}
        self._flows: defaultdict[str, dict[str, list[Event]]] = defaultdict(lambda: {"body": [], "errback": []})
        self._ticks: defaultdict[str, defaultdict[float, list[Event]]] = defaultdict(lambda: defaultdict(list))
        self._results: dict[str, Event] = {}
        self._dead: set[str] = set()
        self._revoked: dict[str, float] = {}
        for event in world.events:
            self._take(event)

    def _take(self, event: Event) -> None:
        f, task_id = event.f, event.id
        if f == "start":
            self._starts[task_id].append(event)
        elif f == "end":
            self._ends[event.token] = event
        elif f == "enqueue":
            if event.type == "invoke":
                self._asked.setdefault(task_id, event.t)
            else:
                self._answers[task_id].add(event.type)
        elif f == "fault" and event.type == "invoke":
            blame = msgspec.convert(event.value, Blame)
            self._windows[task_id] = _Window(event.t, float("inf"), blame)
        elif f == "fault" and task_id in self._windows:
            self._windows[task_id].end = event.t
        elif f in ("body", "errback"):
            self._flows[task_id][f].append(event)
        elif f == "tick" and event.type == "info":
            self._ticks[task_id][event.at].append(event)
        elif f == "result":
            self._results[task_id] = event
        elif f == "dead":
            self._dead.add(task_id)
        elif f == "revoke" and event.type == "ok":
            self._revoked.setdefault(task_id, event.t)

    def all(self) -> Iterator[tuple[str, str, str]]:
        for trouble in self._world.troubles:
            yield "X1", "", f"a process met what it does not expect: {trouble}"
        if self._world.queues.entries:
            left = sorted(self._world.queues.entries)
            yield "D1", left[0], f"{len(left)} messages are left in the queues at the end: {left[:5]}"
        for task_id in self._world.stale:
            yield "L3", task_id, "a settlement was taken of an incarnation that had lost its lease"
        yield from self._ended()
        yield from self._ran()
        yield from self._flowed()
        yield from self._ticked()

    def _ended(self) -> Iterator[tuple[str, str, str]]:
        for task_id, answers in self._answers.items():
            result = self._results.get(task_id)
            is_final = task_id in self._dead or (result is not None and result.what in _FINAL)
            if "ok" in answers and not is_final and "follows" not in self._world.sent[task_id]:
                found = "nothing" if result is None else result.what
                yield "D1", task_id, f"it was acknowledged, and at the end {found} is stored"
            if result is None or result.what not in _FINAL:
                continue
            sent = self._world.sent[task_id]
            ended = self._ends.get(result.token)
            if result.what == "SUCCESS" and sent["task"] in _TOKENS and (ended is None or ended.id != task_id):
                yield "S1", task_id, f"the stored result names run {result.token!r}, which has not ended"
            if result.what == "SUCCESS" and not self._starts.get(task_id):
                yield "S1", task_id, "a success is stored of what has never run"
            may_fail = sent.get("fails") or sent["task"].startswith("once") or "flow" in sent
            if result.what == "FAILURE" and not may_fail:
                yield "D1", task_id, "it failed, and it does not fail"
            if result.what == "REVOKED" and task_id[0] != "r":
                yield "V1", task_id, "nobody has revoked it"

    def _ran(self) -> Iterator[tuple[str, str, str]]:
        runs = self._world.runs
        for task_id, starts in self._starts.items():
            what = starts[0].what
            asked = self._asked.get(task_id)
            if what != "ticked" and (asked is None or starts[0].t < asked):
                yield "D2", task_id, "it ran, and nobody had sent it"
            if what.startswith("once") and len(starts) > 1:
                yield "L2", task_id, f"it may run once and ran {len(starts)} times"
            due = self._world.sent.get(task_id, {}).get("due")
            if due is not None and starts[0].t < due - 0.002:
                yield "E1", task_id, f"it started {due - starts[0].t:.3f} s before it was due"
            revoked = self._revoked.get(task_id)
            if revoked is not None and (late := [one for one in starts if one.t > revoked + _AT_ONCE_S]):
                yield "V1", task_id, f"it started {late[0].t - revoked:.4f} s after its revoking was acknowledged"
            if max(start.n for start in starts) > MOST_RETRIES:
                yield "R1", task_id, f"it was retried {max(start.n for start in starts)} times"
            seen: dict[int, Event] = {}
            for start in starts:
                first = seen.get(start.n)
                if first is not None and not self._explains(runs[first.token], runs[start.token]):
                    yield "L2", task_id, f"run {start.token} repeats {first.token}, and no fault explains that"
                seen[start.n] = start
            for n in seen:
                if n and n - 1 not in seen:
                    yield "R1", task_id, f"retry {n} ran, and {n - 1} did not"

    def _explains(self, first: Run, second: Run) -> bool:
        """Whether a fault covers a run that was repeated."""
        again = second.started
        until = again if first.committed is None else min(first.committed, again)
        for window in self._windows.values():
            blame = window.blame
            if blame.cuts and first.proc.pid in blame.pids:
                if window.begin <= until and window.end + LEASE_S >= first.started:
                    return True
            elif first.proc.pid in blame.pids and first.started <= window.begin <= until:
                return True
            # a worker that cannot reach a result store of its own does not know what has ended before
            if blame.cuts and second.proc.pid in blame.pids and window.begin <= again <= window.end and self._is_apart:
                return True
        return False

    def _flowed(self) -> Iterator[tuple[str, str, str]]:
        flows: dict[str, dict[str, Any]] = {}
        for task_id, sent in self._world.sent.items():
            if "count" in sent and "ok" in self._answers[task_id]:
                flows[sent["flow"]] = sent
        for flow, seen in self._flows.items():
            for kind, events in seen.items():
                ran = {self._world.runs[event.token].id for event in events}
                if len(ran) > 1:
                    yield "W1", flow, f"its {kind} was called {len(ran)} times: {sorted(ran)}"
        for flow, sent in flows.items():
            bodies, errbacks = self._flows[flow]["body"], self._flows[flow]["errback"]
            want = list(range(sent["count"]))
            for body in bodies:
                given = [self._ends[token].id if token in self._ends else token for token in body.value]
                if given != [f"{flow}-m{number}" for number in want]:
                    yield "W1", flow, f"its body was given the results of {given}"
            is_dead = any(f"{flow}-m{number}" in self._dead for number in want)
            if sent["fails"] or is_dead:
                if bodies:
                    yield "W2", flow, "its body ran, and a member had failed"
                if not errbacks:
                    yield "W2", flow, "a member failed, and its errback was not called"
            elif not bodies:
                yield "W1", flow, "its body never ran"

    def _ticked(self) -> Iterator[tuple[str, str, str]]:
        for entry, instants in self._ticks.items():
            for instant, events in instants.items():
                ran = {self._world.runs[event.token].id for event in events}
                if len(ran) > 1:
                    yield "B1", entry, f"{instant:.0f} was sent {len(ran)} times"
        for entry, mark in self._world.schedules._table.marks.items():
            ran_count = len(self._ticks[entry])
            if mark.runs != ran_count:
                yield "B1", entry, f"{mark.runs} ticks were sent and {ran_count} have run"
