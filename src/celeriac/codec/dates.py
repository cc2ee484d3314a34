"""Points in time: ISO 8601 on the wire, epoch seconds inside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=256)
def _second(epoch: int) -> str:
    return (_EPOCH + timedelta(seconds=epoch)).isoformat()[:19]  # `fromtimestamp` fails before 1970 on Windows


def iso_from_epoch(epoch: float) -> str:
    """Write wall-clock epoch seconds as Celery does: `2026-11-20T17:10:23.838472+00:00`, microseconds rounded.

    Dates of one second share their text (most of a busy worker's do), which makes a call about three times as fast
    as going through datetime.

    Raises:
        OverflowError: Outside the years 1 to 9999.
        ValueError: Not a number.
    """
    micros = round(epoch * 1e6)
    second, micros = divmod(micros, 1_000_000)
    return f"{_second(second)}.{micros:06d}+00:00"


def epoch_from_iso(text: str) -> float:
    """Read ISO 8601 into wall-clock epoch seconds; `Z` is fine, a time without offset is UTC.

    Raises:
        ValueError: Not a date and time.
    """
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
