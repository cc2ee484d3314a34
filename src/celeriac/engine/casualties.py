"""What becomes of a task whose process died, was killed at its hard limit, or was terminated.

The supervisor asks here. It runs no user code, so all this file knows of a task are its `TaskFacts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from celeriac.engine import report
from celeriac.engine.attempt import Attempt
from celeriac.engine.continuation import NOTHING
from celeriac.engine.plan import Plan
from celeriac.errors import CodecError, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from celeriac.model import Bury, Done, Release

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celeriac.codec import Codec
    from celeriac.engine.continuation import Continuation, Sequel
    from celeriac.engine.outcomes import ResultWriter
    from celeriac.model import Delivery, Outcome, StoredResult


class TaskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor must know of a task to settle it in its place."""

    name: str
    ignore_result: bool = False
    store_errors_even_if_ignored: bool = False
    rerun_when_lost: bool = True
    """False: at most once; a task that may have started is failed, never run again."""
    acks_on_timeout: bool = True
    """False: a task killed at its hard limit becomes a dead letter."""
    max_deliveries: int = 5
    rate_limit: str | None = None
    """Starts per worker, such as `10/m`; None: no limit."""


class Crashed(msgspec.Struct, frozen=True, kw_only=True):
    """The process ended while the task ran."""

    pid: int
    exit_code: int | None = None
    signal: int | None = None
    """Number of the signal that ended it, where one did."""

    def __str__(self) -> str:
        if self.signal is not None:
            import signal

            try:
                name = signal.Signals(self.signal).name
            except ValueError:
                name = "unknown"
            return f"signal {self.signal} ({name})"
        return f"exit code {self.exit_code}"


class HardLimit(msgspec.Struct, frozen=True, kw_only=True):
    """The process was killed because the task ran past its hard time limit."""

    limit_s: float


class Terminated(msgspec.Struct, frozen=True, kw_only=True):
    """The process was killed because the task was revoked with `terminate=True`."""

    signal: str = "SIGTERM"


Cause = Crashed | HardLimit | Terminated


class Casualties:
    """Judges what a killed process was running."""

    def __init__(
        self,
        *,
        facts: Mapping[str, TaskFacts],
        codec: Codec,
        writer: ResultWriter,
        continuation: Continuation,
        store_results: bool,
        node: str,
    ) -> None:
        self._facts = facts
        self.codec = codec
        self._writer = writer
        self._continuation = continuation
        self._store_results = store_results
        self._node = node

    def cancelled(self, task_id: str) -> StoredResult:
        """The REVOKED result of a task that nobody will run."""
        return self._writer.cancelled(task_id)

    def judge(self, delivery: Delivery, cause: Cause) -> Outcome:
        """The outcome of a delivery that was running when its process ended. Never raises."""
        try:
            headers = self.codec.decode_headers(delivery.headers)
        except CodecError as exc:
            return Bury(delivery=delivery, reason=f"unreadable, and its worker was lost ({cause}): {exc}")
        facts = self._facts.get(headers.task) or TaskFacts(name=headers.task)
        plan = Plan(
            name=facts.name,
            task=facts.name,
            call=_never,
            ignore_result=facts.ignore_result,
            store_errors_even_if_ignored=facts.store_errors_even_if_ignored,
        )
        attempt = Attempt(delivery, headers, plan, self._node)
        try:
            call = self.codec.decode_body(headers, delivery.body)
        except CodecError as exc:
            attempt.embed = self.codec.decode_embed(headers, delivery.body)
            sequel = self._after_failure(attempt, exc)
            return Bury(
                delivery=delivery,
                reason=f"unreadable, and its worker was lost ({cause}): {exc}",
                result=self._failure(attempt, exc, f"{type(exc).__name__}: {exc}\n", sequel),
                successors=sequel.messages,
                workflow=sequel.workflow,
            )
        attempt.args, attempt.kwargs, attempt.embed = call.args, call.kwargs, call.embed
        if isinstance(cause, Terminated):
            revoked = TaskRevokedError("terminated", task_id=attempt.id)
            report.revoked(attempt, f"terminated by {cause.signal}")
            result = None
            if self._store_results and not attempt.ignore_result:
                result = self._writer.revoked(attempt, revoked)
            sequel = self._after_failure(attempt, revoked)
            return Done(delivery=delivery, result=result, successors=sequel.messages, workflow=sequel.workflow)
        if isinstance(cause, HardLimit):
            late = TimeLimitExceeded(cause.limit_s, task_id=attempt.id)
            text = f"TimeLimitExceeded: ran past its hard time limit of {cause.limit_s:g} s; its process was killed\n"
            report.failed(attempt, late, text, cause.limit_s, expected=False)
            failed = self._fail(attempt, late, text)
            if facts.acks_on_timeout:
                return failed
            return Bury(
                delivery=delivery,
                reason=f"ran past its hard time limit of {cause.limit_s:g} s, and acks_on_timeout is off",
                detail=text,
                result=failed.result,
                successors=failed.successors,
                workflow=failed.workflow,
            )
        lost = WorkerLostError(f"worker process {cause.pid} was lost while the task ran: {cause}", task_id=attempt.id)
        text = f"WorkerLostError: {lost}\n"
        if not facts.rerun_when_lost:
            report.failed(attempt, lost, text, 0.0, expected=False)
            return self._fail(attempt, lost, text)
        if delivery.deliveries >= facts.max_deliveries:
            reason = f"its worker process was lost {delivery.deliveries} times, last by {cause}"
            report.buried(attempt.id, attempt.name, reason)
            detail = f"{text}node {self._node}, process {cause.pid}, {cause}, delivery {delivery.deliveries}\n"
            sequel = self._after_failure(attempt, lost)
            return Bury(
                delivery=delivery,
                reason=reason,
                detail=detail,
                result=self._failure(attempt, lost, text, sequel),
                successors=sequel.messages,
                workflow=sequel.workflow,
            )
        report.log.error(
            "%s[%s] lost its worker process %d: %s; it will run again (delivery %d of %d)",
            attempt.name,
            attempt.id,
            cause.pid,
            cause,
            delivery.deliveries + 1,
            facts.max_deliveries,
        )
        return Release(delivery=delivery, spent=True)

    def _fail(self, attempt: Attempt, exc: BaseException, text: str) -> Done:
        assert attempt.delivery is not None
        sequel = self._after_failure(attempt, exc)
        result = self._failure(attempt, exc, text, sequel)
        return Done(delivery=attempt.delivery, result=result, successors=sequel.messages, workflow=sequel.workflow)

    def _failure(self, attempt: Attempt, exc: BaseException, text: str, sequel: Sequel) -> StoredResult | None:
        if not self._store_results or (attempt.ignore_result and not attempt.plan.store_errors_even_if_ignored):
            return None
        return self._writer.failure(attempt, exc, text, sequel.children)

    def _after_failure(self, attempt: Attempt, exc: BaseException) -> Sequel:
        embed = attempt.embed
        if embed is None or not (embed.errbacks or embed.chain or embed.chord):
            return NOTHING
        return self._continuation.after_failure(attempt, exc)


def _never() -> None:
    raise AssertionError("the supervisor runs no task")
