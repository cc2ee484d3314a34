"""Stamps: names and values that a caller puts on signatures and that travel in the headers of their messages.

In a signature's options they are flat, as Celery has them: `stamped_headers` lists their names, and each is an option.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = "stamped_headers"


class StampingVisitor(ABC):
    """Says which stamps to put on the parts of a workflow: `sig.stamp(visitor=MyVisitor())`.

    Each hook returns stamps as a dict, or nothing. With a key `stamped_headers`, only the names listed there are
    stamps. Each is told the stamps so far as keywords.
    """

    @abstractmethod
    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        """For each task."""

    def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:
        """For all members of a group."""
        return {}

    def on_group_end(self, group: Any, **headers: Any) -> None:  # noqa: B027 - most need none
        """The group is stamped."""

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:
        """For all tasks of a chain."""
        return {}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:  # noqa: B027 - most need none
        """The chain is stamped."""

    def on_chord_header_start(self, sig: Any, **header: Any) -> dict[str, Any]:
        """For the header of a chord and its body; asks `on_group_start` unless overridden."""
        return self.on_group_start(sig.header_group(), **header)

    def on_chord_header_end(self, sig: Any, **header: Any) -> None:
        """The header is stamped."""
        self.on_group_end(sig.header_group(), **header)

    def on_chord_body(self, sig: Any, **header: Any) -> dict[str, Any]:
        """For the body of a chord; `sig` is the chord."""
        return {}

    def on_callback(self, callback: Any, **header: Any) -> dict[str, Any]:
        """For each callback of a task."""
        return {}

    def on_errback(self, errback: Any, **header: Any) -> dict[str, Any]:
        """For each error callback of a task."""
        return {}


def collect(
    headers: Mapping[str, Any], visited: Mapping[str, Any] | None, own: Mapping[str, Any] | None, append: bool
) -> dict[str, Any]:
    """Put stamps together, the nearest to the caller first: where a name is met again, its first value stays.

    Args:
        headers: Those of the call, or of the workflow around.
        visited: A visitor's.
        own: Options of the signature, for the stamps that it has already.
        append: Keep all values of a name, as a list, and not the first.
    """
    found = dict(headers)
    names = list(found.pop(NAMES, found))
    if visited is not None:
        names += visited.get(NAMES, visited)
        _merge(found, {key: value for key, value in visited.items() if key != NAMES}, append)
    if own is not None:
        names += own.get(NAMES) or ()
        _merge(found, {key: own[key] for key in dict.fromkeys(names) if key in own}, append)
    found[NAMES] = list(dict.fromkeys(names))
    return found


def _merge(into: dict[str, Any], more: Mapping[str, Any], append: bool) -> None:
    for key, value in more.items():
        known = into.get(key)
        if key not in into:
            into[key] = value
        elif isinstance(known, dict) and isinstance(value, dict):
            into[key] = {**known}
            _merge(into[key], value, append)
        elif isinstance(known, list) and isinstance(value, list):
            into[key] = [*known, *value]
        elif append:
            values = [] if known is None else list(known) if isinstance(known, (list, tuple, set)) else [known]
            into[key] = [*values, *value] if isinstance(value, list) else [*values, value]


def as_headers(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a call, with stamps as its message has them: under `stamps`."""
    names = options.get(NAMES)
    if not names:
        return options
    stamps = {**(options.get("stamps") or {}), **{name: options[name] for name in names if name in options}}
    rest = {key: value for key, value in options.items() if key not in stamps}
    return {**rest, NAMES: list(names), "stamps": stamps}
