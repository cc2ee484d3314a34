"""What a checker found, and what is known of a scenario: values that the checker makes and the report shows."""

from __future__ import annotations

import msgspec

from chaos.history import Event


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What was agreed for a run: who checks its history needs nothing else. Written beside it as `terms.json`."""

    scenario: str
    """As in `F1`."""
    title: str
    engine: str
    seed: int
    lease_s: float = 2.0
    beat_s: float = 0.6
    reap_s: float = 0.5
    poll_s: float = 1.0
    timeout_s: float = 5.0
    """Of a publish."""
    connection_lease: bool = False
    """The connection is the lease: where it is lost, everything comes back at once."""
    keeps_doubles: bool = False
    """A message published again under one id may lie there twice; its stored result keeps it from running again."""
    stores_results: bool = True
    back_s: float = 5.0
    """Within so long after a fault is over somebody consumes again."""
    recovery_s: float = 4.5
    """Within so long after its process was killed a task starts again."""
    grace_s: float = 5.0
    """What workers get that are told to leave."""
    max_deliveries: int = 5
    """A task that takes its process along so often is a dead letter."""
    expected_dead: bool = False
    """Tasks whose name begins with `poison` end among the dead letters."""
    skip: tuple[str, ...] = ()
    """Invariants that do not apply, as in `O1`."""
    bug: str = ""
    """A planted bug: the checker must object."""


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """One invariant, broken once."""

    invariant: str
    """As in `L2`."""
    id: str
    says: str
    """What was found and what should have been."""
    history: tuple[Event, ...] = ()
    """The shortest that shows it: the events of this id, and the faults that lie within."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the checker made of a history."""

    tasks: int = 0
    """Acknowledged, with those that workflows and schedules published."""
    unknown: int = 0
    runs: int = 0
    faults: int = 0
    lost: int = 0
    unexpected: int = 0
    """Runs of what nobody sent, or what was refused."""
    explained: int = 0
    """Second runs that overlap a fault."""
    unexplained: int = 0
    stale: int = 0
    """Completions under a lost lease that were accepted."""
    slowest_recovery_s: float | None = None
    slowest_back_s: float | None = None
    figures: dict[str, float] = {}
    counts: dict[str, int] = {}
    """By invariant: how often it was broken."""
    checked: dict[str, int] = {}
    """By invariant: how many things it was held against. 0 means that it says nothing about this run."""
    violations: tuple[Violation, ...] = ()
    """At most 20 of each invariant."""

    @property
    def is_clean(self) -> bool:
        return not any(self.counts.values())


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario on an engine, for the report."""

    terms: Terms
    verdict: Verdict | None = None
    seconds: float = 0.0
    error: str = ""
    """Why there is no verdict, or in what state the run broke off."""
    missing: str = ""
    """Why it was not run: reported as missing, never as passed."""
    folder: str = ""
    """Where its history is, while it is kept."""
