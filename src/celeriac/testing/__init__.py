"""What tests of and with celeriac use: a clock moved by hand, faults on purpose, conformance suites for adapters.

Nothing here imports pytest; `celeriac.testing.conformance` does.
"""

from celeriac.testing.clocks import ManualClock
from celeriac.testing.faults import Fault, FaultyBroker, FaultyConsumer, Plan, Script, SeededPlan

__all__ = ["Fault", "FaultyBroker", "FaultyConsumer", "ManualClock", "Plan", "Script", "SeededPlan"]
