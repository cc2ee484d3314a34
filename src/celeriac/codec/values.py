"""Plain values to and from JSON and msgpack, with Celery's markers for the types that JSON lacks (protocol 4.2).

msgspec writes a datetime, a UUID or bytes as a bare string, and NaN as null, without a word: the reader would get
another type than was sent. So a value is looked over first. Nearly all are made of strings, numbers, lists and dicts
only and go to msgspec as they are (`is_plain`, about 30 ns per item); the others are rewritten (`to_plain`).

The other way, msgspec refuses NaN, invalid UTF-8, lone surrogates, control characters and integers of more than
4,300 digits; this file adds nesting, duplicate keys and the markers.
"""

from __future__ import annotations

import binascii
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from datetime import date, datetime, time
from decimal import Decimal, DecimalException
from functools import partial
from math import isfinite
from typing import Any, Final
from uuid import UUID

import msgspec

from celeriac.errors import DecodeError

Json = dict[str, Any] | list[Any] | str | int | float | bool | None

_SCALARS: Final = frozenset({str, int, bool, type(None)})
_FLOATS: Final = {float}
_BOXES: Final = frozenset({dict, list})
_SHORT: Final = 8
_MAX_INT_BITS: Final = 14_284  # 10**4300 - 1
_TYPE, _VALUE = "__type__", "__value__"
ADVICE: Final = "pass an id, a str or bytes, or a dataclass/msgspec/Pydantic model"


class NoFormError(Exception):
    """A value cannot be encoded; the codec turns it into an EncodeError that says whose value it was."""

    def __init__(self, found: str, why: str) -> None:
        super().__init__(found, why)
        self.found = found
        self.why = why
        self.path = ""
        """Where below the value it was, as Python would write it: `['items'][3]`."""

    def under(self, step: str) -> None:
        """Put a step before the path, on the way up."""
        self.path = step + self.path


class Plain(list[Any]):
    """A list that was read from JSON and holds nothing but JSON's own types: passing it on needs no second look.

    The rest of a chain travels through every message of it; to look at each value of a hundred steps again, at each
    step, took a tenth of the worker's time.
    """

    __slots__ = ()


# -- encode -----------------------------------------------------------------------------------------------------------


def is_plain(value: Any, room: int) -> bool:
    """Whether msgspec writes `value` exactly as Celery would.

    Args:
        value: Anything.
        room: How many more arrays and objects may lie within each other.
    """
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is float:
        return bool(value - value == 0.0)  # false for NaN and the infinities
    if kind is dict:
        if room <= 0 or (_TYPE in value and len(value) == 2):
            return False
        for key in value:
            if type(key) is not str:
                return False
        value = value.values()
    elif (kind is not list and kind is not tuple) or room <= 0:
        return False
    if len(value) > _SHORT:  # a long row of one kind, without a step of Python for each item
        kinds = set(map(type, value))
        if kinds <= _SCALARS:
            return True
        if kinds == _FLOATS:
            return all(map(isfinite, value))
    room -= 1
    for item in value:  # noqa: SIM110 - a generator would double the time
        if type(item) not in _SCALARS and not is_plain(item, room):
            return False
    return True


def to_plain(value: Any, room: int, *, markers: bool = True) -> Any:
    """Rewrite a value into what msgspec writes as Celery would.

    Args:
        value: Anything.
        room: How many more arrays and objects may lie within each other.
        markers: Whether types that JSON lacks may be marked; msgpack has bytes of its own and, in Celery, no markers.

    Raises:
        NoFormError: Something in it has no form; it names what and where.
    """
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is bool or value is None:
        return value
    if kind is int:
        return _integer(value, wide=markers)
    if kind is float:
        if value - value != 0.0:
            raise NoFormError(f"is {value!r}", "which JSON cannot carry; pass None or a str")
        return value
    if room <= 0:
        raise NoFormError(f"is a {type_name(kind)} nested too deep", "or contains itself; pass a flatter value")
    if isinstance(value, dict):
        return _object(value, room, markers)
    if isinstance(value, (list, tuple)):
        items = []
        for index, item in enumerate(value):
            try:
                items.append(to_plain(item, room - 1, markers=markers))
            except NoFormError as exc:
                exc.under(f"[{index}]")
                raise
        return items
    if isinstance(value, str):
        return _text(str.__str__(value))
    if isinstance(value, int):
        return _integer(int.__int__(value), wide=markers)
    if isinstance(value, float):
        return to_plain(float.__float__(value), room)
    if markers:
        for base, mark in _MARKS.items():
            if isinstance(value, base):
                if base is UUID and room < 2:  # `{"hex": …}` in its marker
                    raise NoFormError("is a UUID nested too deep", "or contains itself; pass a flatter value")
                return mark(value)
    elif isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return to_plain(_opened(value, markers=markers), room - 1, markers=markers)


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise NoFormError("is a str with a lone surrogate", "which is not text; pass bytes") from None
    return value


def _integer(value: int, *, wide: bool) -> int:
    if not wide and not -(2**63) <= value < 2**64:
        raise NoFormError("is an int of more than 64 bits", "which msgpack cannot carry; use serializer='json'")
    if value.bit_length() > _MAX_INT_BITS:
        raise NoFormError("is an int of more than 4,300 digits", "the most a reader accepts; pass it as a str")
    return value


def _object(value: Mapping[Any, Any], room: int, markers: bool) -> dict[str, Any]:
    if len(value) == 2 and _TYPE in value and _VALUE in value:
        raise NoFormError(
            "is a dict with exactly the keys '__type__' and '__value__'",
            "which every reader takes for a typed value; rename a key",
        )
    items = {}
    for key, item in value.items():
        try:
            items[_key(key)] = to_plain(item, room - 1, markers=markers)
        except NoFormError as exc:
            exc.under(f"[{key!r:.80}]")
            raise
    if len(items) != len(value.keys()):  # the length of a group's signature, a dict, is that of the group
        raise NoFormError("is a dict in which two keys become the same text", "such as 1 and '1'; rename one")
    return items


def _key(key: Any) -> str:
    if isinstance(key, str):
        return _text(str.__str__(key))
    if key is True:
        return "true"
    if key is False:
        return "false"
    if key is None:
        return "null"
    if isinstance(key, int):
        return str(_integer(int.__int__(key), wide=False))
    if isinstance(key, float):
        return float.__repr__(key)
    raise NoFormError(f"has a key of type {type_name(type(key))}", "and keys are text; use a str")


def _opened(value: Any, *, markers: bool) -> Any:
    """Take an object apart by one step, in the manner its class has for it."""
    kind = type(value)
    if callable(reducer := getattr(kind, "__json__", None)):
        return _asked(value, reducer, "__json__")
    if isinstance(value, msgspec.Struct) or (is_dataclass(value) and not isinstance(value, type)):
        kept = (bytes, bytearray, datetime, date, time, Decimal, UUID) if markers else (bytes, bytearray)
        try:
            return msgspec.to_builtins(
                value, builtin_types=kept, str_keys=True, enc_hook=_open_marked if markers else _open_bare
            )
        except NoFormError as exc:
            exc.found = f"is a {type_name(kind)} holding what {exc.found}"
            raise
        except (TypeError, ValueError, RecursionError) as exc:
            raise NoFormError(f"is a {type_name(kind)}", f"which cannot be taken apart ({exc})") from exc
    if callable(getattr(kind, "model_dump", None)) and hasattr(kind, "model_validate"):
        return _asked(value, partial(kind.model_dump, mode="json"), "model_dump")
    lazy = sys.modules.get("django.utils.functional")
    if lazy is not None and isinstance(value, lazy.Promise):
        return str(value)
    form = "JSON" if markers else "msgpack"
    if isinstance(value, (set, frozenset)):
        raise NoFormError(f"is a {type_name(kind)}", f"which has no {form} form; pass a sorted list")
    if not markers and isinstance(value, tuple(_MARKS)):
        raise NoFormError(f"is a {type_name(kind)}", f"which has no {form} form; use serializer='json', or pass a str")
    raise NoFormError(f"is a {type_name(kind)}", f"which has no {form} form; {ADVICE}")


def _asked(value: Any, method: Callable[[Any], Any], name: str) -> Any:
    try:
        return method(value)
    except Exception as exc:  # code of the user's, which may raise anything
        kind = type_name(type(value))
        raise NoFormError(f"is a {kind}", f"whose {name}() raised {type_name(type(exc))}: {exc}") from exc


_open_marked = partial(_opened, markers=True)
_open_bare = partial(_opened, markers=False)


def type_name(kind: type) -> str:
    """`datetime.date`, `shop.models.Photo`, and `set` rather than `builtins.set`."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _mark_bytes(value: bytes | bytearray | memoryview) -> dict[str, Any]:
    value = bytes(value)
    try:
        return {_TYPE: "bytes", _VALUE: value.decode()}
    except UnicodeDecodeError:
        return {_TYPE: "base64", _VALUE: binascii.b2a_base64(value, newline=False).decode("ascii")}


_MARKS: Final[dict[type, Callable[[Any], dict[str, Any]]]] = {
    datetime: lambda value: {_TYPE: "datetime", _VALUE: value.isoformat()},  # before date: it is one
    date: lambda value: {_TYPE: "date", _VALUE: value.isoformat()},
    time: lambda value: {_TYPE: "time", _VALUE: value.isoformat()},
    Decimal: lambda value: {_TYPE: "decimal", _VALUE: str(value)},
    UUID: lambda value: {_TYPE: "uuid", _VALUE: {"hex": value.hex}},
    bytes: _mark_bytes,
    bytearray: _mark_bytes,
    memoryview: _mark_bytes,
}


# -- decode -----------------------------------------------------------------------------------------------------------


def may_hold_markers(raw: bytes) -> bool:
    """Whether JSON may contain a marker: the word itself, or an escape that could spell it."""
    return b"__type__" in raw or b"\\u" in raw


def revive(value: Any) -> Any:
    """Turn markers into the values they stand for, in place; nesting must have been checked.

    Raises:
        DecodeError: A marker of unknown type, or whose value is not of its type.
    """
    kind = type(value)
    if kind is list:
        for index, item in enumerate(value):
            if type(item) in _BOXES:
                value[index] = revive(item)
    elif kind is dict:
        if len(value) == 2 and _TYPE in value and _VALUE in value:
            return _unmark(value[_TYPE], value[_VALUE])
        for key, item in value.items():
            if type(item) in _BOXES:
                value[key] = revive(item)
    return value


def _unmark(name: Any, value: Any) -> Any:
    reader = _READERS.get(name) if type(name) is str else None
    if reader is None:
        raise DecodeError(f"a value is marked as of type {name!r:.80}, which is unknown; known: {', '.join(_READERS)}")
    try:
        return reader(value)
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, DecimalException) as exc:
        raise DecodeError(f"a value is marked as of type {name!r}, but is {value!r:.80}") from exc


def _read_uuid(value: Any) -> UUID:
    if type(value) is not dict or set(value) != {"hex"}:
        raise ValueError("not {'hex': …}")
    return UUID(hex=value["hex"])


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "datetime": datetime.fromisoformat,
    "date": lambda value: datetime.fromisoformat(value).date(),
    "time": time.fromisoformat,
    "decimal": lambda value: Decimal(str.__str__(value)),
    "uuid": _read_uuid,
    "bytes": lambda value: str.encode(value),
    "base64": lambda value: binascii.a2b_base64(str.encode(value, "ascii"), strict_mode=True),
}


def register_type(kind: type, name: str, write: Callable[[Any], Any], read: Callable[[Any], Any], /) -> None:
    """Give a type a marker of its own, as `kombu.utils.json.register_type` does.

    Args:
        kind: The type; its subclasses too.
        name: In the marker.
        write: Makes a JSON value of an instance.
        read: Makes an instance of it.
    """
    _MARKS[kind] = lambda value: {_TYPE: name, _VALUE: write(value)}
    _READERS[name] = read


def check_nesting(value: Any, most: int) -> None:
    """Raise DecodeError if arrays and objects lie more than `most` deep within each other; level by level."""
    level = [value] if type(value) in _BOXES else []
    depth = 0
    while level:
        depth += 1
        if depth > most:
            raise DecodeError(f"values are nested more than {most} deep")
        level = [
            item
            for box in level
            if box
            for item in (box.values() if type(box) is dict else box)
            if type(item) in _BOXES
        ]


def check_keys(raw: bytes) -> None:
    """Raise DecodeError if an object in this (valid) JSON has a key twice; which one wins depends on the reader.

    msgspec cannot tell, so this parses again, ten times as slowly; callers first look for a cheaper proof.
    """
    try:
        json.loads(raw, object_pairs_hook=_pairs, parse_int=_skip, parse_float=_skip, parse_constant=_skip)
    except (ValueError, RecursionError) as exc:
        raise DecodeError(f"malformed JSON: {exc}") from exc


def _skip(_: str) -> None:
    return None


def _pairs(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in seen:
            raise DecodeError(f"an object has the key {key!r:.80} twice")
        seen.add(key)


def check_numbers(value: Any) -> None:
    """Raise DecodeError if msgpack brought a NaN or an infinity, a key that is no text, or a type of its own."""
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise DecodeError(f"an object has a key of type {type_name(type(key))}; keys are text")
        value = value.values()
    elif kind is not list:
        if kind is float and value - value != 0.0:
            raise DecodeError(f"{value!r} is not a number that can be passed on")
        if kind is msgspec.msgpack.Ext:
            raise DecodeError(f"a msgpack extension of type {value.code}, which is unknown")
        return
    for item in value:
        if type(item) not in _SCALARS:
            check_numbers(item)
