"""URLs."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote, urlparse

from celeriac.masking import masked

__all__ = ["maybe_sanitize_url", "quote", "safequote", "sanitize_url", "unquote", "urlparse"]


def safequote(s: Any) -> str:
    return quote(str(s), safe="")


def sanitize_url(url: str, mask: str = "**") -> str:
    """Without its password."""
    return masked(url)


def maybe_sanitize_url(url: Any, mask: str = "**") -> Any:
    return masked(url) if isinstance(url, str) else url
