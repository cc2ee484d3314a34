"""Events of workers and tasks."""

from __future__ import annotations

from typing import Any

from celeriac.clock import SYSTEM_CLOCK
from celeriac.compat.celery.events.dispatcher import EventDispatcher
from celeriac.compat.celery.events.receiver import EventReceiver

__all__ = ["Event", "EventDispatcher", "EventReceiver", "group_from"]


def Event(type: str, _fields: Any = None, __dict__: Any = dict, __now__: Any = None, **fields: Any) -> dict[str, Any]:
    """An event: a dict with a type and a moment."""
    event = {**(_fields or {}), **fields, "type": type}
    event.setdefault("timestamp", SYSTEM_CLOCK.time())
    return event


def group_from(type: str) -> str:
    """The part of a type before the first dash."""
    return type.split("-", 1)[0]
