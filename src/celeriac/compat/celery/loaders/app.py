"""The loader of applications."""

from __future__ import annotations

from celeriac.compat.celery.loaders.base import BaseLoader

__all__ = ["AppLoader"]


class AppLoader(BaseLoader):
    """Settings come from the application."""
