"""Functions on text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pprint import pformat
from typing import Any

__all__ = [
    "abbr", "abbrtask", "dedent", "ensure_newlines", "ensure_sep", "fill_paragraphs", "indent", "join", "pluralize",
    "pretty", "simple_format", "str_to_list", "truncate",
]  # fmt: skip


def str_to_list(s: Any) -> Any:
    """The parts of a text, separated by commas; a list as it is."""
    return s.split(",") if isinstance(s, str) else s


def dedent(s: str, sep: str = "\n") -> str:
    return textwrap.dedent(s)


def fill_paragraphs(s: str, width: int, sep: str = "\n") -> str:
    return sep.join(textwrap.fill(part, width) for part in s.split(sep))


def join(items: Iterable[str], sep: str = "\n") -> str:
    return sep.join(one for one in items if one)


def ensure_sep(sep: str, s: str, n: int = 2) -> str:
    return s + sep * (n - s.count(sep))


def ensure_newlines(s: str, n: int = 2) -> str:
    return ensure_sep("\n", s, n)


def abbr(S: Any, max: int, ellipsis: str | bool = "...") -> str:
    if S is None:
        return "???"
    if len(S) > max:
        return str(S[: max - len(ellipsis)]) + ellipsis if isinstance(ellipsis, str) and ellipsis else S[:max]
    return str(S)


def abbrtask(S: Any, max: int) -> str:
    if S is None:
        return "???"
    if len(S) > max:
        module, _, name = S.rpartition(".")
        return f"{abbr(module, max - len(name), False)}[.]{name}"
    return str(S)


def indent(t: str, indent: int = 0, sep: str = "\n") -> str:
    return sep.join(" " * indent + line for line in t.split(sep))


def truncate(s: str, maxlen: int = 128, suffix: str = "...") -> str:
    return s if len(s) <= maxlen else s[:maxlen].rsplit(" ", 1)[0] + suffix


def pluralize(n: float, text: str, suffix: str = "s") -> str:
    return text if n == 1 else text + suffix


def pretty(value: Any, width: int = 80, nl_width: int = 80, sep: str = "\n", **kw: Any) -> str:
    return pformat(value, width=nl_width)


def simple_format(s: str, keys: dict[str, Any], pattern: Any = None, expand: str = "") -> str:
    for key, value in keys.items():
        s = s.replace(f"%{key}", str(value))
    return s
