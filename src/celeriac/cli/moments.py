"""Durations and moments as a person writes them on the command line."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from datetime import tzinfo

_UNITS: Final = {
    "ms": 0.001,
    "s": 1.0,
    "sec": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*")


def duration(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Seconds, from `90`, `10s`, `5m`, `1h30m`, `2d` or `500ms`; the callback of an option."""
    if value is None:
        return None
    text, place, total = value.strip().lower(), 0, 0.0
    while place < len(text):
        part = _PART.match(text, place)
        unit = part[2] if part else ""
        # a bare number stands alone: in `1h30` nobody knows what 30 is
        if part is None or (unit not in _UNITS if unit else (place or part.end() < len(text))):
            place = 0
            break
        total += float(part[1]) * _UNITS.get(unit, 1.0)
        place = part.end()
    if not place:
        raise click.BadParameter(
            f"{value!r} is no duration; write for example 90, 10s, 5m, 1h30m or 2d", context, parameter
        )
    return total


def moment(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """A datetime from ISO 8601 text, aware only where the text says its zone; the callback of an option."""
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value.strip())
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no moment; write for example 2030-12-31T23:59+01:00", context, parameter
        ) from None


def in_zone(written: datetime, zone: tzinfo) -> tuple[datetime, str]:
    """A moment with a zone, and what to tell who left it out.

    Args:
        written: As on the command line.
        zone: What it means where it says none.

    Returns:
        The moment, and a sentence, which is empty where there is nothing to tell.
    """
    if written.tzinfo is not None:
        return written, ""
    meant = written.replace(tzinfo=zone)
    return meant, f"{written.isoformat()} is read as a time in {zone}: {meant.isoformat()}"
