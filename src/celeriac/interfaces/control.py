"""The socket for remote control: commands to workers, replies back, in Celery's form (protocol section 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence


class ControlServer(Protocol):
    """The worker's end; answers until closed."""

    async def close(self) -> None:
        """Stop answering."""


class ControlChannel(Protocol):
    """Reaches the workers that share a broker."""

    async def serve(self, node: str, handler: Callable[[str, Mapping[str, Any]], Awaitable[Any]], /) -> ControlServer:
        """Answer commands for `node`: each goes to `handler(method, arguments)`, whose return value is the reply.

        A reply must be JSON; a handler that raises is answered as `{"error": text}`.
        """

    def call(
        self,
        method: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        destination: Sequence[str] | None = None,
        timeout_s: float = 1.0,
        reply: bool = True,
    ) -> Mapping[str, Any]:
        """Send a command and collect `{node: reply}`.

        Returns as soon as every worker that is known to be up has answered, at the latest after `timeout_s`.
        """
