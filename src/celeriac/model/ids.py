"""Task ids and incarnations.

Ids are UUIDs of version 7: the first 48 bits are the millisecond of creation, so the rows of one backlog lie side by
side in an index. With random ids, a store of a million messages touches one page for each message it deletes; with
these, one page for about a hundred (docs/adr/0002-time-ordered-ids.md).
"""

from __future__ import annotations

from typing import NewType

from celeriac.clock import ENTROPY, SYSTEM_CLOCK

TaskId = str
"""1 to 128 characters of `[A-Za-z0-9_.:-]`; a UUID unless the caller chose it."""

Incarnation = NewType("Incarnation", str)
"""A fresh random id of one started consumer. The lease on everything it holds belongs to it."""

_getrandbits = ENTROPY.getrandbits
_time = SYSTEM_CLOCK.time


def new_task_id() -> TaskId:
    """Make a fresh id; ids made by one process within a millisecond are ordered by a microsecond fraction.

    Source:
        RFC 9562, section 5.7 and method 3 of section 6.2 (sub-millisecond fraction in `rand_a`).
    """
    now = _time() * 1000.0
    ms = int(now)
    fraction = int((now - ms) * 4096.0)
    text = f"{(ms << 80) | (0x7000 | fraction) << 64 | 0x8000000000000000 | _getrandbits(62):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_incarnation() -> Incarnation:
    """Make the id of a new consumer: 128 random bits as 32 hexadecimal digits, never used twice."""
    return Incarnation(f"{_getrandbits(128):032x}")
