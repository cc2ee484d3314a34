"""Every exception celeriac raises, in one tree.

::

    CeleriacError
    ├── ConfigError                   a setting, option, URL or application name is wrong   (ImproperlyConfigured)
    │   ├── AlreadyRegistered         two tasks share a name
    │   ├── ScheduleError             an entry of a schedule is wrong; names it
    │   └── NotSupportedError         a feature of Celery's that is not here; says what to do instead
    ├── CodecError                    bytes that are not a message, or a value that cannot become bytes
    │   ├── EncodeError               an argument or result has no wire form
    │   ├── DecodeError               bytes are malformed or break a limit
    │   ├── ContentDisallowed         the content type is not in `accept_content`
    │   ├── SignatureError            a message is not as a key that may do so has signed it, or is too old
    │   └── SealError                 an encrypted body or result cannot be opened
    ├── BrokerError                                                                         (OperationalError)
    │   ├── BrokerUnavailableError    nothing is known about the call; it may be repeated
    │   ├── EnqueueRejectedError      the broker refused; the message will never run
    │   │   ├── UnroutableError       no queue took it
    │   │   ├── OversizedError        it is larger than the broker takes
    │   │   └── NackedError           a queue refused it, for example because it is full
    │   ├── EnqueueUnknownError       the reply was lost; repeat with the same id
    │   │   └── BackPressureError     the broker takes nothing from anybody at present
    │   ├── QueueNotFoundError
    │   ├── LeaseLostError            the incarnation was reaped or abandoned
    │   ├── ScheduleChangedError      somebody else has changed the entry in between
    │   └── StorageError              the file or server cannot be used: schema, corruption, file system
    ├── FlowError                     a flow's graph is wrong, or its run cannot do what is asked
    ├── ResultError
    │   ├── ResultTimeout             `get(timeout=…)` ran out                              (TimeoutError)
    │   ├── ResultForbidden           `get()` inside a task
    │   ├── ResultTampered            it is not what a worker signed
    │   └── IncompleteStream          what came of a task is not all known yet
    ├── TaskError                     how a task ended; carries what the worker knew
    │   ├── RemoteTaskError           the original exception type is not available here
    │   ├── NotRegistered             no worker code for this name
    │   ├── FlowFailed                a step of a flow failed, and no edge took its failure
    │   ├── UpstreamFailed            a step of a flow did not run: what it needs has failed
    │   ├── StepSkipped               a step of a flow was skipped
    │   ├── MaxRetriesExceededError
    │   ├── TaskRevokedError          revoked, terminated or expired
    │   ├── TimeLimitExceeded         hard limit
    │   └── WorkerLostError           the process died while the task ran
    └── WorkerError                   the worker cannot start or go on

    SoftTimeLimitExceeded             raised inside the task; an Exception of its own, as in Celery

    ControlFlow                       not errors: what a task may raise to say how its attempt ends
    ├── Retry                         run again later                    (raised by `self.retry()`)
    ├── Ignore                        leave no result
    ├── Reject                        dead-letter it, or give it back (`requeue=True`)
    └── Snooze                        run again later without spending an attempt

Names that Celery has are Celery's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime, timedelta


class CeleriacError(Exception):
    """Base of every error of this package."""


class ConfigError(CeleriacError):
    """A setting, option, URL or name is wrong. The message names what was found and the nearest valid choice."""


ImproperlyConfigured = ConfigError


class AlreadyRegistered(ConfigError):
    """Two different tasks want the same name."""


class ScheduleError(ConfigError):
    """An entry of a schedule cannot be kept. The message names the entry, what was found and what is expected."""


class NotSupportedError(ConfigError):
    """A feature of Celery's that celeriac does not have. The message says what to do instead."""


class CodecError(CeleriacError):
    """A message or result could not be encoded or decoded."""


class EncodeError(CodecError):
    """A value has no wire form. The message says which argument and which type."""


class DecodeError(CodecError):
    """Bytes are malformed, or break one of the limits of `codec.Limits`."""


class ContentDisallowed(CodecError):
    """The message's content type is not in `accept_content`."""


class SignatureError(CodecError):
    """A message is not run, because of who signed it, or when, or what was changed since.

    Attributes:
        reason: `unsigned`, `forged`, `unknown key`, `gone key`, `not allowed` or `too old`.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class SealError(DecodeError):
    """What is encrypted cannot be opened: its key is not here, or it was changed, or belongs to something else."""


class BrokerError(CeleriacError):
    """Base of what can go wrong between this process and a broker."""


OperationalError = BrokerError


class BrokerUnavailableError(BrokerError):
    """The broker could not be reached or did not answer. The call may be repeated."""


class EnqueueError(BrokerError):
    """Base of a failed publish; `.task_ids` names the messages concerned.

    Attributes:
        refused: Positions, in what was published, of those that are surely not stored.
        unknown: Positions of those of which nothing is known. Where an engine tells both, all others are stored.
    """

    def __init__(
        self,
        message: str,
        *,
        task_ids: tuple[str, ...] = (),
        refused: tuple[int, ...] = (),
        unknown: tuple[int, ...] = (),
    ) -> None:
        super().__init__(message)
        self.task_ids = task_ids
        self.refused = refused
        self.unknown = unknown


class EnqueueRejectedError(EnqueueError):
    """The broker refused the messages: they are not stored and will never run."""


class UnroutableError(EnqueueRejectedError):
    """No queue took the messages: the exchange does not exist, or nothing is bound to it under their routing key."""


class OversizedError(EnqueueRejectedError):
    """A message is larger than the broker takes."""


class NackedError(EnqueueRejectedError):
    """A queue refused the messages: it is full, or has no leader."""


class EnqueueUnknownError(EnqueueError):
    """The broker's answer was lost. Publish again with the same ids: a double is dropped."""


class BackPressureError(EnqueueUnknownError, BrokerUnavailableError):
    """The broker takes messages from nobody until its memory or disk is free again, and has not confirmed in time."""


class QueueNotFoundError(BrokerError):
    """The queue does not exist and may not be created."""


QueueNotFound = QueueNotFoundError


class LeaseLostError(BrokerError):
    """The incarnation was reaped or abandoned: what it held belongs to others now. Take a new incarnation."""


class ScheduleChangedError(BrokerError):
    """A run-time entry of a schedule was changed by somebody else between reading and writing it.

    Attributes:
        name: The entry's.
        row: What is stored now (a `model.ScheduleRow`); None: nothing.
    """

    def __init__(self, name: str, row: Any = None) -> None:
        super().__init__(name, row)
        self.name = name
        self.row = row

    def __str__(self) -> str:
        if self.row is None:
            return f"schedule {self.name!r} is not there any more; nothing was changed"
        who = f" by {self.row.changed_by}" if self.row.changed_by else ""
        return f"schedule {self.name!r} was {self.row.change}{who} in between; nothing was changed: look again"


class StorageError(BrokerError):
    """The store behind a URL cannot be used: not a database, wrong schema version, unsafe file system, corrupt."""


class FlowError(CeleriacError):
    """The graph of a flow is wrong, or a run cannot do what was asked. The message names flow, step and remedy."""


class ResultError(CeleriacError):
    """Base of what can go wrong when a result is read."""


class ResultTampered(ResultError):
    """A stored result is not what a worker signed, or is that of another task; nothing of it was used."""


class ResultTimeout(ResultError, TimeoutError):
    """No final result arrived in time; the task itself is not affected."""


class ResultForbidden(ResultError, RuntimeError):
    """`get()` was called inside a task, where waiting can dead-lock the workers."""


class IncompleteStream(ResultError):
    """What came of a task was asked for, and a task among that has not ended."""


class TaskError(CeleriacError):
    """How a task ended. `.task_id`, `.remote_type` and `.remote_traceback` are None where unknown."""

    def __init__(
        self,
        *args: Any,
        task_id: str | None = None,
        remote_type: str | None = None,
        remote_traceback: str | None = None,
    ) -> None:
        super().__init__(*args)
        self.task_id = task_id
        self.remote_type = remote_type
        self.remote_traceback = remote_traceback


class RemoteTaskError(TaskError):
    """The task raised an exception whose class is not a builtin and was not allowed by the application."""


class NotRegistered(TaskError):
    """No task of this name is known to the worker that took the message."""


class MaxRetriesExceededError(TaskError):
    """The task asked for one more retry than its policy allows."""


class TaskRevokedError(TaskError):
    """The task was revoked before or while it ran, or expired in its queue."""


class TimeLimitExceeded(TaskError):
    """The task ran past its hard time limit and its process was killed."""


class WorkerLostError(TaskError):
    """The worker process died while the task ran (signal, exit, out of memory)."""


class ChordError(TaskError):
    """A member of a chord's header failed, so its body did not run."""


class FlowFailed(TaskError):
    """A step of a flow failed, and no edge took its failure; the message names the step and what it raised."""


class UpstreamFailed(TaskError):
    """A step of a flow did not run, because what it needs has failed."""


class StepSkipped(TaskError):
    """A step of a flow was skipped, because what it needs has no value and its edge says so."""


class WorkerError(CeleriacError):
    """The worker cannot start or cannot go on."""


class SoftTimeLimitExceeded(Exception):
    """Raised inside the task at its soft time limit. Catch it to clean up; uncaught, the task fails with it."""


class ControlFlow(Exception):
    """Not an error: how a task says what becomes of this attempt."""


class Retry(ControlFlow):
    """Run the task again later. `self.retry()` raises it; raising it by hand works too.

    Args:
        message: For the log.
        exc: The exception that made the retry necessary; stored with state RETRY.
        when: An aware datetime, seconds from now, or None for the task's policy.
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | None = None,
        when: datetime | timedelta | float | None = None,
    ) -> None:
        super().__init__(message, exc, when)
        self.message = message
        self.exc = exc
        self.when = when

    def __str__(self) -> str:
        if self.message:
            return self.message
        return f"Retry: {self.exc!r}" if self.exc is not None else "Retry"


class Ignore(ControlFlow):
    """End the attempt without a result; the task set its own state, or nobody waits for one."""


class Reject(ControlFlow):
    """Refuse the message.

    Args:
        reason: Kept with the dead letter.
        requeue: True gives the message back to its queue instead; the attempt is spent.
    """

    def __init__(self, reason: Any = None, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason = reason
        self.requeue = requeue


class Snooze(ControlFlow):
    """Run again after `seconds` (or a timedelta) without spending an attempt or a retry."""

    def __init__(self, seconds: float | timedelta) -> None:
        super().__init__(seconds)
        self.delay_s = float(seconds) if isinstance(seconds, (int, float)) else seconds.total_seconds()
