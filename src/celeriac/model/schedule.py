"""What schedules leave in a store: how far each has come, and what was changed at run time.

An **instant** is a whole number of microseconds since the Unix epoch, UTC. Each entry has one **mark**: the last of its
nominal instants that was seen to. It moves by compare-and-set only, in one step with the message that is published for
the instant, so each instant is seen to once, by whichever beat comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from celeriac.model.ids import TaskId

if TYPE_CHECKING:
    from celeriac.model.outgoing import Outgoing

Instant = int
"""Microseconds since the Unix epoch, UTC."""

Verdict = Literal["fired", "overlap", "passed", "lost"]


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """How far an entry has come."""

    at: Instant
    """The last nominal instant that was seen to, or when the entry was first met, or last put right; `note` says so."""
    fingerprint: str = ""
    """Of the schedule that it belongs to; after a change of the schedule, nothing is due before the change."""
    task_id: TaskId = ""
    """Of the last message; '' when there was none yet."""
    fired_at: float = 0.0
    """When it was published: epoch seconds of the store's clock."""
    runs: int = 0
    """Messages so far."""
    skipped: int = 0
    """Instants so far for which there was none, by the entry's policies."""
    note: str = ""
    """Why the last instant had no message; '' when it had one."""


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """A mark's next step, and the message that goes with it."""

    name: str
    """The entry's."""
    queue: str
    """Of the entry. Where a store spans servers, the mark lies there, and messages for elsewhere are refused."""
    after: Instant
    """Where the mark must stand for this to happen; 0: nowhere yet."""
    at: Instant
    """Where it stands then. Not always later: a clock that was wrong is put right by a step back."""
    fingerprint: str = ""
    message: Outgoing | None = None
    """None: the mark only moves."""
    skipped: int = 0
    """How many instants are passed over."""
    note: str = ""
    """Why."""
    unless_live: bool = False
    """Publish nothing when the entry's last message has not ended: it waits, is delayed, or is held."""


class Ticked(msgspec.Struct, frozen=True):
    """What became of a tick."""

    verdict: Verdict
    """`fired`: published. `overlap`: the mark moved, and another message that lives kept this one out, the entry's last
    (`unless_live`) or the holder of its unique key. `passed`: the mark moved, there was no message. `lost`: the mark
    stood elsewhere, nothing happened; `mark` says where."""
    mark: Mark | None
    """As it stands now; None: nowhere."""


class ScheduleRow(msgspec.Struct, frozen=True, kw_only=True):
    """What was said at run time of one entry."""

    name: str
    spec: bytes | None = None
    """The entry as a JSON object; None: it is an entry of the code, of which only this is said."""
    paused: bool = False
    since: Instant = 0
    """Instants up to here are not due: it was added, changed or paused then."""
    removed: bool = False
    """Kept for a while so that everybody hears of it."""
    change: str = ""
    """What was done last, one word: `added`, `changed`, `paused`, `resumed`, `removed`, `finished`."""
    changed_by: str = ""
    changed_at: float = 0.0
    """Epoch seconds of the store's clock; set by the store."""
    revision: int = 0
    """Larger than that of every earlier change of any row; set by the store."""


class ScheduleNews(msgspec.Struct, frozen=True):
    """What a look at a store shows."""

    now: float
    """The store's clock, epoch seconds: by it, instants are due."""
    revision: int
    """Of the last change."""
    rows: tuple[ScheduleRow, ...]
    """Those changed after the revision that was asked for, in the order of their changes."""


class BeatInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A beat that is there."""

    name: str
    """Such as `beat@web1:4711`."""
    host: str
    pid: int
    started_at: float
    """Epoch seconds of the store's clock."""
    looked_at: float
    """When it last looked, likewise."""
    entries: int = 0
    version: str = ""
