"""Result stores by name."""

from __future__ import annotations

from typing import Any

from celeriac.errors import NotSupportedError

BACKEND_ALIASES: dict[str, str] = {}


def by_name(backend: Any = None, loader: Any = None, *args: Any, **kwargs: Any) -> Any:
    """Not there: stores are chosen by the scheme of `result_backend`."""
    raise NotSupportedError(f"backend {backend!r}: result stores are chosen by the scheme of result_backend")


by_url = by_name
