"""Celery's exceptions: those that celeriac has are the same classes, under both names."""

from __future__ import annotations

from typing import Any, NoReturn

from celeriac import errors
from celeriac.errors import (
    AlreadyRegistered,
    ChordError,
    ConfigError,
    Ignore,
    MaxRetriesExceededError,
    NotRegistered,
    OperationalError,
    QueueNotFound,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    TaskError,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)

CeleryError = errors.CeleriacError
ImproperlyConfigured = ConfigError
TimeoutError = errors.ResultTimeout
TaskPredicate = errors.ControlFlow


class CeleryWarning(UserWarning):
    """Base of warnings."""


class AlwaysEagerIgnored(CeleryWarning):
    """`send_task` was called with `task_always_eager`."""


class DuplicateNodenameWarning(CeleryWarning):
    """Several workers have one name."""


class DuplicateTaskNameWarning(CeleryWarning):
    """Two tasks have one name."""


class FixupWarning(CeleryWarning):
    """A framework could not be set up."""


class NotConfigured(CeleryWarning):
    """There is no configuration."""


class SecurityWarning(CeleryWarning):
    """Something is less safe than it should be."""


class CPendingDeprecationWarning(PendingDeprecationWarning):
    """Something will be deprecated."""


class CDeprecationWarning(DeprecationWarning):
    """Something is deprecated."""


class SecurityError(errors.CeleriacError):
    """Something is not safe."""


class IncompleteStream(TaskError):
    """The end of a stream was not reached."""


class InvalidTaskError(TaskError):
    """A message is no task."""


class BackendError(errors.ResultError):
    """Something is wrong with the result store."""


class BackendGetMetaError(BackendError):
    """A result cannot be read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.task_id = kwargs.get("task_id", "")
        super().__init__(*args)


class BackendStoreError(BackendError):
    """A result cannot be written."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state = kwargs.get("state", "")
        self.task_id = kwargs.get("task_id", "")
        super().__init__(*args)


class Terminated(Exception):
    """A task was stopped from outside."""


class WorkerTerminate(SystemExit):
    """Ends a worker at once."""


class WorkerShutdown(SystemExit):
    """Ends a worker."""


class CeleryCommandException(Exception):
    """A command line is wrong."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def reraise(tp: type[BaseException], value: BaseException, tb: Any = None) -> NoReturn:
    """Raise an exception with a traceback."""
    raise value if value.__traceback__ is tb else value.with_traceback(tb)


__all__ = [
    "AlreadyRegistered",
    "AlwaysEagerIgnored",
    "BackendError",
    "BackendGetMetaError",
    "BackendStoreError",
    "CDeprecationWarning",
    "CPendingDeprecationWarning",
    "CeleryCommandException",
    "CeleryError",
    "CeleryWarning",
    "ChordError",
    "DuplicateNodenameWarning",
    "DuplicateTaskNameWarning",
    "FixupWarning",
    "Ignore",
    "ImproperlyConfigured",
    "IncompleteStream",
    "InvalidTaskError",
    "MaxRetriesExceededError",
    "NotConfigured",
    "NotRegistered",
    "OperationalError",
    "QueueNotFound",
    "Reject",
    "Retry",
    "SecurityError",
    "SecurityWarning",
    "SoftTimeLimitExceeded",
    "TaskError",
    "TaskPredicate",
    "TaskRevokedError",
    "Terminated",
    "TimeLimitExceeded",
    "TimeoutError",
    "WorkerLostError",
    "WorkerShutdown",
    "WorkerTerminate",
    "reraise",
]
