"""The socket for remote control: commands to workers, replies back, in Celery's form (protocol section 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence


class LogicalClock(Protocol):
    """Lamport's clock: orders what different hosts say without trusting their wall clocks."""

    @property
    def value(self) -> int:
        """Where it stands."""

    def forward(self) -> int:
        """One on, for something that is sent; the new value."""

    def adjust(self, other: int, /) -> int:
        """Past `other`, which came with something that was received; the new value."""


class ControlServer(Protocol):
    """The worker's end; answers until closed."""

    async def close(self) -> None:
        """Stop answering."""


class ControlChannel(Protocol):
    """Reaches the workers that share a broker."""

    async def serve(
        self,
        node: str,
        handler: Callable[[str, Mapping[str, Any]], Awaitable[Any]],
        /,
        *,
        clock: LogicalClock | None = None,
    ) -> ControlServer:
        """Answer commands for `node`: each goes to `handler(method, arguments)`, whose return value is the reply.

        A reply must be JSON; a handler that raises is answered as `{"error": text}`. `clock` goes with commands and
        replies where the channel's form has a place for it.
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

    def close(self) -> None:
        """Close this process's connections; calls open them again. Safe to call twice."""
