"""What all invariants share: what is known of each task, each run and each fault at this point of the history."""

from __future__ import annotations

import sys
from math import inf
from typing import TYPE_CHECKING, Any, Final

import msgspec

from chaos.history import Blame

if TYPE_CHECKING:
    from chaos.history import Event
    from chaos.verdict import Terms

FINAL: Final = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
SETTLE_S: Final = 1.0
"""A run that has ended is settled within so long: workers wait milliseconds, a busy machine a little more."""
CLOSED_S: Final = 0.2
"""After a cut is over, both sides know within so long that a connection is lost: what was swallowed is missing."""
_WAKES_S: Final = 0.05
"""What a process was about to begin when it was stopped, it begins so soon after it goes on."""
STRICT_S: Final = 0.01
"""Two processes' lines may be so far from what they speak of."""
_NOTHING: Final[dict[str, Any]] = {}


class Run:
    """One start of a task's body."""

    __slots__ = ("began", "case", "ended", "is_woken", "n", "p", "pid", "token")

    def __init__(self, case: Case, event: Event) -> None:
        self.case = case
        self.began = event.t
        self.ended = inf
        self.n = event.n
        self.p = sys.intern(event.p)
        self.pid = int(event.p.rpartition(":")[2])
        self.token = event.token
        self.is_woken = False
        """A second run, that its process was about to begin when it was stopped: nothing that comes of it may count."""

    def is_over(self, at: float) -> bool:
        return self.ended <= at


class Case:
    """What is known of one id."""

    __slots__ = (
        "acked",
        "asked",
        "dead",
        "facts",
        "id",
        "invoked",
        "is_doubled",
        "is_refused",
        "is_revoking",
        "looked",
        "open_by",
        "revoked",
        "runs",
        "state",
        "token",
        "unknown",
        "what",
    )

    def __init__(self, id: str) -> None:
        self.id = id
        self.what = ""
        self.facts: dict[str, Any] = _NOTHING
        self.asked = 0
        """How often somebody tried to publish it."""
        self.invoked = inf
        """First tried."""
        self.acked = inf
        self.unknown = 0
        self.is_refused = False
        self.open_by = ""
        """Who has not heard yet what became of the publish."""
        self.is_doubled = False
        """It may lie there twice, and its engine keeps doubles."""
        self.runs: tuple[Run, ...] = ()
        self.is_revoking = False
        self.revoked = inf
        self.state = ""
        """Final, of the first look that found one."""
        self.token = ""
        self.looked = 0
        """Number of the last look at its result."""
        self.dead: str | None = None

    @property
    def is_poison(self) -> bool:
        return self.what.startswith("poison")

    @property
    def is_owed(self) -> bool:
        """It was acknowledged, so it has to reach an end."""
        return self.acked < inf and "follows" not in self.facts

    @property
    def may_fail(self) -> bool:
        return self.is_poison or "ends" in self.facts


class Fault:
    """One of the nemesis's, or of a task that ended its own process."""

    __slots__ = ("began", "blame", "ended", "kind", "number", "pids")

    def __init__(self, event: Event) -> None:
        self.number = event.id
        self.kind = event.what
        self.began = event.t
        self.ended = inf
        self.blame = msgspec.convert(event.value or {}, Blame)
        self.pids = frozenset(self.blame.pids)

    @property
    def is_kill(self) -> bool:
        return bool(self.pids) and not self.blame.cuts


class Complaint(msgspec.Struct, frozen=True):
    """A violation whose history is still to be looked up."""

    invariant: str
    id: str
    says: str
    ids: tuple[str, ...]
    since: float
    until: float


class World:
    """Follows the history; invariants ask it, and complain to it.

    Args:
        terms: Of the run.
        most: Complaints of one invariant that are kept; all are counted.
    """

    def __init__(self, terms: Terms, most: int = 20) -> None:
        self.terms = terms
        self.cases: dict[str, Case] = {}
        self.faults: list[Fault] = []
        self.live: dict[str, Run] = {}
        """By token: runs that have not ended, those of killed processes too."""
        self.counts: dict[str, int] = {}
        self.complaints: list[Complaint] = []
        self.figures: dict[str, float] = {}
        self.now = 0.0
        self.previous: Run | None = None
        """While a `start` is seen: the run of the same attempt before it."""
        self.is_explained = False
        """And whether something explains that there is another one."""
        self.runs = 0
        self.explained = 0
        self._most = most

    def case(self, id: str) -> Case:
        found = self.cases.get(id)
        if found is None:
            found = self.cases[id] = Case(id)
        return found

    def complain(self, invariant: str, id: str, says: str, *, ids: tuple[str, ...] = (), since: float = -1.0) -> None:
        """An invariant is broken, as of now.

        Args:
            invariant: Its name.
            id: Of what.
            says: What was found and what should have been.
            ids: Others whose events belong to it.
            since: When that began, for the faults to show; by default with the first event of `id`.
        """
        count = self.counts[invariant] = self.counts.get(invariant, 0) + 1
        if count <= self._most:
            self.complaints.append(Complaint(invariant, id, says, (id, *ids), since, self.now))

    # -- explanations --------------------------------------------------------------------------------------------

    def cause(self, run: Run) -> Fault | None:
        """A fault of by now because of which this run's message may have come back."""
        over = run.ended + SETTLE_S
        for fault in reversed(self.faults):
            if fault.began > over:
                continue
            blame = fault.blame
            if run.pid in fault.pids and run.began <= fault.ended:
                return fault
            if (
                blame.cuts
                and (blame.everyone or run.pid in fault.pids)
                and run.began <= fault.ended + self._after(fault)
            ):
                return fault
        return None

    def _after(self, fault: Fault) -> float:
        """How long after a cut something may still begin under a lease that is lost by it.

        The last heartbeat that came through may be from its last moment, and the worker relies on it for a lease. Not
        one that stood still for longer than that, and not where the connection is the lease.
        """
        return CLOSED_S if self.terms.connection_lease or fault.kind.startswith("stop") else self.terms.lease_s

    def is_double(self, run: Run) -> bool:
        """Whether it is the other copy's turn: of what lies there twice, unless the end of this run was stored."""
        return run.case.is_doubled and (run.ended + SETTLE_S > self.now or not self.terms.stores_results)

    def _was_moved(self, before: Run) -> bool:
        """Whether its message may have been published anew when a connection was cut, and lie there twice since.

        Where the connection is the lease, what goes back a second time goes as a copy, whose original is acknowledged
        then; that acknowledgement does not always arrive. It may happen to all that waits.
        """
        case = before.case
        return self.terms.connection_lease and any(
            fault.blame.cuts and fault.ended >= case.invoked and fault.began <= before.began for fault in self.faults
        )

    def _was_repeated(self, case: Case) -> bool:
        """Whether one that it follows has ended twice, and each time sent it."""
        others = [self.cases[one] for one in case.facts.get("after", ()) if one in self.cases]
        return any(other.is_doubled or any(self.cause(run) for run in other.runs) for other in others)

    def is_woken(self, run: Run) -> bool:
        """Whether its process was stopped between its last look at the lease and the first line of the task."""
        return any(
            fault.kind.startswith("stop")
            and run.pid in fault.pids
            and fault.began + self.terms.lease_s < run.began <= fault.ended + _WAKES_S
            for fault in self.faults
        )

    def troubled(self, since: float, pid: int = 0) -> Fault | None:
        """A fault between then and now: that of this process, or any."""
        for fault in reversed(self.faults):
            if fault.ended >= since and (not pid or pid in fault.pids):
                return fault
        return None

    # -- the history ---------------------------------------------------------------------------------------------

    def on_enqueue(self, event: Event) -> None:
        case = self.case(event.id)
        if event.type == "invoke":
            case.asked += 1
            case.invoked = min(case.invoked, event.t)
            case.open_by = sys.intern(event.p)
            case.what = sys.intern(event.what)
            if event.value:
                case.facts = event.value
            if case.asked > 1 and self.terms.keeps_doubles:
                case.is_doubled = True
            return
        case.open_by = ""
        if event.type == "ok":
            case.acked = min(case.acked, event.t)
            case.is_refused = False
        elif event.type == "fail":
            case.is_refused = case.acked == inf and not case.unknown
        else:
            case.unknown += 1

    def on_start(self, event: Event) -> None:
        case = self.case(event.id)
        case.what = case.what or sys.intern(event.what)
        self.previous = None
        terms = self.terms
        for before in case.runs:
            if before.n == event.n:
                self.previous = before
            elif terms.keeps_doubles and before.n == event.n - 1 and not case.is_doubled and self.cause(before):
                case.is_doubled = True  # the retry was published, and then again by the one who ran it again
        before = self.previous
        if before is not None and terms.keeps_doubles and not case.is_doubled:
            case.is_doubled = self._was_moved(before) or self._was_repeated(case)
        run = Run(case, event)
        run.is_woken = before is not None and self.is_woken(run)
        is_explained = before is not None and (self.cause(before) is not None or self.is_double(before))
        self.is_explained = run.is_woken or is_explained
        self.explained += self.is_explained
        case.runs = (*case.runs, run)
        self.live[event.token] = run
        self.runs += 1

    def on_end(self, event: Event) -> None:
        run = self.live.pop(event.token, None)
        if run is not None:
            run.ended = event.t

    def on_revoke(self, event: Event) -> None:
        case = self.case(event.id)
        case.is_revoking = True
        if event.type == "ok":
            case.revoked = min(case.revoked, event.t)

    def on_result(self, event: Event) -> None:
        case = self.case(event.id)
        case.looked = event.n
        if event.what in FINAL and not case.state:
            case.state, case.token = event.what, event.token

    def on_dead(self, event: Event) -> None:
        self.case(event.id).dead = event.what

    def on_fault(self, event: Event) -> None:
        if event.type == "invoke":
            self.faults.append(Fault(event))
            return
        for fault in reversed(self.faults):
            if fault.number == event.id and fault.ended == inf:
                fault.ended = event.t
                return

    def on_figure(self, event: Event) -> None:
        self.figures[event.what] = event.at


class Invariant:
    """One statement that holds of every history. Its `on_<f>` see events of that kind, in order, after the world has.

    Args:
        world: What is known.
    """

    key = ""
    """As in `L2`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.terms = world.terms
        self.checked = 0
        """How many things it was held against."""

    def complain(self, id: str, says: str, *, ids: tuple[str, ...] = (), since: float = -1.0) -> None:
        self.world.complain(self.key, id, says, ids=ids, since=since)

    def close(self) -> None:
        """The history is over."""
