"""Celery's signals. Those of tasks and messages are celeriac's own; those of workers get senders with attributes."""

from __future__ import annotations

import os
from typing import Any

from celeriac.compat.celery._state import get_current_app
from celeriac.compat.celery.utils.dispatch.signal import ByWorker, Signal
from celeriac.engine import signals as _ours
from celeriac.engine.signals import (
    after_setup_logger,
    after_setup_task_logger,
    after_task_publish,
    before_task_publish,
    import_modules,
    setup_logging,
    task_failure,
    task_internal_error,
    task_postrun,
    task_prerun,
    task_received,
    task_rejected,
    task_retry,
    task_revoked,
    task_success,
    task_unknown,
    user_preload_options,
    worker_before_create_process,
    worker_process_init,
    worker_process_shutdown,
    worker_shutting_down,
)


class WorkerInfo(str):  # noqa: SLOT000 - it has attributes
    """The worker that sends a signal: its node name, with the attributes that receivers look at."""

    @property
    def hostname(self) -> str:
        return str(self)

    @property
    def app(self) -> Any:
        return get_current_app()

    @property
    def controller(self) -> WorkerInfo:
        return self

    consumer = controller

    @property
    def pid(self) -> int:
        return os.getpid()

    def __reduce__(self) -> Any:
        return (WorkerInfo, (str(self),))


def _nothing(node: str) -> dict[str, Any]:
    return {}


def _service(beat: Any) -> Any:
    """The service of a beat."""
    return getattr(beat, "service", beat)


def _instance(node: str) -> dict[str, Any]:
    return {"instance": WorkerInfo(node)}


celeryd_init = ByWorker(_ours.celeryd_init, sender=str, more=_instance)
celeryd_after_setup = ByWorker(_ours.celeryd_after_setup, sender=str, more=_instance)
worker_init = ByWorker(_ours.worker_init, sender=WorkerInfo, more=_nothing)
worker_ready = ByWorker(_ours.worker_ready, sender=WorkerInfo, more=_nothing)
worker_shutdown = ByWorker(_ours.worker_shutdown, sender=WorkerInfo, more=_nothing)
heartbeat_sent = ByWorker(_ours.heartbeat_sent, sender=WorkerInfo, more=_nothing)
beat_init = ByWorker(_ours.beat_init, sender=_service, more=_nothing)
beat_embedded_init = ByWorker(_ours.beat_embedded_init, sender=_service, more=_nothing)
task_sent = after_task_publish
# there are no green threads here, so these are never sent
eventlet_pool_started = Signal(name="eventlet_pool_started")
eventlet_pool_preshutdown = Signal(name="eventlet_pool_preshutdown")
eventlet_pool_postshutdown = Signal(name="eventlet_pool_postshutdown")
eventlet_pool_apply = Signal(name="eventlet_pool_apply", providing_args={"target", "args", "kwargs"})

__all__ = [
    "after_setup_logger",
    "after_setup_task_logger",
    "after_task_publish",
    "beat_embedded_init",
    "beat_init",
    "before_task_publish",
    "celeryd_after_setup",
    "celeryd_init",
    "eventlet_pool_apply",
    "eventlet_pool_postshutdown",
    "eventlet_pool_preshutdown",
    "eventlet_pool_started",
    "heartbeat_sent",
    "import_modules",
    "setup_logging",
    "task_failure",
    "task_internal_error",
    "task_postrun",
    "task_prerun",
    "task_received",
    "task_rejected",
    "task_retry",
    "task_revoked",
    "task_sent",
    "task_success",
    "task_unknown",
    "user_preload_options",
    "worker_before_create_process",
    "worker_init",
    "worker_process_init",
    "worker_process_shutdown",
    "worker_ready",
    "worker_shutdown",
    "worker_shutting_down",
]
