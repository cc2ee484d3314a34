"""What must not be shown: passwords in URLs, wherever they stand in a text, and whatever has a secret's name."""

from __future__ import annotations

import re
from functools import cache
from typing import Final, NamedTuple

_HIDDEN: Final = r"passw|pwd|secret|token|credential|signature|api_?key|access_?key|private_?key"


class _Patterns(NamedTuple):
    userinfo: re.Pattern[str]
    query: re.Pattern[str]
    name: re.Pattern[str]
    next_url: re.Pattern[str]


@cache
def _patterns() -> _Patterns:
    """Compiled when first needed: it takes a millisecond of the import else."""
    return _Patterns(
        # The user part may hold anything but ':' and the password anything but white space, up to the *last* '@': of
        # an ill-formed URL too much is hidden rather than too little. A path after '//' has no password.
        userinfo=re.compile(r"(://(?!/)[^\s:]*:)\S*@"),
        query=re.compile(rf"([?&;][^=&\s]*(?:{_HIDDEN})[^=&\s]*=)[^&\s'\"]*", re.IGNORECASE),
        name=re.compile(_HIDDEN, re.IGNORECASE),
        next_url=re.compile(r"([;,]\s*)(?=[A-Za-z][A-Za-z0-9+.-]*://)"),
    )


def masked(text: str) -> str:
    """Replace every password in the URLs of a text by `***`: in `user:password@`, and in query parameters."""
    if "://" not in text:
        return text
    find = _patterns()
    pieces = find.next_url.split(text)  # in a failover list, each URL has its own last '@'
    return "".join(find.query.sub(r"\1***", find.userinfo.sub(r"\1***@", piece)) for piece in pieces)


def is_list(text: str) -> bool:
    """Whether it is several URLs, behind one another."""
    return _patterns().next_url.search(text) is not None


def is_secret(name: str) -> bool:
    """Whether a setting, option or key of this name holds something that must not be shown."""
    return _patterns().name.search(name) is not None
