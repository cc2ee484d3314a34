"""Dicts with attributes, and dicts above each other."""

from __future__ import annotations

from collections import ChainMap, OrderedDict
from typing import Any

__all__ = [
    "AttributeDict",
    "AttributeDictMixin",
    "ChainMap",
    "ConfigurationView",
    "DictAttribute",
    "LimitedSet",
    "OrderedDict",
    "force_mapping",
    "lpmerge",
]


class AttributeDictMixin:
    """Items as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]  # type: ignore[index]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class AttributeDict(dict[str, Any], AttributeDictMixin):
    """A dict whose items are attributes, too."""


class DictAttribute:
    """An object's attributes as items."""

    def __init__(self, obj: Any) -> None:
        object.__setattr__(self, "obj", obj)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.obj, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.obj, name, value)

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self.obj, name)
        except AttributeError:
            raise KeyError(name) from None

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self.obj, name, value)

    def __contains__(self, name: str) -> bool:
        return hasattr(self.obj, name)

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self.obj, name, default)

    def __iter__(self) -> Any:
        return iter(dir(self.obj))


ConfigurationView = ChainMap


class LimitedSet(OrderedDict[Any, None]):
    """A set that keeps the last `maxlen` things."""

    def __init__(self, maxlen: int = 0, expires: float = 0, data: Any = None, minlen: int = 0) -> None:
        super().__init__()
        self.maxlen = maxlen
        for one in data or ():
            self.add(one)

    def add(self, item: Any, now: Any = None) -> None:
        self[item] = None
        if self.maxlen and len(self) > self.maxlen:
            self.popitem(last=False)

    def discard(self, item: Any) -> None:
        self.pop(item, None)


def force_mapping(m: Any) -> Any:
    """Something with items."""
    return m if hasattr(m, "__getitem__") else DictAttribute(m)


def lpmerge(left: dict[Any, Any], right: dict[Any, Any]) -> dict[Any, Any]:
    """Update `left` with what is not None in `right`."""
    left.update({key: value for key, value in right.items() if value is not None})
    return left
