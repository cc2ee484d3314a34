"""Routes."""

from __future__ import annotations

from typing import Any

from celeriac.app.routing import _RouteMap as MapRoute
from celeriac.compat.celery.utils.imports import symbol_by_name

__all__ = ["MapRoute", "expand_router_string"]


def expand_router_string(router: str) -> Any:
    """The router that a dotted name means."""
    found = symbol_by_name(router)
    return found() if isinstance(found, type) else found
