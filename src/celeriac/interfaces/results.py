"""The socket a result store plugs into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from celeriac.model import StoredResult, TaskId


class ResultStore(Protocol):
    """Keeps one state and result per task id. Synchronous calls are safe from threads and after `fork()`."""

    @property
    def url(self) -> str:
        """As `Broker.url`; where both are equal, results travel inside `Consumer.settle`."""

    def put(self, results: Sequence[StoredResult], /) -> Sequence[bool]:
        """Write results; one answer each: False says that `states.may_follow` refused it (a final state stays).

        Raises:
            BrokerUnavailableError: Not reached; nothing is known.
        """

    async def aput(self, results: Sequence[StoredResult], /) -> Sequence[bool]:
        """As `put`, without blocking the event loop."""

    def get(self, ids: Collection[TaskId], /) -> Mapping[TaskId, StoredResult]:
        """Read what is stored; ids without a result are left out, expired ones too.

        `expires_at` is None where the engine keeps the expiry to itself.
        """

    async def aget(self, ids: Collection[TaskId], /) -> Mapping[TaskId, StoredResult]:
        """As `get`, without blocking the event loop."""

    def wait(self, ids: Collection[TaskId], /, *, timeout_s: float) -> Mapping[TaskId, StoredResult]:
        """Block until at least one of these has a final result, or `timeout_s` is over.

        Returns:
            The final ones among them (all that are final by then); empty after the timeout.
        """

    async def await_final(self, ids: Collection[TaskId], /, *, timeout_s: float) -> Mapping[TaskId, StoredResult]:
        """As `wait`, as a coroutine."""

    def forget(self, ids: Sequence[TaskId], /) -> None:
        """Delete results; unknown ids are fine."""

    def expire(self, /, *, limit: int) -> int:
        """Delete up to `limit` results whose time is over; returns how many.

        None, where the engine does so by itself.
        """

    def close(self) -> None:
        """Close this process's connections. Safe to call twice; using the store again reopens them."""
