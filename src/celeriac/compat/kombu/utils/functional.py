"""Functions on functions."""

from __future__ import annotations

from celeriac.compat.celery.utils.functional import (
    LRUCache,
    dictfilter,
    is_list,
    lazy,
    maybe_evaluate,
    maybe_list,
    memoize,
)

__all__ = ["LRUCache", "dictfilter", "is_list", "lazy", "maybe_evaluate", "maybe_list", "memoize"]
