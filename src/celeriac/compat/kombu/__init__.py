"""Names of kombu that applications import, for where kombu is not installed."""

from __future__ import annotations

from typing import Any

from celeriac.compat.connection import Connection as _Connection
from celeriac.compat.kombu.entity import Exchange, Queue, binding
from celeriac.compat.kombu.utils.uuid import uuid
from celeriac.errors import NotSupportedError

__version__ = "5.7.0"
VERSION = (5, 7, 0)
__all__ = ["Connection", "Consumer", "Exchange", "Producer", "Queue", "binding", "uuid"]


def Connection(hostname: Any = "localhost", *args: Any, **kwargs: Any) -> _Connection:
    """A connection to the broker at a URL, for looking whether it is there and how much waits."""
    from celeriac.compat.celery.app.base import Celery

    app = Celery("kombu", broker=hostname, set_as_current=False, fixups=[])
    return _Connection(app)


def Producer(*args: Any, **kwargs: Any) -> Any:
    """Not there."""
    raise NotSupportedError("kombu.Producer: celeriac carries tasks; install kombu for messages of other kinds")


def Consumer(*args: Any, **kwargs: Any) -> Any:
    """Not there."""
    raise NotSupportedError("kombu.Consumer: celeriac carries tasks; install kombu for messages of other kinds")


def enable_insecure_serializers(choices: Any = None) -> None:
    """Not there: pickle could run any code on a worker."""
    raise NotSupportedError("pickle and yaml are not offered: a message could run any code; use json or msgpack")


def disable_insecure_serializers(allowed: Any = None) -> None:
    """They are not there in the first place."""
