"""How an ended attempt becomes what the broker and the result store are told; shared by executor and supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from celeriac.codec import ResultMeta, encode_exception, iso_from_epoch
from celeriac.errors import TaskRevokedError
from celeriac.model import StoredResult
from celeriac.model.states import FAILURE, RETRY, REVOKED, SUCCESS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeriac.clock import Clock
    from celeriac.codec import Codec
    from celeriac.engine.attempt import Attempt
    from celeriac.model import Outgoing


class Continuation(Protocol):
    """What follows a task: links, chains, chords. The engine is handed one and never looks inside."""

    def after_success(self, attempt: Attempt, value: Any) -> Sequence[Outgoing]:
        """Messages to publish with the success of `attempt`; their ids are a function of its id and message."""

    def after_failure(self, attempt: Attempt, exc: BaseException, traceback: str | None = None) -> Sequence[Outgoing]:
        """Messages to publish with its final failure; error callbacks that are called, not sent, are called here."""


class ErrorInfo(msgspec.Struct, frozen=True):
    """An exception with its traceback as text; what hooks and signals get as `einfo`."""

    exception: BaseException
    traceback: str

    @property
    def type(self) -> type[BaseException]:
        return type(self.exception)

    def __str__(self) -> str:
        return self.traceback


class ResultWriter:
    """Turns the end of an attempt into a `StoredResult`, in Celery's result form."""

    __slots__ = ("_clock", "_codec", "_expires_s", "_extended", "_failure_expires_s", "_node")

    def __init__(
        self,
        codec: Codec,
        clock: Clock,
        *,
        node: str | None,
        expires_s: float | None,
        failure_expires_s: float | None,
        extended: bool,
    ) -> None:
        self._codec = codec
        self._clock = clock
        self._node = node
        self._expires_s = expires_s
        self._failure_expires_s = failure_expires_s
        self._extended = extended

    def success(self, attempt: Attempt, value: Any, successors: Sequence[Outgoing]) -> StoredResult:
        """Raises EncodeError where `value` has no wire form."""
        return self.write(attempt, SUCCESS, value, None, successors)

    def failure(
        self, attempt: Attempt, exc: BaseException, traceback: str | None, successors: Sequence[Outgoing] = ()
    ) -> StoredResult:
        return self.write(attempt, FAILURE, encode_exception(exc), traceback, successors)

    def retry(self, attempt: Attempt, exc: BaseException, traceback: str | None) -> StoredResult:
        return self.write(attempt, RETRY, encode_exception(exc), traceback)

    def revoked(self, attempt: Attempt, exc: BaseException, successors: Sequence[Outgoing] = ()) -> StoredResult:
        return self.write(attempt, REVOKED, encode_exception(exc), None, successors)

    def cancelled(self, task_id: str) -> StoredResult:
        """The REVOKED result of a task that was cancelled before any attempt."""
        now = self._clock.time()
        error = encode_exception(TaskRevokedError("revoked"))
        meta = ResultMeta(task_id=task_id, status=REVOKED, result=error, date_done=iso_from_epoch(now))
        return StoredResult(
            id=task_id,
            state=REVOKED,
            payload=self._codec.encode_result(meta),
            expires_at=None if self._expires_s is None else now + self._expires_s,
        )

    def write(
        self, attempt: Attempt, state: str, value: Any, traceback: str | None, successors: Sequence[Outgoing] = ()
    ) -> StoredResult:
        """A result in any state. `value` is what Celery's meta calls `result`."""
        now = self._clock.time()
        headers = attempt.message_headers
        sent = attempt.children
        children = [] if sent is None else [[[child, None], None] for child in sent]
        if successors:
            children.extend([[successor.id, None], None] for successor in successors)
        final = state in (SUCCESS, FAILURE, REVOKED)
        if self._extended and attempt.delivery is not None:
            meta = ResultMeta(
                task_id=attempt.id,
                status=state,
                result=value,
                traceback=traceback,
                children=children,
                date_done=iso_from_epoch(now) if final else None,
                group_id=headers.group,
                parent_id=headers.parent_id,
                name=attempt.name,
                args=attempt.args,
                kwargs=attempt.kwargs,
                worker=self._node,
                retries=headers.retries,
                queue=attempt.delivery.queue,
            )
        else:
            meta = ResultMeta(
                task_id=attempt.id,
                status=state,
                result=value,
                traceback=traceback,
                children=children,
                date_done=iso_from_epoch(now) if final else None,
                group_id=headers.group,
                parent_id=headers.parent_id,
            )
        expires_s = self._failure_expires_s if state == FAILURE else self._expires_s
        return StoredResult(
            id=attempt.id,
            state=state,
            payload=self._codec.encode_result(meta, task=attempt.name),
            expires_at=None if expires_s is None else now + expires_s,
        )
