"""Lua scripts from files: loaded once, run by their digest, loaded again where a server does not know them."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

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
    folder = files(package)
    lines = []
    for line in folder.joinpath(f"{name}.lua").read_text("utf-8").splitlines():
        if line.startswith(_INCLUDE):
            other = folder.joinpath(line.removeprefix(_INCLUDE).strip())
            if not other.is_file():
                other = files(__package__ or "").joinpath(line.removeprefix(_INCLUDE).strip())
            lines += other.read_text("utf-8").splitlines()
        else:
            lines.append(line)
    # what a server keeps of a script should be short: without comments and indentation
    kept = [text for line in lines if (text := line.strip()) and not text.startswith("--")]
    return Script(name, "\n".join(kept) + "\n")
