"""Whether a value of one annotated type may go where another is annotated, after a journey as JSON.

Says no only where it is sure. A tuple arrives as a list and a dataclass as an object, which the consumer's annotation
may make an instance again, so those differences are none.
"""

from __future__ import annotations

import collections.abc
import enum
import inspect
import types
import typing
from dataclasses import is_dataclass
from typing import Any, Final

import msgspec

_ROWS: Final = (
    list,
    tuple,
    set,
    frozenset,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Iterable,
    collections.abc.Iterator,
    collections.abc.Collection,
    collections.abc.Set,
    collections.abc.Generator,
)
_TABLES: Final = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_WIDER: Final[dict[type, tuple[type, ...]]] = {bool: (int, float), int: (float, complex), float: (complex,)}
_UNIONS: Final = (typing.Union, types.UnionType)


def silent(annotation: Any) -> bool:
    """Whether an annotation says nothing about the value."""
    return (
        annotation in (Any, object, inspect.Parameter.empty)
        or isinstance(annotation, (str, typing.TypeVar, typing.ForwardRef))
        or (isinstance(annotation, type) and (issubclass(annotation, enum.Enum) or _is_protocol(annotation)))
    )


def fits(produced: Any, wanted: Any) -> bool:
    """Whether what is annotated `produced` may be given to what is annotated `wanted`; True where unsure."""
    produced, wanted = _bare(produced), _bare(wanted)
    if silent(produced) or silent(wanted):
        return True
    if typing.get_origin(produced) in _UNIONS:
        return all(fits(one, wanted) for one in typing.get_args(produced))
    if typing.get_origin(wanted) in _UNIONS:
        return any(fits(produced, one) for one in typing.get_args(wanted))
    if typing.get_origin(produced) is typing.Literal:
        return all(fits(type(one), wanted) for one in typing.get_args(produced))
    if typing.get_origin(wanted) is typing.Literal:
        return any(fits(produced, type(one)) for one in typing.get_args(wanted))
    made, asked = _kind(produced), _kind(wanted)
    if not isinstance(made, type) or not isinstance(asked, type):
        return True
    if made in _ROWS and asked in _ROWS:
        one, other = element(produced), element(wanted)
        return one is None or other is None or fits(one, other)
    if _is_table(made) and _is_table(asked):
        ours, theirs = typing.get_args(produced), typing.get_args(wanted)
        return len(ours) != 2 or len(theirs) != 2 or all(map(fits, ours, theirs))
    if _is_record(made):
        return issubclass(made, asked) or issubclass(asked, made) or _is_table(asked)
    if _is_record(asked):
        return _is_table(made)
    if asked in _WIDER.get(made, ()):
        return True
    return _related(made, asked)


def element(annotation: Any) -> Any:
    """What a row of values holds, by its annotation; None where that is not said."""
    annotation = _bare(annotation)
    kind, given = _kind(annotation), typing.get_args(annotation)
    if kind not in _ROWS or not given:
        return None
    if kind is tuple:
        given = tuple(one for one in given if one is not Ellipsis)
        return given[0] if len(set(given)) == 1 else (typing.Union[given] if given else None)  # noqa: UP007 - of a tuple
    return given[0]


def is_row(annotation: Any) -> bool:
    """Whether a value of this type can be run over; True where unsure."""
    annotation = _bare(annotation)
    if silent(annotation):
        return True
    if typing.get_origin(annotation) in _UNIONS:
        return all(is_row(one) for one in typing.get_args(annotation))
    kind = _kind(annotation)
    return not isinstance(kind, type) or kind in _ROWS or (issubclass(kind, (list, tuple, set, frozenset)))


def name(annotation: Any) -> str:
    """An annotation as its author would write it."""
    return "None" if annotation in (None, type(None)) else inspect.formatannotation(annotation)


def _bare(annotation: Any) -> Any:
    """Without what adds nothing: Annotated, NewType, Final."""
    while True:
        if annotation is None:
            return type(None)
        if isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif typing.get_origin(annotation) in (typing.Annotated, typing.Final):
            annotation = typing.get_args(annotation)[0]
        else:
            return annotation


def _kind(annotation: Any) -> Any:
    return typing.get_origin(annotation) or annotation


def _related(made: type, asked: type) -> bool:
    try:
        return issubclass(made, asked) or issubclass(asked, made)
    except TypeError:  # a class that cannot be asked, such as a protocol with attributes
        return True


def _is_protocol(annotation: Any) -> bool:
    return bool(getattr(annotation, "_is_protocol", False))


def _is_table(kind: type) -> bool:
    return kind in _TABLES or typing.is_typeddict(kind) or issubclass(kind, dict)


def _is_record(kind: type) -> bool:
    return is_dataclass(kind) or issubclass(kind, msgspec.Struct) or callable(getattr(kind, "model_validate", None))
