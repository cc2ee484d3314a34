"""Calls whose message is not sent, but caught for somebody who sends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celeriac.model import Outgoing


class Caught:
    """The message that a call would send, where somebody else is to send it."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.message: Outgoing | None = None

    def takes(self, message: Outgoing) -> bool:
        """Whether this is it."""
        if self.message is not None or message.task != self.task:
            return False
        self.message = message
        return True


CATCHING: ContextVar[Caught | None] = ContextVar("celeriac_compat_catching", default=None)


@contextmanager
def catching(task: str) -> Iterator[Caught]:
    """Have the first message of a task caught in this thread."""
    caught = Caught(task)
    token = CATCHING.set(caught)
    try:
        yield caught
    finally:
        CATCHING.reset(token)
