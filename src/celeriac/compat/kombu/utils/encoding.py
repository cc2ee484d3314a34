"""Text and bytes."""

from __future__ import annotations

from typing import Any

__all__ = ["bytes_to_str", "ensure_bytes", "safe_repr", "safe_str", "str_to_bytes"]


def str_to_bytes(s: Any) -> Any:
    return s.encode() if isinstance(s, str) else s


def bytes_to_str(s: Any) -> Any:
    return s.decode("utf-8", "replace") if isinstance(s, bytes) else s


ensure_bytes = str_to_bytes
from_utf8 = default_encode = lambda s, *args, **kwargs: s


def safe_str(s: Any, errors: str = "replace") -> str:
    return str(bytes_to_str(s))


def safe_repr(o: Any, errors: str = "replace") -> str:
    try:
        return repr(o)
    except Exception as exc:
        return f"<{type(o).__name__}: {type(exc).__name__}>"


def default_encoding(file: Any = None) -> str:
    return "utf-8"
