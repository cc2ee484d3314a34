"""What producers were told and what ran, and whether the two agree."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One start of a task; `ended` is None where its process did not live to write it."""

    id: str
    pid: int
    started: float
    ended: float | None


@dataclass
class History:
    """All that was asked for. Producers write it from their threads."""

    acknowledged: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    rejected: set[str] = field(default_factory=set)
    slowest_s: float = 0.0
    errors: list[BaseException] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, which: set[str], ids: Iterable[str], took_s: float) -> None:
        with self._lock:
            which.update(ids)
            self.slowest_s = max(self.slowest_s, took_s)


def read(path: Path) -> dict[str, list[Run]]:
    """The ledger as runs by id, in the order of their starts."""
    runs: dict[str, list[Run]] = defaultdict(list)
    if not path.exists():
        return runs
    whole, _, _ = path.read_text().rpartition("\n")  # a line that crosses a page is seen in two parts
    for line in whole.splitlines():
        event, task_id, pid, at = line.split()
        if event == "start":
            runs[task_id].append(Run(task_id, int(pid), float(at), None))
            continue
        mine = runs[task_id]
        index = next(i for i in range(len(mine) - 1, -1, -1) if mine[i].pid == int(pid) and mine[i].ended is None)
        mine[index] = Run(task_id, int(pid), mine[index].started, float(at))
    return runs


def check(
    history: History,
    runs: dict[str, list[Run]],
    *,
    killed: Iterable[int] = (),
    cut_off: Iterable[tuple[float, float]] = (),
    lossy: bool = False,
    twice: Iterable[str] = (),
) -> int:
    """Nothing acknowledged is lost, nothing refused ran, and each second run is explained.

    Args:
        history: What producers know.
        runs: The ledger.
        killed: Processes that were ended by force, or stopped for longer than a lease: what they ran runs again.
        cut_off: Spans in which workers could not reach the server for a lease or longer, or in which it lost what it
            had been told: a task that ran or ended in one may run again.
        lossy: Whether the server lost data, so that what was acknowledged may be gone.
        twice: Ids that were published again, where an engine keeps both.

    Returns:
        How many ran more than once.
    """
    assert not history.errors, history.errors
    ran = {task_id for task_id, mine in runs.items() if any(run.ended is not None for run in mine)}
    if not lossy:
        lost = history.acknowledged - ran
        assert not lost, f"{len(lost)} acknowledged tasks never ran: {sorted(lost)[:5]}"
    refused = history.rejected & set(runs)
    assert not refused, f"{len(refused)} tasks ran though their producers were told that they never will"
    unasked = set(runs) - history.acknowledged - history.unknown
    assert not unasked, f"{len(unasked)} tasks ran that nobody sent: {sorted(unasked)[:5]}"
    dead, spans, again = set(killed), list(cut_off), set(twice)
    doubles = 0
    for mine in runs.values():
        doubles += len(mine) > 1
        for run, following in pairwise(mine):
            is_explained = (
                run.pid in dead
                or run.id in again
                or any(
                    run.started <= end and (run.ended is None or run.ended >= begin) and following.started >= begin
                    for begin, end in spans
                )
            )
            assert is_explained, f"a second run that nothing explains: {run}, then {following}; spans {spans}"
    return doubles
