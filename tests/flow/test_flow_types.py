"""Which annotated value fits which annotated parameter, after a journey as JSON."""

from __future__ import annotations

import collections.abc as abc
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, NewType, TypedDict, TypeVar

import pytest

from celeriac.flow import fit

T = TypeVar("T")
UserId = NewType("UserId", int)


@dataclass
class Photo:
    name: str


@dataclass
class Portrait(Photo):
    of: str


class Facts(TypedDict):
    name: str


@pytest.mark.parametrize(
    ("produced", "wanted"),
    [
        (int, int),
        (int, float),
        (bool, int),
        (int, Any),
        (Any, int),
        (T, int),
        (UserId, int),
        (Annotated[int, "metres"], int),
        (int, int | None),
        (int | str, int | str | None),
        (None, int | None),
        (Literal["a", "b"], str),
        (list[int], list[int]),
        (list[int], list),
        (tuple[int, ...], list[int]),
        (list[int], abc.Sequence[float]),
        (list[int], abc.Iterable[int]),
        (dict[str, int], abc.Mapping[str, int]),
        (Facts, dict[str, str]),
        (Photo, Photo),
        (Portrait, Photo),
        (Photo, dict[str, Any]),
        (dict[str, Any], Photo),
        (list[Photo], list[Photo]),
        (datetime, datetime),
        (object, int),
    ],
)
def test_fits(produced: Any, wanted: Any) -> None:
    assert fit.fits(produced, wanted)


@pytest.mark.parametrize(
    ("produced", "wanted"),
    [
        (int, str),
        (float, int),
        (str, list[str]),
        (list[str], str),
        (None, int),
        (int | None, int),
        (int | str, int),
        (Literal["a"], int),
        (list[str], list[int]),
        (list[list[str]], list[list[int]]),
        (dict[str, int], dict[str, str]),
        (dict[str, int], list[int]),
        (Photo, str),
        (Photo, list[str]),
        (str, Photo),
        (datetime, str),
        (UserId, str),
    ],
)
def test_does_not_fit(produced: Any, wanted: Any) -> None:
    assert not fit.fits(produced, wanted)


@pytest.mark.parametrize(
    ("annotation", "element"),
    [(list[int], int), (tuple[int, ...], int), (tuple[int, str], int | str), (list, None), (Any, None), (str, None)],
)
def test_elements(annotation: Any, element: Any) -> None:
    assert fit.element(annotation) == element
