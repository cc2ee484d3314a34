"""Small kinds of objects."""

from __future__ import annotations

from typing import Any

__all__ = ["Bunch", "FallbackContext", "getitem_property", "mro_lookup"]


class Bunch:
    """Whatever attributes it is made with."""

    def __init__(self, **kwargs: Any) -> None:
        self.__dict__.update(kwargs)


def mro_lookup(cls: type, attr: str, stop: Any = None, monkey_patched: Any = None) -> Any:
    """The class that defines an attribute."""
    for one in cls.mro():
        if one in (stop or ()):
            return None
        if attr in one.__dict__:
            return one
    return None


class FallbackContext:
    """A context manager that gives what was provided, else what `fallback` makes."""

    def __init__(self, provided: Any, fallback: Any, *fb_args: Any, **fb_kwargs: Any) -> None:
        self.provided, self.fallback, self.fb_args, self.fb_kwargs = provided, fallback, fb_args, fb_kwargs
        self._context: Any = None

    def __enter__(self) -> Any:
        if self.provided is not None:
            return self.provided
        self._context = self.fallback(*self.fb_args, **self.fb_kwargs)
        return self._context.__enter__()

    def __exit__(self, *exc: object) -> Any:
        return None if self._context is None else self._context.__exit__(*exc)


class getitem_property:
    """An attribute that is an item of a dict-like object."""

    def __init__(self, keypath: str, doc: str | None = None) -> None:
        path, _, self.key = keypath.rpartition(".")
        self.path = path.split(".") if path else []
        self.__doc__ = doc

    def _holder(self, obj: Any) -> Any:
        for key in self.path:
            obj = obj[key]
        return obj

    def __get__(self, obj: Any, owner: Any = None) -> Any:
        return self if obj is None else self._holder(obj).get(self.key)

    def __set__(self, obj: Any, value: Any) -> None:
        self._holder(obj)[self.key] = value
