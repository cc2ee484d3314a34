"""Properties and tables of AMQP 0-9-1 between bytes and values: what travels in the content header of a message.

Read as RabbitMQ and py-amqp write them, their quirks included; written as py-amqp writes them. It stands this low
because both who knows what the headers mean (`codec`) and who only adds some of his own (adapters) need it.

Source: RabbitMQ, "AMQP 0-9-1 errata", section 3, for the letters of the types.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

__all__ = ["Properties", "headers_of", "read_properties", "with_expiration", "with_headers", "write_properties"]

_DEEPEST: Final = 32
_KNOWN_NAMES: Final = 1000
"""Names of headers that are kept in both forms; they can come from data."""

_long: Callable[[int], bytes] = struct.Struct(">I").pack
_typed_text = struct.Struct(">cI").pack
_typed_int = struct.Struct(">ci").pack
_typed_big = struct.Struct(">cq").pack
_typed_float = struct.Struct(">cd").pack
_read_short = struct.Struct(">H").unpack_from
_read_long = struct.Struct(">I").unpack_from
_FIXED: Final = {
    letter: (each := struct.Struct(">" + code), each.size)
    for letter, code in {
        ord("b"): "b",
        ord("B"): "B",
        ord("s"): "h",
        ord("U"): "h",
        ord("u"): "H",
        ord("I"): "i",
        ord("i"): "I",
        ord("l"): "q",
        ord("L"): "q",  # unsigned in the standard, signed as py-amqp writes it
        ord("f"): "f",
        ord("d"): "d",
    }.items()
}
_names: dict[bytes, str] = {}
_wire_names: dict[str, bytes] = {}

_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS, _DELIVERY_MODE, _PRIORITY = 0x8000, 0x4000, 0x2000, 0x1000, 0x0800
_CORRELATION_ID, _REPLY_TO, _EXPIRATION, _MESSAGE_ID, _TIMESTAMP = 0x0400, 0x0200, 0x0100, 0x0080, 0x0040


class Properties(msgspec.Struct, kw_only=True):
    """The properties of a message that anybody here has a use for."""

    content_type: str | None = None
    content_encoding: str | None = None
    headers: dict[str, Any] = {}
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    """Milliseconds."""
    message_id: str | None = None
    timestamp: int | None = None
    """Epoch seconds."""


# -- reading ----------------------------------------------------------------------------------------------------------


def read_properties(raw: bytes) -> Properties:
    """Read the payload of a content header, from the property flags on.

    Raises:
        ValueError: It is malformed.
    """
    try:
        (flags,) = _read_short(raw, 0)
        at = 2
        found = Properties()
        if flags & _CONTENT_TYPE:
            found.content_type, at = _short_text(raw, at)
        if flags & _CONTENT_ENCODING:
            found.content_encoding, at = _short_text(raw, at)
        if flags & _HEADERS:
            (size,) = _read_long(raw, at)
            at += 4
            found.headers = _read_table(raw, at, at + size, _DEEPEST)
            at += size
        if flags & _DELIVERY_MODE:
            found.delivery_mode = raw[at]
            at += 1
        if flags & _PRIORITY:
            found.priority = raw[at]
            at += 1
        if flags & _CORRELATION_ID:
            found.correlation_id, at = _short_text(raw, at)
        if flags & _REPLY_TO:
            found.reply_to, at = _short_text(raw, at)
        if flags & _EXPIRATION:
            found.expiration, at = _short_text(raw, at)
        if flags & _MESSAGE_ID:
            found.message_id, at = _short_text(raw, at)
        if flags & _TIMESTAMP:
            found.timestamp = int.from_bytes(raw[at : at + 8], "big")
            at += 8
    except (IndexError, struct.error) as exc:
        raise ValueError(f"the properties end in the middle of a value, after {len(raw)} bytes") from exc
    if at > len(raw):
        raise ValueError(f"the properties end in the middle of a value, after {len(raw)} bytes")
    return found


def headers_of(raw: bytes) -> dict[str, Any]:
    """The table of headers in the payload of a content header; empty where there is none.

    Raises:
        ValueError: It is malformed.
    """
    start, size = _table_place(raw)
    return _read_table(raw, start, start + size, _DEEPEST) if size else {}


def _short_text(raw: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + raw[at]
    return str(raw[at + 1 : end], "utf-8", "surrogatepass"), end


def _read_table(raw: bytes, at: int, end: int, room: int) -> dict[str, Any]:
    if end > len(raw):
        raise ValueError(f"a table is said to end at byte {end} of {len(raw)}")
    table: dict[str, Any] = {}
    known = _names.get
    while at < end:
        name_end = at + 1 + raw[at]
        encoded = raw[at + 1 : name_end]
        name = known(encoded)
        if name is None:
            name = str(encoded, "utf-8", "surrogateescape")
            if len(_names) < _KNOWN_NAMES:
                _names[encoded] = name
        letter = raw[name_end]
        at = name_end + 1
        if letter == 83:  # S: the most frequent ones here, the rest in `_read_value`
            start = at + 4
            at = start + _read_long(raw, at)[0]
            try:
                table[name] = str(raw[start:at], "utf-8")
            except UnicodeDecodeError:
                table[name] = raw[start:at]
        elif letter == 86:  # V
            table[name] = None
        else:
            table[name], at = _read_value(raw, letter, at, room)
    if at != end:
        raise ValueError(f"a table was said to end at byte {end}, and ends at {at}")
    return table


def _read_value(raw: bytes, letter: int, at: int, room: int) -> tuple[Any, int]:
    fixed = _FIXED.get(letter)
    if fixed is not None:
        return fixed[0].unpack_from(raw, at)[0], at + fixed[1]
    if letter == 116:  # t
        return raw[at] != 0, at + 1
    if letter == 86:
        return None, at
    if letter == 84:  # T
        seconds = int.from_bytes(raw[at : at + 8], "big")
        try:
            return datetime.fromtimestamp(seconds, UTC), at + 8
        except (ValueError, OverflowError, OSError):
            return seconds, at + 8
    if letter == 68:  # D
        (number,) = struct.unpack_from(">i", raw, at + 1)
        return Decimal(number).scaleb(-raw[at]), at + 5
    (size,) = _read_long(raw, at)
    start = at + 4
    end = start + size
    if end > len(raw):
        raise ValueError(f"a value is said to end at byte {end} of {len(raw)}")
    if letter == 83:  # S
        text = raw[start:end]
        try:
            return str(text, "utf-8"), end
        except UnicodeDecodeError:
            return text, end
    if letter == 120:  # x
        return raw[start:end], end
    if not room:
        raise ValueError(f"tables and arrays are more than {_DEEPEST} deep")
    if letter == 70:  # F
        return _read_table(raw, start, end, room - 1), end
    if letter == 65:  # A
        array: list[Any] = []
        while start < end:
            value, start = _read_value(raw, raw[start], start + 1, room - 1)
            array.append(value)
        if start != end:
            raise ValueError(f"an array was said to end at byte {end}, and ends at {start}")
        return array, end
    raise ValueError(f"a value has the unknown type {chr(letter)!r}")


# -- writing ----------------------------------------------------------------------------------------------------------


def write_properties(properties: Properties) -> bytes:
    """Write the payload of a content header, from the property flags on; headers are written even where empty.

    Raises:
        ValueError: A text is longer than 255 bytes; the message names it.
        TypeError, ValueError: A header has no form in a table; the message names it.
    """
    flags = _HEADERS
    parts = [b""]
    add = parts.append
    if (text := properties.content_type) is not None:
        flags |= _CONTENT_TYPE
        add(_written_short(text, "content_type"))
    if (text := properties.content_encoding) is not None:
        flags |= _CONTENT_ENCODING
        add(_written_short(text, "content_encoding"))
    add(_written_table(properties.headers, _DEEPEST))
    if (number := properties.delivery_mode) is not None:
        flags |= _DELIVERY_MODE
        add(number.to_bytes(1, "big"))
    if (number := properties.priority) is not None:
        flags |= _PRIORITY
        add(number.to_bytes(1, "big"))
    if (text := properties.correlation_id) is not None:
        flags |= _CORRELATION_ID
        add(_written_short(text, "correlation_id"))
    if (text := properties.reply_to) is not None:
        flags |= _REPLY_TO
        add(_written_short(text, "reply_to"))
    if (text := properties.expiration) is not None:
        flags |= _EXPIRATION
        add(_written_short(text, "expiration"))
    if (text := properties.message_id) is not None:
        flags |= _MESSAGE_ID
        add(_written_short(text, "message_id"))
    if (number := properties.timestamp) is not None:
        flags |= _TIMESTAMP
        add(number.to_bytes(8, "big"))
    parts[0] = flags.to_bytes(2, "big")
    return b"".join(parts)


def with_headers(raw: bytes, headers: Mapping[str, Any], *, drop: Collection[str] = ()) -> bytes:
    """The payload of a content header with these headers beside, or instead of, those that it has.

    Args:
        raw: From the property flags on.
        headers: To put in.
        drop: Names of headers to leave out. Who publishes again what the server has dead-lettered drops `x-death`, or
            the server may take the message to go round in circles, and drop it.

    Raises:
        TypeError, ValueError: A header has no form in a table, or `raw` is malformed.
    """
    start, size = _table_place(raw)
    if any(name.encode() in raw for name in (*headers, *drop)):
        kept = {name: value for name, value in headers_of(raw).items() if name not in drop}
        table = _written_entries({**kept, **headers}, _DEEPEST)
    else:
        table = raw[start : start + size] + _written_entries(headers, _DEEPEST)
    flags = (_read_short(raw, 0)[0] | _HEADERS).to_bytes(2, "big")
    has_table = raw[0] & (_HEADERS >> 8)
    return b"%b%b%b%b%b" % (
        flags,
        raw[2 : start - 4 if has_table else start],
        _long(len(table)),
        table,
        raw[start + size :],
    )


def with_expiration(raw: bytes, milliseconds: int | None) -> bytes:
    """The payload of a content header with another expiration, or with none.

    A server drops (or dead-letters) by itself what has expired, unseen by any worker.
    """
    (flags,) = _read_short(raw, 0)
    at = sum(_table_place(raw)) + bool(flags & _DELIVERY_MODE) + bool(flags & _PRIORITY)
    for flag in (_CORRELATION_ID, _REPLY_TO):
        if flags & flag:
            at += 1 + raw[at]
    end = at + 1 + raw[at] if flags & _EXPIRATION else at
    if milliseconds is None:
        text = b""
        flags &= ~_EXPIRATION
    else:
        text = _written_short(str(milliseconds), "expiration")
        flags |= _EXPIRATION
    return b"%b%b%b%b" % (flags.to_bytes(2, "big"), raw[2:at], text, raw[end:])


def _table_place(raw: bytes) -> tuple[int, int]:
    """Where the entries of the table of headers begin, and how many bytes they take; where they would begin, and 0."""
    try:
        (flags,) = _read_short(raw, 0)
        at = 2
        if flags & _CONTENT_TYPE:
            at += 1 + raw[at]
        if flags & _CONTENT_ENCODING:
            at += 1 + raw[at]
        if not flags & _HEADERS:
            return at, 0
        return at + 4, _read_long(raw, at)[0]
    except (IndexError, struct.error) as exc:
        raise ValueError(f"the properties end in the middle of a value, after {len(raw)} bytes") from exc


def _written_short(text: str, what: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) > 255:
        raise ValueError(f"{what} has {len(encoded)} bytes; AMQP takes 255")
    return b"%c%b" % (len(encoded), encoded)


def _written_table(table: Mapping[str, Any], room: int) -> bytes:
    entries = _written_entries(table, room)
    return _long(len(entries)) + entries


def _written_entries(table: Mapping[str, Any], room: int) -> bytes:
    parts: list[bytes] = []
    add = parts.append
    known = _wire_names.get
    for name, value in table.items():
        wire_name = known(name)
        if wire_name is None:
            wire_name = _wire_name(name)
        add(wire_name)
        kind = type(value)
        if kind is str:
            text = value.encode("utf-8", "surrogatepass")
            add(_typed_text(b"S", len(text)))
            add(text)
        elif value is None:
            add(b"V")
        else:
            add(_written_value(value, kind, name, room))
    return b"".join(parts)


def _wire_name(name: str) -> bytes:
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) > 255:
        raise ValueError(f"the name of header {name!r:.80} has {len(encoded)} bytes; AMQP takes 255")
    wire_name = b"%c%b" % (len(encoded), encoded)
    if len(_wire_names) < _KNOWN_NAMES:
        _wire_names[name] = wire_name
    return wire_name


def _written_value(value: Any, kind: type, name: str, room: int) -> bytes:
    if kind is bool:
        return b"t\1" if value else b"t\0"
    if kind is int:
        if -0x80000000 <= value < 0x80000000:
            return _typed_int(b"I", value)
        if -0x8000000000000000 <= value < 0x8000000000000000:
            return _typed_big(b"l", value)
        raise ValueError(f"header {name!r:.80} holds {value!r:.80}; a table takes integers of 64 bits")
    if kind is float:
        return _typed_float(b"d", value)
    if kind is str:
        text: bytes = value.encode("utf-8", "surrogatepass")
        return b"S" + _long(len(text)) + text
    if value is None:
        return b"V"
    if not room:
        raise ValueError(f"header {name!r:.80} is more than {_DEEPEST} deep")
    if isinstance(value, (list, tuple)):
        array = b"".join([_written_value(each, type(each), name, room - 1) for each in value])
        return b"A" + _long(len(array)) + array
    if isinstance(value, Mapping):
        return b"F" + _written_table(value, room - 1)
    if isinstance(value, (bytes, bytearray)):
        return b"S" + _long(len(value)) + value  # as py-amqp: 'x' is not read everywhere
    if isinstance(value, datetime):
        return b"T" + int(value.timestamp()).to_bytes(8, "big")
    if isinstance(value, Decimal):
        sign, digits, exponent = value.as_tuple()
        number = int("".join(map(str, digits)) or "0") * (-1 if sign else 1)
        if isinstance(exponent, int) and -255 <= exponent <= 0 and -0x80000000 <= number < 0x80000000:
            return b"D%c%b" % (-exponent, struct.pack(">i", number))
    raise TypeError(f"header {name!r:.80} holds {value!r:.80}, which has no form in a table")
