"""The loader of the default application, whose settings are in the module `celeryconfig`."""

from __future__ import annotations

from celeriac.compat.celery.loaders.base import BaseLoader

__all__ = ["DEFAULT_CONFIG_MODULE", "Loader"]

DEFAULT_CONFIG_MODULE = "celeryconfig"


class Loader(BaseLoader):
    """Settings come from `celeryconfig`, where there is one."""
