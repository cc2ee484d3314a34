"""What a message may be at most. Whoever can write to the broker can write anything, so every size has an end."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Final

from celeriac.errors import ConfigError

KIB: Final = 1024
MIB: Final = 1024 * KIB
YEAR_S: Final = 365.25 * 86_400

HARD_MAX: Final = 16 * MIB
"""No limit in bytes can be set higher: a worker holds a message several times over while it decodes it."""

ID_SYNTAX: Final = "1 to 128 characters of A-Z a-z 0-9 _ . : -"
is_id = re.compile(r"[A-Za-z0-9_.:-]{1,128}").fullmatch
"""Match a task, group or parent id: safe in a key, a path, a log line and a shell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds that both sides keep: what a worker would refuse, a producer does not send.

    An integer may have 4,300 digits, as in Python itself; the JSON parser keeps that bound and it cannot be set.

    Raises:
        ConfigError: A value is out of range; the message names it.
    """

    message: int = MIB
    """Bytes of an encoded body, and of an encoded header block."""
    decompressed: int = 8 * MIB
    """Bytes of a body once decompressed."""
    ratio: int = 100
    """Times that a compressed body may grow; what stays below 64 KiB may grow more."""
    result: int = HARD_MAX
    """Bytes of an encoded result, and of one decompressed."""
    growth: int = 36
    """Times of `message` (of 1 MiB, where that is less) that the values of a body may take in memory, and those of a
    header block; of a result, times of a quarter of `result`. Estimated from above before anything is decoded."""
    nesting: int = 64
    """Arrays and objects within each other, the body's own array included."""
    headers: int = 64
    """User headers, and stamps, of one message."""
    header: int = 4 * KIB
    """Bytes of one user header or stamp, encoded."""
    links: int = 10_000
    """Signatures of one kind that follow a task: callbacks, error callbacks, steps of a chain."""
    name: int = 255
    """Characters of a task's name."""
    retries: int = 2**31 - 1
    eta_past_s: float = YEAR_S
    """How long ago an eta may be, in seconds."""
    eta_future_s: float = 10 * YEAR_S
    """How far ahead an eta may be, in seconds."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise ConfigError(f"Limits({field.name}={value!r}): a limit is above 0")
        for name in ("message", "decompressed", "result"):
            if getattr(self, name) > HARD_MAX:
                raise ConfigError(f"Limits({name}={getattr(self, name)}) is above {HARD_MAX} bytes, the most there is")
        if self.nesting > 200:  # values are walked recursively, well within Python's default limit of 1,000 frames
            raise ConfigError(f"Limits(nesting={self.nesting}) is above 200, the most there is")

    @property
    def body_memory(self) -> int:
        """Bytes that the values of a body may take."""
        return self.growth * max(self.message, MIB)

    @property
    def result_memory(self) -> int:
        """Bytes that the values of a result may take."""
        return self.growth * max(self.result, MIB) // 4
