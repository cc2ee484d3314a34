"""What tests of and with celeriac use: an application in memory, a worker for a test, a clock moved by hand, faults
on purpose, a network that fails, conformance suites for adapters.

Nothing here imports pytest; `celeriac.testing.conformance` and `celeriac.testing.pytest_plugin` do. Names are imported
when they are first used: pytest imports this package in every project where celeriac is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celeriac.testing.clocks import ManualClock
    from celeriac.testing.embedded import RunningWorker
    from celeriac.testing.faults import Fault, FaultyBroker, FaultyConsumer, Plan, Script, SeededPlan
    from celeriac.testing.memory import in_memory
    from celeriac.testing.messages import SentMessage, SentMessages, watch
    from celeriac.testing.proxy import Manners, PlannedCut, TcpProxy

_HOME = {
    "Fault": "faults",
    "FaultyBroker": "faults",
    "FaultyConsumer": "faults",
    "Manners": "proxy",
    "ManualClock": "clocks",
    "Plan": "faults",
    "PlannedCut": "proxy",
    "RunningWorker": "embedded",
    "Script": "faults",
    "SeededPlan": "faults",
    "SentMessage": "messages",
    "SentMessages": "messages",
    "TcpProxy": "proxy",
    "in_memory": "memory",
    "watch": "messages",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'celeriac.testing' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"celeriac.testing.{home}"), name)
    globals()[name] = value
    return value


__all__ = [
    "Fault",
    "FaultyBroker",
    "FaultyConsumer",
    "Manners",
    "ManualClock",
    "Plan",
    "PlannedCut",
    "RunningWorker",
    "Script",
    "SeededPlan",
    "SentMessage",
    "SentMessages",
    "TcpProxy",
    "in_memory",
    "watch",
]
