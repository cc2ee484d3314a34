"""The socket for events: what workers and producers tell monitors, in Celery's form (protocol section 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Event = Mapping[str, Any]
    """`type`, `hostname`, `timestamp`, `utcoffset`, `pid`, `clock`, and what the type adds; JSON values only."""


class EventReceiver(Protocol):
    """A monitor's end: gets what is published while it is open."""

    def receive(self, /, *, timeout_s: float) -> Sequence[Event]:
        """Events in the order of their arrival; empty when none came in time.

        Raises:
            BrokerUnavailableError: The connection is lost; call again to connect anew. What was sent meanwhile is gone.
        """

    def close(self) -> None:
        """Stop listening. Safe to call twice."""


class EventChannel(Protocol):
    """Carries events to whoever listens now. Nothing is kept for those who come later."""

    def publish(self, events: Sequence[Event], /) -> None:
        """Send events in one round trip, in this order.

        Raises:
            BrokerUnavailableError: Not reached within the adapter's timeout; some may have been sent.
        """

    async def apublish(self, events: Sequence[Event], /) -> None:
        """As `publish`, without blocking the event loop."""

    def listen(self) -> EventReceiver:
        """Listen to all events from now on."""

    async def aclose(self) -> None:
        """Close what the running loop has used. Safe to call twice."""

    def close(self) -> None:
        """Close this process's other connections. Safe to call twice."""
