"""Schedules that are values: they do not change, and are equal by what they mean."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NoReturn

from celeriac.scheduler.schedule import Schedule


class Value(Schedule):
    """What the kinds of this package have in common. Their attributes are set once, by `_put`."""

    __slots__ = ()

    @abstractmethod
    def _key(self) -> tuple[Any, ...]:
        """What it is equal by."""

    def _put(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is type(self) and self._key() == other._key())

    def __hash__(self) -> int:
        return hash((type(self), self._key()))

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{self!r} is a value; make another instead of changing its {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{self!r} is a value; nothing is taken from it, such as its {name!r}")
