"""A property computed once per object, also when several threads ask first."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Locked(Protocol):
    """What a class with such properties has."""

    _lock: threading.RLock


class once(Generic[T]):  # noqa: N801 - a decorator, like property
    """Like `functools.cached_property`, which since Python 3.12 lets two threads compute, and keep, one value each.

    A second broker would be a second set of connections that nobody closes. Once computed, the value is a plain
    attribute: reading it costs what an attribute costs.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, obj: None, owner: type) -> once[T]: ...
    @overload
    def __get__(self, obj: Locked, owner: type) -> T: ...
    def __get__(self, obj: Locked | None, owner: type) -> once[T] | T:
        if obj is None:
            return self
        with obj._lock:
            known = obj.__dict__
            if self._name not in known:
                known[self._name] = self._compute(obj)
            value: T = known[self._name]
            return value
