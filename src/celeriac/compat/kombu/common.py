"""What many messages have in common."""

from __future__ import annotations

from typing import Any

from celeriac.compat.kombu.utils.uuid import uuid
from celeriac.errors import NotSupportedError

__all__ = ["Broadcast", "maybe_declare", "uuid"]


def Broadcast(name: str | None = None, queue: str | None = None, *args: Any, **kwargs: Any) -> Any:
    """Not there: a queue whose every message goes to every worker."""
    raise NotSupportedError(
        f"Broadcast({name or queue!r}): a task goes to one worker. For something that every worker shall do, use a "
        "remote-control command (@control_command and app.control.broadcast)"
    )


def maybe_declare(entity: Any, channel: Any = None, retry: bool = False, **retry_policy: Any) -> bool:
    """Queues are made when they are used."""
    return False
