"""celeriac: a distributed task queue for Python.

The public names, imported when they are first used, so that `import celeriac` costs little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeriac._version import __version__

if TYPE_CHECKING:
    from celeriac.app.application import Celeriac
    from celeriac.app.group_result import GroupResult, ResultSet, result_from_tuple
    from celeriac.app.queues import Binding, Broadcast, Exchange, Queue
    from celeriac.app.result import AsyncResult, EagerResult, allow_join_result, denied_join_result
    from celeriac.app.task import AsyncTask, ConfiguredTask, Task
    from celeriac.canvas import (
        Signature,
        StampingVisitor,
        chain,
        chord,
        chunks,
        group,
        maybe_signature,
        xmap,
        xstarmap,
    )
    from celeriac.canvas.signature import signature
    from celeriac.compat import install_as_celery
    from celeriac.engine.attempt import Attempt
    from celeriac.engine.middleware import Middleware
    from celeriac.errors import (
        CeleriacError,
        FlowError,
        FlowFailed,
        Ignore,
        MaxRetriesExceededError,
        Reject,
        Snooze,
        SoftTimeLimitExceeded,
        TaskError,
        TimeLimitExceeded,
    )
    from celeriac.flow import Flow, FlowRun, Step
    from celeriac.model import Limit, Retry
    from celeriac.scheduler import at, crontab, every, rrule, solar
    from celeriac.scheduler.entry import Late

_HOME = {
    "AsyncResult": "celeriac.app.result",
    "AsyncTask": "celeriac.app.task",
    "Attempt": "celeriac.engine.attempt",
    "Binding": "celeriac.app.queues",
    "Broadcast": "celeriac.app.queues",
    "Celeriac": "celeriac.app.application",
    "CeleriacError": "celeriac.errors",
    "ConfiguredTask": "celeriac.app.task",
    "EagerResult": "celeriac.app.result",
    "Exchange": "celeriac.app.queues",
    "Flow": "celeriac.flow",
    "FlowError": "celeriac.errors",
    "FlowFailed": "celeriac.errors",
    "FlowRun": "celeriac.flow",
    "GroupResult": "celeriac.app.group_result",
    "Ignore": "celeriac.errors",
    "Late": "celeriac.scheduler.entry",
    "Limit": "celeriac.model",
    "MaxRetriesExceededError": "celeriac.errors",
    "Middleware": "celeriac.engine.middleware",
    "Queue": "celeriac.app.queues",
    "Reject": "celeriac.errors",
    "ResultSet": "celeriac.app.group_result",
    "Retry": "celeriac.model",
    "Signature": "celeriac.canvas",
    "Snooze": "celeriac.errors",
    "SoftTimeLimitExceeded": "celeriac.errors",
    "StampingVisitor": "celeriac.canvas",
    "Step": "celeriac.flow",
    "Task": "celeriac.app.task",
    "TaskError": "celeriac.errors",
    "TimeLimitExceeded": "celeriac.errors",
    "allow_join_result": "celeriac.app.result",
    "at": "celeriac.scheduler",
    "chain": "celeriac.canvas",
    "chord": "celeriac.canvas",
    "chunks": "celeriac.canvas",
    "crontab": "celeriac.scheduler",
    "denied_join_result": "celeriac.app.result",
    "every": "celeriac.scheduler",
    "group": "celeriac.canvas",
    "install_as_celery": "celeriac.compat",
    "maybe_signature": "celeriac.canvas",
    "result_from_tuple": "celeriac.app.group_result",
    "rrule": "celeriac.scheduler",
    "signature": "celeriac.canvas.signature",
    "solar": "celeriac.scheduler",
    "xmap": "celeriac.canvas",
    "xstarmap": "celeriac.canvas",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'celeriac' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])


__all__ = [
    "AsyncResult",
    "AsyncTask",
    "Attempt",
    "Binding",
    "Broadcast",
    "Celeriac",
    "CeleriacError",
    "ConfiguredTask",
    "EagerResult",
    "Exchange",
    "Flow",
    "FlowError",
    "FlowFailed",
    "FlowRun",
    "GroupResult",
    "Ignore",
    "Late",
    "Limit",
    "MaxRetriesExceededError",
    "Middleware",
    "Queue",
    "Reject",
    "ResultSet",
    "Retry",
    "Signature",
    "Snooze",
    "SoftTimeLimitExceeded",
    "StampingVisitor",
    "Step",
    "Task",
    "TaskError",
    "TimeLimitExceeded",
    "__version__",
    "allow_join_result",
    "at",
    "chain",
    "chord",
    "chunks",
    "crontab",
    "denied_join_result",
    "every",
    "group",
    "install_as_celery",
    "maybe_signature",
    "result_from_tuple",
    "rrule",
    "signature",
    "solar",
    "xmap",
    "xstarmap",
]
