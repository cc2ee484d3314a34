"""Settings and their defaults."""

from __future__ import annotations

from typing import Any

from celeriac.app.settings.celery_names import nearest, resolve
from celeriac.app.settings.table import OPTIONS

__all__ = ["DEFAULTS", "NAMESPACES", "SETTING_KEYS", "Option", "find"]


class Option:
    """One setting."""

    def __init__(self, default: Any = None, *args: Any, **kwargs: Any) -> None:
        self.default = default
        self.type = kwargs.get("type", "string")


DEFAULTS: dict[str, Any] = {name: option.default_value() for name, option in OPTIONS.items()}
SETTING_KEYS = set(DEFAULTS)
NAMESPACES: dict[str, dict[str, Option]] = {}
for _name, _default in DEFAULTS.items():
    _group, _, _rest = _name.partition("_")
    NAMESPACES.setdefault(_group, {})[_rest] = Option(_default)


def find(name: str, namespace: str = "celery") -> Any:
    """The setting that a name means."""
    new = resolve(name) or nearest(name)
    return new.partition("_")[0], new.partition("_")[2], Option(DEFAULTS.get(new))
