"""Lua scripts from files: loaded once, run by their digest, loaded again where a server does not know them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_INCLUDE = "-- include "


class Script:
    """One Lua script. Its digest names its version: a server runs exactly the text this package was shipped with.

    Args:
        name: For messages.
        text: Lua.
    """

    __slots__ = ("digest", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@cache
def load(package: str, name: str) -> Script:
    """Read `<name>.lua` of a package.

    A line `-- include other.lua` stands for that file of the same folder, or of this module's.
    """
    # what a server keeps of a script should be short: without comments and indentation
    lines = [text for line in _read(package, f"{name}.lua") if (text := line.strip()) and not text.startswith("--")]
    return Script(name, "\n".join(lines) + "\n")


def _read(package: str, name: str) -> Iterator[str]:
    path = files(package).joinpath(name)
    if not path.is_file():
        path = files(__package__ or "").joinpath(name)
    for line in path.read_text("utf-8").splitlines():
        if line.startswith(_INCLUDE):
            yield from _read(package, line.removeprefix(_INCLUDE).strip())
        else:
            yield line
