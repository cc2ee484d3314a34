"""When a failed attempt runs again: the retry policy as a value, its delays as a pure function."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from celeriac.errors import ConfigError

if TYPE_CHECKING:
    from random import Random

Backoff = Literal["exponential", "linear", "constant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Run a task again when it raises.

    Args:
        attempts: Runs in all, the first included; None never gives up.
        on: Exception classes that are retried; others fail at once.
        never: Exception classes that fail at once though they are in `on`.
        backoff: How the delay grows from one retry to the next.
        delay: The delay before the first retry.
        max_delay: No delay is longer.
        jitter: Draw each delay between 0 and its full length, so that many failures do not return together.

    Raises:
        ConfigError: A value is out of range; the message names it.

    Source:
        "Exponential Backoff And Jitter" (AWS Architecture Blog), full jitter; Celery's exponential back-off.
    """

    attempts: int | None = 4
    on: tuple[type[BaseException], ...] = (Exception,)
    never: tuple[type[BaseException], ...] = ()
    backoff: Backoff = "exponential"
    delay: timedelta | float = 1.0
    max_delay: timedelta | float = 600.0
    jitter: bool = True

    def __post_init__(self) -> None:
        if self.attempts is not None and self.attempts < 1:
            raise ConfigError(f"Retry(attempts={self.attempts}): at least 1 attempt, or None for no limit")
        if self.backoff not in ("exponential", "linear", "constant"):
            raise ConfigError(f"Retry(backoff={self.backoff!r}): use 'exponential', 'linear' or 'constant'")
        if self.delay_s < 0:
            raise ConfigError(f"Retry(delay={self.delay!r}): a delay cannot be negative")
        if self.max_delay_s < self.delay_s:
            raise ConfigError(f"Retry(max_delay={self.max_delay!r}) is shorter than delay={self.delay!r}")

    @property
    def max_retries(self) -> int | None:
        """Retries after the first run, as Celery counts them."""
        return None if self.attempts is None else self.attempts - 1

    @property
    def delay_s(self) -> float:
        return _seconds(self.delay)

    @property
    def max_delay_s(self) -> float:
        return _seconds(self.max_delay)

    def wants(self, exc: BaseException) -> bool:
        """Whether this exception is one to retry, however many attempts are left."""
        return isinstance(exc, self.on) and not isinstance(exc, self.never)

    def delay_before(self, retry: int, entropy: Random) -> float:
        """Seconds to wait before retry number `retry` (1 is the first)."""
        if self.backoff == "exponential":
            # 2**1023 is the largest power a float holds; the cap makes anything above ~60 the same
            full = self.delay_s * 2.0 ** min(retry - 1, 1000)
        elif self.backoff == "linear":
            full = self.delay_s * retry
        else:
            full = self.delay_s
        full = min(full, self.max_delay_s)
        return entropy.uniform(0.0, full) if self.jitter else full


def _seconds(value: timedelta | float) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
