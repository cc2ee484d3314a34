"""SQL lives in `.sql` files; this reads the named statements out of one."""

from __future__ import annotations

import pkgutil  # importlib.resources would bring zipfile and tempfile, a megabyte of a worker's memory
import re

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def load(package: str, file: str, **fragments: str) -> dict[str, str]:
    """Read `{name: statement}` from a file whose statements are headed by `-- name: …` lines.

    Args:
        package: Dotted name of the package the file lies in.
        file: Its name.
        fragments: Text to put in place of `/*name*/`, for a rule that two files share.
    """
    text = (pkgutil.get_data(package, file) or b"").decode()
    for name, fragment in fragments.items():
        text = text.replace(f"/*{name}*/", fragment)
    pieces = _NAME.split(text)
    return {name: body.strip().removesuffix(";") for name, body in zip(pieces[1::2], pieces[2::2], strict=True)}
