"""The states of a task as its result shows them, and the moves between them: one table, drawn in the docs."""

from __future__ import annotations

from typing import Final

PENDING: Final = "PENDING"
"""Queued, or not known at all."""
RECEIVED: Final = "RECEIVED"
"""Taken by a worker, not started; seen in events only."""
STARTED: Final = "STARTED"
"""Running; stored only with `task_track_started`."""
RETRY: Final = "RETRY"
"""Failed and waiting to run again."""
SUCCESS: Final = "SUCCESS"
FAILURE: Final = "FAILURE"
REVOKED: Final = "REVOKED"
"""Revoked before or while it ran, or expired."""
REJECTED: Final = "REJECTED"
"""Refused by the task itself (`Reject`); seen in events only."""
IGNORED: Final = "IGNORED"
"""Ended by `Ignore`; never stored."""

READY_STATES: Final = frozenset({SUCCESS, FAILURE, REVOKED})
"""Final states: `get()` returns, and no other state may replace them."""
UNREADY_STATES: Final = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
EXCEPTION_STATES: Final = frozenset({RETRY, FAILURE, REVOKED})
"""States whose result is an exception."""
PROPAGATE_STATES: Final = frozenset({FAILURE, REVOKED})
"""States whose exception `get()` raises."""

MOVES: Final[dict[str, frozenset[str]]] = {
    PENDING: frozenset({RECEIVED, STARTED, RETRY, SUCCESS, FAILURE, REVOKED}),
    RECEIVED: frozenset({STARTED, RETRY, SUCCESS, FAILURE, REVOKED}),
    STARTED: frozenset({STARTED, RETRY, SUCCESS, FAILURE, REVOKED}),
    RETRY: frozenset({RECEIVED, STARTED, RETRY, SUCCESS, FAILURE, REVOKED}),
    SUCCESS: frozenset(),
    FAILURE: frozenset(),
    REVOKED: frozenset(),
}
"""Which stored state may follow which. A state of the application's own (`update_state(state="PROGRESS")`) moves as
STARTED does."""


def is_final(state: str) -> bool:
    """Whether no other state may follow."""
    return state in READY_STATES


def may_follow(old: str | None, new: str) -> bool:
    """Whether a store that holds `old` (None: nothing) may write `new`."""
    if old is None:
        return True
    return new in MOVES.get(old, MOVES[STARTED]) or (new not in MOVES and old not in READY_STATES)
