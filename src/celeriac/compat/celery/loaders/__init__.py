"""Loaders: what imports modules and settings."""

from __future__ import annotations

from typing import Any

from celeriac.compat.celery.utils.imports import symbol_by_name

LOADER_ALIASES = {
    "app": "celery.loaders.app:AppLoader",
    "default": "celery.loaders.default:Loader",
}

__all__ = ["get_loader_cls"]


def get_loader_cls(loader: Any) -> Any:
    """The class of a loader, by alias or dotted name."""
    return symbol_by_name(loader, LOADER_ALIASES)
