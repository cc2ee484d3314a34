"""Options that take JSON text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable


def json_text(kind: type, wanted: str, example: str) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """The callback of an option that takes a JSON text of one type.

    Args:
        kind: Of the value.
        wanted: What it is called.
        example: One.
    """

    def read(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
        if value is None:
            return None
        try:
            found = json.loads(value)
        except ValueError as exc:
            why = f"is not JSON ({exc})"
        else:
            if isinstance(found, kind):
                return found
            why = f"is not {wanted}"
        raise click.BadParameter(f"{value!r} {why}; write for example '{example}'", context, parameter)

    return read
