"""Messages that once did what no message may do, one file each, named after what it was.

A part is a list of pieces: text; `{"base64": …}`; `{"repeat": piece, "times": n}`; `{"zlib": [pieces]}`. That keeps
files small whose messages are large.
"""

from __future__ import annotations

import zlib
from base64 import b64decode
from pathlib import Path
from typing import Any

import msgspec

from chaos.hostile.messages import Form, Raw

FOLDER = Path(__file__).parent


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file."""

    form: Form
    what: str
    """What it did, and where."""
    becomes: str
    """What must become of it, as `Targets.take` says."""
    parts: tuple[list[Any], ...]

    @property
    def raw(self) -> Raw:
        return Raw(self.form, tuple(map(joined, self.parts)))


def joined(pieces: list[Any]) -> bytes:
    """The bytes that pieces stand for."""
    return b"".join(map(_bytes, pieces))


def _bytes(piece: Any) -> bytes:
    match piece:
        case str():
            return piece.encode()
        case {"base64": text}:
            return b64decode(text)
        case {"repeat": text, "times": times}:
            return _bytes(text) * times
        case {"zlib": pieces}:
            return zlib.compress(joined(pieces))
    raise ValueError(f"{piece!r:.80} is no piece of a part")


def corpus() -> dict[str, Kept]:
    """All of them by name."""
    return {path.stem: msgspec.json.decode(path.read_bytes(), type=Kept) for path in sorted(FOLDER.glob("*.json"))}
