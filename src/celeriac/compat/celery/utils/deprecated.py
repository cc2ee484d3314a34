"""Marks for what is old."""

from __future__ import annotations

import warnings
from functools import wraps
from typing import Any

Property = property


def warn(
    description: str, deprecation: Any = None, removal: Any = None, alternative: Any = None, stacklevel: int = 2
) -> None:
    warnings.warn(f"{description} is deprecated; use {alternative}", DeprecationWarning, stacklevel=stacklevel)


def Callable(deprecation: Any = None, removal: Any = None, alternative: Any = None, description: Any = None) -> Any:
    """A decorator of functions that are old."""

    def decorate(function: Any) -> Any:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            warn(description or function.__qualname__, alternative=alternative, stacklevel=3)
            return function(*args, **kwargs)

        return call

    return decorate
