"""What a flow needs of the application it belongs to; this room does not see the application itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.codec import Codec
    from celeriac.flow.definition import FlowDefinition
    from celeriac.flow.ending import Ending
    from celeriac.flow.target import Target
    from celeriac.interfaces import ResultStore
    from celeriac.model import Outgoing, Record, StoredResult


class Host(Protocol):
    """The application, as flows see it."""

    @property
    def codec(self) -> Codec: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def max_steps(self) -> int:
        """Of one flow, and elements of one `each`."""

    @property
    def flows(self) -> Mapping[str, FlowDefinition[Any, Any]]:
        """By name."""

    @property
    def ending(self) -> Ending:
        """Hands on what steps end with."""

    @property
    def queue(self) -> str:
        """Of the messages that drive a run."""

    def target(self, what: Any) -> Target:
        """What `flow.step` was given, as something to run.

        Raises:
            NotRegistered: A task or flow that this application does not have.
            FlowError: It is neither.
        """

    def check_ready(self, flow: str) -> None:
        """Whether flows can run at all.

        Raises:
            ConfigError: Results are disabled, or tasks run eagerly.
        """

    def store(self) -> ResultStore: ...

    def message(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: dict[str, Any]) -> Outgoing:
        """A message of a task, routed."""

    def record(self, kind: str, record_id: str, payload: bytes) -> Record:
        """A record that is kept as long as those of a run are."""

    def result(self, task_id: str, state: str, value: Any) -> StoredResult:
        """A result; of an exception state, `value` is what `encode_exception` made."""

    def publish(self, messages: Sequence[Outgoing]) -> None: ...

    def revoke(self, ids: Sequence[str], *, terminate: bool) -> None:
        """Forbid tasks to start; those that wait are settled as revoked, and what follows them is told."""

    def wait(self, run: str, timeout: float | None) -> Any:
        """The result of a task id, as `AsyncResult.get`."""

    async def await_(self, run: str, timeout: float | None) -> Any: ...  # noqa: ASYNC109 - as AsyncResult has it
