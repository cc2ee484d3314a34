"""Exceptions and text as data."""

from __future__ import annotations

import base64
from typing import Any

__all__ = [
    "b64decode", "b64encode", "create_exception_cls", "get_pickleable_exception", "raise_with_context", "strtobool",
    "subclass_exception",
]  # fmt: skip


def subclass_exception(name: str, parent: type, module: str) -> type:
    return type(name, (parent,), {"__module__": module})


def create_exception_cls(name: str, module: str, parent: type | None = None) -> type:
    """A class of an exception whose own is not here."""
    return subclass_exception(name, parent or Exception, module)


def get_pickleable_exception(exc: BaseException) -> BaseException:
    """The exception: nothing is pickled here."""
    return exc


def strtobool(term: Any, table: Any = None) -> Any:
    """True or False, of a text that means it."""
    known = table or {
        "false": False,
        "no": False,
        "0": False,
        "true": True,
        "yes": True,
        "1": True,
        "on": True,
        "off": False,
    }
    if not isinstance(term, str):
        return term
    try:
        return known[term.lower()]
    except KeyError:
        raise TypeError(f"{term!r} means neither true nor false") from None


def b64encode(s: str | bytes) -> str:
    return base64.b64encode(s.encode() if isinstance(s, str) else s).decode()


def b64decode(s: str | bytes) -> bytes:
    return base64.b64decode(s)


def raise_with_context(exc: BaseException) -> None:
    """Raise, with what is being handled as its cause."""
    raise exc
