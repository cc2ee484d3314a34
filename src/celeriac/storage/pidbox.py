"""Remote control as Celery's processes speak it (protocol section 11), without the engine that carries it.

Every channel in Celery's form reads commands here, so that all of them refuse the same hostile ones.
"""

from __future__ import annotations

import fnmatch
import re
import threading
import uuid
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from celeriac.clock import ENTROPY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_AT_ONCE: Final = 100
"""Commands that a worker answers at a time; more are dropped."""
MOST_BYTES: Final = 16 << 20
"""Of one command, reply or batch of events; what is longer is not read."""
_MOST_PATTERN: Final = 200


class Command(NamedTuple):
    """A command to one worker, found to be in order."""

    method: str
    arguments: dict[str, Any]
    reply_to: tuple[str, str] | None
    """Exchange and routing key, where the sender waits for a reply."""
    ticket: Any


def request(method: str, arguments: Mapping[str, Any] | None, destination: Sequence[str] | None) -> dict[str, Any]:
    """The body of a command that nobody has to reply to."""
    return {
        "method": method,
        "arguments": dict(arguments or {}),
        "destination": None if destination is None else list(destination),
        "pattern": None,
        "matcher": None,
    }


def read(body: Any, node: str) -> Command | None:
    """The command in a message's body; None where it is not meant for `node`.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: It is none.
    """
    method, arguments = body["method"], body.get("arguments") or {}
    if not isinstance(method, str) or not isinstance(arguments, dict):
        raise ValueError(f"method {method!r} with arguments of type {type(arguments).__name__}")
    if not _is_meant(body, node):
        return None
    reply_to = body.get("reply_to")
    if reply_to is None:
        return Command(method, arguments, None, None)
    exchange, routing_key = reply_to["exchange"], reply_to["routing_key"]
    if not (isinstance(exchange, str) and isinstance(routing_key, str)):
        raise ValueError(f"reply_to {reply_to!r}")
    return Command(method, arguments, (exchange, routing_key), body.get("ticket"))


def _is_meant(body: Mapping[str, Any], node: str) -> bool:
    destination, pattern, matcher = body.get("destination"), body.get("pattern"), body.get("matcher")
    if destination:
        return isinstance(destination, list) and node in destination
    if pattern and matcher:
        return matches(node, pattern, matcher)
    return True


def matches(node: str, pattern: Any, matcher: Any) -> bool:
    """Whether a node's name is meant by a pattern; False also for one that would take for ever to find out.

    Raises:
        ValueError: There is no such matcher, or the pattern is none.
    """
    if not isinstance(pattern, str) or len(pattern) > _MOST_PATTERN:
        raise ValueError("a pattern that is no text, or too long")
    if matcher == "glob":
        return fnmatch.fnmatchcase(node, pattern)
    if matcher != "pcre":
        raise ValueError(f"matcher {matcher!r} is neither 'glob' nor 'pcre'")
    if re.search(r"\)\s*[*+{]", pattern) or len(re.findall(r"[*+{]", pattern)) > 4:
        raise ValueError(f"pattern {pattern!r} repeats too much")
    try:
        return re.match(pattern, node) is not None
    except re.error as exc:
        raise ValueError(f"pattern {pattern!r}: {exc}") from exc


class Count:
    """Lamport's clock of one process."""

    def __init__(self) -> None:
        self._value = 0
        self._lock = threading.Lock()

    @property
    def value(self) -> int:
        return self._value

    def forward(self) -> int:
        return self.adjust(0)

    def adjust(self, other: int, /) -> int:
        with self._lock:
            self._value = max(self._value, other if 0 <= other < 1 << 62 else 0) + 1
            return self._value


def new_id() -> str:
    """A random UUID, as text."""
    return str(uuid.UUID(int=ENTROPY.getrandbits(128), version=4))


def number(value: Any) -> int:
    """A logical clock from a header; 0 where there is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
