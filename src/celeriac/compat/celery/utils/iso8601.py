"""Dates as text."""

from __future__ import annotations

from datetime import datetime

__all__ = ["parse_iso8601"]


def parse_iso8601(datestring: str) -> datetime:
    """The moment that a text in ISO 8601 means."""
    return datetime.fromisoformat(datestring)
