"""What the caller of a publish can do while the answer is on its way: building the messages that go next.

A thousand messages keep a server busy about as long as it takes to build the next thousand, so an adapter whose server
is another process does the caller's work between sending and reading. Found here, and not among the arguments of
`Broker.publish`, because only calls for many tasks have such work and only some adapters have the time.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MEANWHILE: Final[ContextVar[Callable[[], None] | None]] = ContextVar("celeriac_meanwhile", default=None)
"""Called once at most, after sending and before reading; it must not raise. An adapter may leave it alone."""
