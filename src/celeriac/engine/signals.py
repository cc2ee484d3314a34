"""Signals: functions of the user's that are called when something happens, with Celery's names and arguments.

Receivers are called in the order they were connected, in the thread where the thing happens, so a slow receiver slows
the worker. A receiver that raises is logged and the others are still called: a signal never changes a task's outcome.
"""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_log = logging.getLogger("celeriac.signals")


class Signal:
    """One kind of event.

    Before building arguments on a hot path, test `if signal.receivers:`, which costs a fifth of `if signal:`.
    """

    __slots__ = ("name", "provides", "receivers")

    def __init__(self, name: str, *provides: str) -> None:
        self.name = name
        self.provides = provides
        self.receivers: list[tuple[Hashable, Any, Any]] = []

    def __bool__(self) -> bool:
        return bool(self.receivers)

    def __repr__(self) -> str:
        return f"<Signal: {self.name}({', '.join(self.provides)})>"

    def connect(
        self,
        receiver: Callable[..., Any] | None = None,
        *,
        sender: Any = None,
        weak: bool = False,
        dispatch_uid: Hashable = None,
        retry: bool = False,
    ) -> Any:
        """Call `receiver(sender=…, signal=…, **arguments)` at each event; also a decorator, with or without options.

        Args:
            receiver: Takes keyword arguments; should accept `**kwargs`, since signals may gain arguments.
            sender: Only for events of this sender (a task object or its name, a worker's node name).
            weak: Forget the receiver when nothing else refers to it.
            dispatch_uid: A second connect with the same value replaces the first.
            retry: Accepted for Celery's sake; a receiver is called once.
        """
        if receiver is None:
            return lambda function: self.connect(function, sender=sender, weak=weak, dispatch_uid=dispatch_uid)
        key = (
            dispatch_uid if dispatch_uid is not None else (_identity(receiver), None if sender is None else id(sender))
        )
        reference: Any
        if not weak:
            reference = receiver
        elif hasattr(receiver, "__self__"):
            reference = weakref.WeakMethod(receiver)
        else:
            reference = weakref.ref(receiver)
        # a new list rather than a changed one: `send` may be iterating in another thread
        self.receivers = [row for row in self.receivers if row[0] != key] + [(key, sender, reference)]
        return receiver

    def disconnect(self, receiver: Callable[..., Any] | None = None, *, dispatch_uid: Hashable = None) -> bool:
        """Stop calling `receiver`; whether it was connected."""
        before = len(self.receivers)
        self.receivers = [
            row
            for row in self.receivers
            if not (row[0] == dispatch_uid if dispatch_uid is not None else _resolve(row[2]) == receiver)
        ]
        return len(self.receivers) < before

    def send(self, sender: Any, **arguments: Any) -> None:
        """Call every receiver of this sender."""
        for _, wanted, reference in self.receivers:
            if wanted is not None and wanted is not sender and wanted != getattr(sender, "name", sender):
                continue
            receiver = _resolve(reference)
            if receiver is None:
                continue
            try:
                receiver(sender=sender, signal=self, **arguments)
            except Exception:
                _log.exception("receiver %r of signal %s raised", receiver, self.name)


def _identity(receiver: Any) -> tuple[int, int]:
    """The same for every access to one bound method, which makes a new object each time."""
    owner = getattr(receiver, "__self__", None)
    return (id(receiver), 0) if owner is None else (id(owner), id(getattr(receiver, "__func__", receiver)))


def _resolve(reference: Any) -> Any:
    return reference() if isinstance(reference, weakref.ref) else reference


before_task_publish = Signal(
    "before_task_publish", "body", "exchange", "routing_key", "headers", "properties", "declare", "retry_policy"
)
after_task_publish = Signal("after_task_publish", "body", "exchange", "routing_key", "headers")
task_received = Signal("task_received", "request")
task_prerun = Signal("task_prerun", "task_id", "task", "args", "kwargs")
task_postrun = Signal("task_postrun", "task_id", "task", "args", "kwargs", "retval", "state")
task_success = Signal("task_success", "result", "runtime")
task_retry = Signal("task_retry", "request", "reason", "einfo")
task_failure = Signal("task_failure", "task_id", "exception", "args", "kwargs", "traceback", "einfo")
task_internal_error = Signal("task_internal_error", "task_id", "args", "kwargs", "request", "exception", "traceback")
task_revoked = Signal("task_revoked", "request", "terminated", "signum", "expired")
task_rejected = Signal("task_rejected", "message", "exc")
task_unknown = Signal("task_unknown", "message", "exc", "name", "id")
worker_init = Signal("worker_init")
worker_before_create_process = Signal("worker_before_create_process")
worker_process_init = Signal("worker_process_init")
worker_process_shutdown = Signal("worker_process_shutdown", "pid", "exitcode")
worker_ready = Signal("worker_ready")
worker_shutting_down = Signal("worker_shutting_down", "sig", "how", "exitcode")
worker_shutdown = Signal("worker_shutdown")
celeryd_init = Signal("celeryd_init", "instance", "conf", "options")
celeryd_after_setup = Signal("celeryd_after_setup", "instance", "conf")
import_modules = Signal("import_modules")
heartbeat_sent = Signal("heartbeat_sent")
setup_logging = Signal("setup_logging", "loglevel", "logfile", "format", "colorize")
after_setup_logger = Signal("after_setup_logger", "logger", "loglevel", "logfile", "format", "colorize")
after_setup_task_logger = Signal("after_setup_task_logger", "logger", "loglevel", "logfile", "format", "colorize")
beat_init = Signal("beat_init")
beat_embedded_init = Signal("beat_embedded_init")
user_preload_options = Signal("user_preload_options", "app", "options")
