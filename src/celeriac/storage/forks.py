"""What must not cross a `fork()`: connections, locks, bound sockets. Whoever keeps such things registers here."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Holds something that only the process that made it may use."""

    def before_fork(self) -> None:
        """Let go of what is idle, in the parent."""

    def after_fork(self) -> None:
        """Forget the rest, in the child, and make fresh locks."""


_KEEPERS: WeakSet[Forkable] = WeakSet()


def register(keeper: Forkable) -> None:
    """Have the keeper told about forks for as long as it lives."""
    _KEEPERS.add(keeper)


def _before() -> None:
    for keeper in list(_KEEPERS):
        keeper.before_fork()


def _after() -> None:
    for keeper in list(_KEEPERS):
        keeper.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_after)
