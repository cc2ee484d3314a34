"""The socket a result store plugs into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from celeriac.model import Arrival, Join, Record, StoredResult, TaskId


class ResultStore(Protocol):
    """Keeps one state and result per task id. Synchronous calls are safe from threads and after `fork()`."""

    @property
    def url(self) -> str:
        """As `Broker.url`; where both are equal, results travel inside `Consumer.settle`."""

    @property
    def has_joins(self) -> bool:
        """Whether it keeps joins and records; where it does not, their methods raise ConfigError."""

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

    def gather(self, ids: Sequence[TaskId], /, *, timeout_s: float) -> Iterator[StoredResult]:
        """Wait for all of these, in order, and hand out each final result as it is reached.

        For ten thousand as cheap as may be: what is final is read in large pieces, and waiting is for the first that
        is not. Ends early, without an error, when `timeout_s` is over.
        """

    # -- joins (model/workflow.py) -----------------------------------------------------------------------------------

    def open_joins(self, joins: Sequence[Join], /) -> None:
        """Open joins; safe to repeat. Before their members are published, or those would arrive for nobody."""

    async def aopen_joins(self, joins: Sequence[Join], /) -> None:
        """As `open_joins`, without blocking the event loop."""

    def arrive(self, arrivals: Sequence[Arrival], /) -> Sequence[bool]:
        """Let members arrive, where they are not settled by a broker that does it with the settlement.

        Returns:
            One answer each: True says that its join is complete and not closed, so its `release` must be published;
            every repeat says so too, until it is closed. False also where somebody else (a worker of Celery's) has
            taken it upon himself.
        """

    async def aarrive(self, arrivals: Sequence[Arrival], /) -> Sequence[bool]:
        """As `arrive`, without blocking the event loop."""

    def extend_join(self, join: str, member: str, /) -> None:
        """Make an open join wait for one more member; for the same member again, nothing changes."""

    def members(self, join: str, /) -> Sequence[bytes] | None:
        """The payloads of what has arrived, by position; None: the join is closed, or not known."""

    async def aclose_joins(self, ids: Sequence[str], /) -> None:
        """Drop their members, and remember for a while (an hour at least, or their expiry) that they are closed."""

    # -- records -----------------------------------------------------------------------------------------------------

    def save(self, records: Sequence[Record], /) -> None:
        """Write records, over what is there."""

    async def asave(self, records: Sequence[Record], /) -> None:
        """As `save`, without blocking the event loop."""

    def load(self, kind: str, ids: Collection[str], /) -> Mapping[str, bytes]:
        """Payloads of records; ids that are not there, or whose time is over, are left out."""

    def discard(self, kind: str, ids: Sequence[str], /) -> None:
        """Delete records; unknown ids are fine."""

    # -- the rest ----------------------------------------------------------------------------------------------------

    def forget(self, ids: Sequence[TaskId], /) -> None:
        """Delete results; unknown ids are fine."""

    def expire(self, /, *, limit: int) -> int:
        """Delete up to `limit` results, joins and records whose time is over; returns how many.

        None, where the engine does so by itself.
        """

    def close(self) -> None:
        """Close this process's connections. Safe to call twice; using the store again reopens them."""


@runtime_checkable
class Mailbox(Protocol):
    """A result store that keeps nothing: a result is sent to the process that sent the task, and lives there.

    `put` sends to `StoredResult.reply_to`, or nowhere without one; whoever reads sees only what was sent to his own
    process. Joins are kept nowhere (`ResultStore.has_joins`).
    """

    @property
    def address(self) -> str:
        """What this process's messages name as the place for their results; nothing is connected for it."""

    @property
    def is_listening(self) -> bool:
        """Whether results sent to `address` arrive, or wait on the server."""

    def listen(self) -> None:
        """Make sure of that. To be called before a message is published that names the address.

        Raises:
            BrokerUnavailableError: The server was not reached in time.
        """
