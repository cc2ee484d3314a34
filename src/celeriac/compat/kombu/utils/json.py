"""JSON with markers for the types that JSON lacks, as tasks' arguments are written."""

from __future__ import annotations

import json
from typing import Any

from celeriac.codec.values import register_type as _register
from celeriac.codec.values import revive, to_plain

__all__ = ["JSONEncoder", "dumps", "loads", "register_type"]

_ROOM = 64


class JSONEncoder(json.JSONEncoder):
    """An encoder for `json.dumps(cls=…)`."""

    def default(self, o: Any) -> Any:
        return to_plain(o, _ROOM)


def dumps(s: Any, _dumps: Any = json.dumps, cls: Any = None, default_kwargs: Any = None, **kwargs: Any) -> str:
    """A value as text."""
    text: str = _dumps(s, cls=cls, **kwargs) if cls is not None else _dumps(to_plain(s, _ROOM), **kwargs)
    return text


def loads(s: Any, _loads: Any = json.loads, decode_bytes: bool = True, object_hook: Any = None) -> Any:
    """A value of text."""
    if isinstance(s, (bytes, bytearray, memoryview)):
        s = bytes(s).decode()
    return _loads(s, object_hook=object_hook) if object_hook is not None else revive(_loads(s))


def register_type(typ: type, marker: str, encoder: Any, decoder: Any) -> None:
    """Give a type a marker of its own, in tasks' arguments and results too."""
    _register(typ, marker, encoder, decoder)
