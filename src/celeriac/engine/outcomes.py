"""How an ended attempt becomes what the broker and the result store are told; shared by executor and supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

    def success(self, attempt: Attempt, value: Any, children: Sequence[Any]) -> StoredResult:
        """Raises EncodeError where `value` has no wire form."""
        return self.write(attempt, SUCCESS, value, None, children)

    def failure(
        self, attempt: Attempt, exc: BaseException, traceback: str | None, children: Sequence[Any] = ()
    ) -> StoredResult:
        return self.write(attempt, FAILURE, encode_exception(exc), traceback, children)

    def retry(self, attempt: Attempt, exc: BaseException, traceback: str | None) -> StoredResult:
        return self.write(attempt, RETRY, encode_exception(exc), traceback)

    def revoked(self, attempt: Attempt, exc: BaseException, children: Sequence[Any] = ()) -> StoredResult:
        return self.write(attempt, REVOKED, encode_exception(exc), None, children)

    def plain(self, task_id: str, state: str, value: Any) -> StoredResult:
        """The result of what is no attempt, in any state; in an exception state, `value` is the error as data."""
        now = self._clock.time()
        final = state in (SUCCESS, FAILURE, REVOKED)
        meta = ResultMeta(task_id=task_id, status=state, result=value, date_done=iso_from_epoch(now) if final else None)
        expires_s = self._failure_expires_s if state == FAILURE else self._expires_s
        return StoredResult(
            id=task_id,
            state=state,
            payload=self._codec.encode_result(meta),
            expires_at=None if expires_s is None else now + expires_s,
        )

    def unrun(
        self, task_id: str, state: str, exc: BaseException, traceback: str | None, *, reply_to: str | None = None
    ) -> StoredResult:
        """The result of a task that will not run, because of another: FAILURE or REVOKED with that one's exception.

        Who waits for it is who waits for that one.
        """
        now = self._clock.time()
        meta = ResultMeta(
            task_id=task_id,
            status=state,
            result=encode_exception(exc),
            traceback=traceback,
            date_done=iso_from_epoch(now),
        )
        expires_s = self._failure_expires_s if state == FAILURE else self._expires_s
        return StoredResult(
            id=task_id,
            state=state,
            payload=self._codec.encode_result(meta),
            expires_at=None if expires_s is None else now + expires_s,
            reply_to=reply_to,
        )

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
        self, attempt: Attempt, state: str, value: Any, traceback: str | None, children: Sequence[Any] = ()
    ) -> StoredResult:
        """A result in any state. `value` is what Celery's meta calls `result`, `children` are result tuples."""
        now = self._clock.time()
        headers = attempt.message_headers
        sent = attempt.children
        children = [*(sent or ()), *children]
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
            reply_to=headers.reply_to,
            correlation_id=headers.correlation_id,
        )
