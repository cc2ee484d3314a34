"""What becomes of a task whose process died, was killed at its hard limit, or was terminated.

The supervisor asks here. It runs no user code, so all this file knows of a task are its `TaskFacts`.

Where the connection is the lease, what a dead process held is in its queue again before anybody could judge it. There
the supervisor leaves `Note`s, and whoever is handed out such a message judges it by them (`judge_noted`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from celeriac.codec import iso_from_epoch
from celeriac.engine import report
from celeriac.engine.attempt import Attempt
from celeriac.engine.continuation import NOTHING
from celeriac.engine.plan import Plan
from celeriac.errors import CodecError, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from celeriac.model import Bury, Done, Release

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


class Crashed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
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


class Dragged(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Its worker ended the process while the task ran: because of another task in it, or to leave."""

    pid: int

    def __str__(self) -> str:
        return "ended by its worker, because of another task or to leave"


class HardLimit(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The process was killed because the task ran past its hard time limit."""

    limit_s: float


class Terminated(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The process was killed because the task was revoked with `terminate=True`."""

    signal: str = "SIGTERM"


Cause = Crashed | Dragged | HardLimit | Terminated


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor leaves for whoever gets a message next that one of its processes was running."""

    cause: Cause
    node: str
    pid: int
    at: float
    """Wall-clock epoch seconds."""

    def encode(self) -> bytes:
        return _encode(self)

    def __str__(self) -> str:
        how = {HardLimit: "killed at its hard time limit", Terminated: "terminated"}.get(type(self.cause))
        return f"node {self.node}, process {self.pid}, {how or self.cause}, {iso_from_epoch(self.at)}"


def read_notes(lost: Sequence[bytes]) -> list[Note]:
    """Those that can be read; a later version may write others."""
    notes = []
    for raw in lost:
        try:
            notes.append(_decode(raw))
        except (ValueError, RecursionError) as exc:
            report.log.warning("a note on a lost process cannot be read (%s): %r", exc, raw[:200])
    return notes


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Note).decode


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

    def judge_noted(self, delivery: Delivery) -> tuple[Outcome, Cause] | None:
        """The outcome of a delivery that other processes ran before, by what was noted of their ends, and the cause.

        None: it is to run, as it is. Never raises.
        """
        notes = read_notes(delivery.lost)
        if delivery.is_copy:  # other copies have the same id, and other ends
            notes = [note for note in notes if note.node == self._node]
            delivery = msgspec.structs.replace(delivery, deliveries=1 + len(notes))
        if not notes:
            return None
        # Whoever was to settle what was killed on purpose may have died before he did; that is no reason to run it.
        cause = next((note.cause for note in notes if isinstance(note.cause, (HardLimit, Terminated))), notes[-1].cause)
        # its end is counted from the next delivery on, which this is
        before = msgspec.structs.replace(delivery, deliveries=max(1, delivery.deliveries - 1))
        outcome = self.judge(before, cause, notes)
        return None if isinstance(outcome, Release) else (outcome, cause)

    def judge(self, delivery: Delivery, cause: Cause, notes: Sequence[Note] = ()) -> Outcome:
        """The outcome of a delivery that was running when its process ended. Never raises.

        Args:
            delivery: As it was handed out then.
            cause: Why it ended.
            notes: All that was noted of this and of earlier ends, where that is known.
        """
        try:
            headers = self.codec.decode_headers(delivery.headers)
            if self.codec.signer is not None:
                self.codec.admit(headers, delivery)
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
                detail=text + "".join(f"{note}\n" for note in notes),
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
            if notes:
                detail = text + "".join(f"{note}\n" for note in notes)
            else:
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
