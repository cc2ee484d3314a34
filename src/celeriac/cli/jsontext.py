"""Options that take JSON text."""

from __future__ import annotations

import json
from typing import Any

import click


class JsonText(click.ParamType):
    """A JSON text of one type.

    Args:
        kind: Of the value.
        wanted: What it is called.
        example: One.
    """

    name = "json"

    def __init__(self, kind: type, wanted: str, example: str) -> None:
        self._kind, self._wanted, self._example = kind, wanted, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            found = json.loads(value)
        except ValueError as exc:
            why = f"is not JSON ({exc})"
        else:
            if isinstance(found, self._kind):
                return found
            why = f"is not {self._wanted}"
        self.fail(f"{value!r} {why}; write for example '{self._example}'", param, ctx)
