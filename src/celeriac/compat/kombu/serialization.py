"""Serializers: JSON; others may be registered, and used by who calls `dumps` and `loads` himself."""

from __future__ import annotations

from typing import Any

from celeriac.compat.kombu.utils import json
from celeriac.errors import ContentDisallowed, NotSupportedError

__all__ = ["dumps", "loads", "register", "registry", "unregister"]


class Registry:
    """Serializers by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, tuple[Any, Any, str, str]] = {}
        self.type_to_name: dict[str, str] = {}

    def register(
        self, name: str, encoder: Any, decoder: Any, content_type: str, content_encoding: str = "utf-8"
    ) -> None:
        """Add a serializer, for `dumps` and `loads` of this module; tasks are JSON or msgpack."""
        self._by_name[name] = (encoder, decoder, content_type, content_encoding)
        self.type_to_name[content_type] = name

    def unregister(self, name: str) -> None:
        content_type = self._by_name.pop(name)[2]
        self.type_to_name.pop(content_type, None)

    def enable(self, name: str) -> None:
        """All that are registered are enabled."""

    disable = enable

    def _find(self, name: str) -> tuple[Any, Any, str, str]:
        if name not in self._by_name:
            raise NotSupportedError(f"serializer {name!r} is not there; there are {', '.join(self._by_name)}")
        return self._by_name[name]

    def dumps(self, data: Any, serializer: str | None = None) -> tuple[str, str, Any]:
        """(content type, content encoding, text)."""
        encoder, _, content_type, encoding = self._find(serializer or "json")
        return content_type, encoding, encoder(data)

    def loads(
        self, data: Any, content_type: str, content_encoding: str, accept: Any = None, force: bool = False, **kw: Any
    ) -> Any:
        """The value."""
        name = self.type_to_name.get(content_type, content_type)
        if accept is not None and not {name, content_type} & set(accept):
            raise ContentDisallowed(f"content of type {content_type!r} is not accepted")
        return self._find(name)[1](data) if data else data


registry = Registry()
registry.register("json", json.dumps, json.loads, "application/json")
dumps, loads, register, unregister = registry.dumps, registry.loads, registry.register, registry.unregister


def prepare_accept_content(content_types: Any, name_to_type: Any = None) -> Any:
    """Content types of names."""
    if content_types is None:
        return None
    return {registry._by_name[one][2] if one in registry._by_name else one for one in content_types}
