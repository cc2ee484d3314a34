"""Code of the user's around every publish and every run, like the middleware of a web framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from celeriac.engine.attempt import Attempt
    from celeriac.model import Outgoing


class Middleware:
    """Override what you need; the first one registered is the outermost.

    An exception raised in `run` or `arun` is the task's own: it is retried or stored as if the task had raised it.
    """

    def publish(self, messages: Sequence[Outgoing], send: Callable[[Sequence[Outgoing]], None]) -> None:
        """Around a publish. Hand `messages`, or others in their place, to `send`; not calling it sends nothing."""
        send(messages)

    def run(self, request: Attempt, call: Callable[[], Any]) -> Any:
        """Around a `def` task. Return what `call()` returns, or something else."""
        return call()

    async def arun(self, request: Attempt, call: Callable[[], Awaitable[Any]]) -> Any:
        """Around an `async def` task."""
        return await call()
