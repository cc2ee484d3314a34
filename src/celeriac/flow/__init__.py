"""Flows: named steps over any directed acyclic graph, durable, resumable, and visible in the user's code.

`Flow` is what a flow function is given, `Step` what it gets for each step, `FlowDefinition` what `@app.flow` makes of
it, `FlowRun` a run by its id. How a run goes: each step that waits for something is a join over its edges; the end of a
step's task arrives at the joins of its consumers in the settlement that acknowledges it, and whoever completes a join
publishes `celeriac.flow.start` for that step (`driver`). The graph is stored once, messages carry ids.
"""

from celeriac.flow.builder import Edge, Flow, Step
from celeriac.flow.definition import FlowDefinition
from celeriac.flow.driver import Driver
from celeriac.flow.ending import ENDED, START, Ending
from celeriac.flow.graph import Graph
from celeriac.flow.run import FlowRun, StepState
from celeriac.flow.target import Target, hints_of, signature_of

__all__ = [
    "ENDED",
    "START",
    "Driver",
    "Edge",
    "Ending",
    "Flow",
    "FlowDefinition",
    "FlowRun",
    "Graph",
    "Step",
    "StepState",
    "Target",
    "hints_of",
    "signature_of",
]
