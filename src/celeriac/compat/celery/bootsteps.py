"""Bootsteps: the classes can be derived from, but a worker of celeriac's takes none; see `app.steps`."""

from __future__ import annotations

from typing import Any

__all__ = ["Blueprint", "ConsumerStep", "StartStopStep", "Step"]

RUN, CLOSE, TERMINATE = 0x1, 0x2, 0x3


class Step:
    """A part of a worker."""

    name: str | None = None
    label: str | None = None
    requires: Any = ()
    conditional = enabled = last = False

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        """Hook."""

    def include_if(self, parent: Any) -> bool:
        return self.enabled

    def create(self, parent: Any) -> Any:
        """Hook."""


class StartStopStep(Step):
    """A part that starts and stops."""

    obj: Any = None

    def start(self, parent: Any) -> Any:
        """Hook."""

    def stop(self, parent: Any) -> Any:
        """Hook."""

    def close(self, parent: Any) -> Any:
        """Hook."""

    def terminate(self, parent: Any) -> Any:
        """Hook."""


class ConsumerStep(StartStopStep):
    """A part that consumes messages of its own."""

    requires = ("celery.worker.consumer:Connection",)
    consumers: Any = None

    def get_consumers(self, channel: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no get_consumers()")


class Blueprint:
    """How a worker is assembled."""

    default_steps: Any = set()
    name: str | None = None
