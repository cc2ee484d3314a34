"""What bytes will take in memory once they are decoded, estimated from above before anything is.

A limit on bytes is none on memory: an empty list is one byte of msgpack, three of JSON with its comma, and 64 bytes
here. 110 kB that decompress to 8 MiB of `[],` made a worker grow by 219 MiB, as msgpack by 640, within two seconds. So
bytes that are many enough to matter are counted first; bodies as they usually are, are not, and cost nothing.

The weights are what CPython 3.11 to 3.13 takes, measured with a pointer to each from the box around it.
"""

from __future__ import annotations

import re
from typing import Final

from celeriac.errors import DecodeError

_ITEM: Final = 40
"""A number (32, at most) and the pointer to it."""
_TEXT: Final = 64
"""What a string takes beyond `_ITEM` and its own characters."""
_EMPTY: Final = 64
_LIST: Final = 96
_DICT: Final = 216
"""With room for five; each further one costs about as much as `_ITEM` and its key's `_TEXT`."""
_JSON_MOST: Final = 50
"""Times that well-formed JSON grows at most: `{"":0},`."""
_MSGPACK_MOST: Final = 80
_SLICE: Final = 64 * 1024
_TEXT_WEIGHT: Final = _ITEM + _TEXT
_KINDS: Final = (
    *[(0, 0, 0)] * 0x80,  # `_TINY`
    (_EMPTY + 16, 0, 0),
    *[(_DICT, 0, 0)] * 15,
    (_EMPTY + 16, 0, 0),
    *[(_LIST, 0, 0)] * 15,
    *[(_TEXT_WEIGHT, 0, size) for size in range(32)],
    *[(0, 0, 0)] * 4,  # `_TINY`, and one that is no type
    *[(_TEXT_WEIGHT, size, 0) for size in (1, 2, 4)],  # bytes
    *[(_TEXT_WEIGHT, size, 1) for size in (1, 2, 4)],  # extensions, with a byte for their type
    *[(_ITEM, 0, size) for size in (4, 8, 1, 2, 4, 8, 1, 2, 4, 8)],  # floats and integers
    *[(_TEXT_WEIGHT, 0, 1 + size) for size in (1, 2, 4, 8, 16)],  # extensions of a fixed size
    *[(_TEXT_WEIGHT, size, 0) for size in (1, 2, 4)],  # strings
    *[(_LIST, 0, size) for size in (2, 4)],
    *[(_DICT, 0, size) for size in (2, 4)],
    *[(0, 0, 0)] * 0x20,  # `_TINY`
)
"""By the first byte of a value: what it takes, how many bytes say how long it is, and how many more it has."""
_TINY: Final = re.compile(rb"[\x00-\x7f\xc0\xc2\xc3\xe0-\xff]+").match
"""Small integers, null, true and false: of each there is one, so they take a pointer only."""


def check_json(raw: bytes, most: int) -> None:
    """Raise DecodeError if this JSON would take more than `most` bytes; bytes that are none may pass."""
    if len(raw) * _JSON_MOST <= most or _of_json(raw, raw.count(b'"')) <= most:
        return
    # text in it may be full of brackets and commas: count again without
    bare = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    size = inside = 0
    for start in range(0, len(bare), _SLICE):
        pieces = bare[start : start + _SLICE].split(b'"')
        size += _of_json(b" ".join(pieces[inside::2]), len(pieces) - 1)
        inside ^= (len(pieces) - 1) & 1
        if size > most:
            raise _too_large(most)


def _of_json(raw: bytes, quotes: int) -> int:
    count = raw.count
    empty_lists, empty_dicts = count(b"[]"), count(b"{}")
    return (
        _ITEM * count(b",")
        + _TEXT // 2 * quotes
        + _EMPTY * (empty_lists + empty_dicts)
        + _LIST * (count(b"[") - empty_lists)
        + _DICT * (count(b"{") - empty_dicts)
    )


def check_msgpack(raw: bytes, most: int) -> None:
    """The same of msgpack."""
    if len(raw) * _MSGPACK_MOST <= most:
        return
    size = at = 0
    end = len(raw)
    while at < end:
        if (tiny := _TINY(raw, at)) is not None:
            size += 8 * (tiny.end() - at)
            at = tiny.end()
            if at == end:
                break
        weight, lengths, fixed = _KINDS[raw[at]]
        size += weight
        at += 1 + fixed + lengths + (int.from_bytes(raw[at + 1 : at + 1 + lengths], "big") if lengths else 0)
        if size > most:
            break
    if size > most:
        raise _too_large(most)


def _too_large(most: int) -> DecodeError:
    return DecodeError(
        f"its values would take more than {most / 1024**2:,.0f} MiB of memory once decoded; store the data elsewhere "
        "and pass a reference"
    )
