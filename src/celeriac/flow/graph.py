"""A flow's graph as values: steps, the edges between them, and what a failure does on each edge."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

Policy = Literal["fail", "skip", "default"]
"""What the consumer of an edge makes of a producer that has no value for it."""
Kind = Literal["task", "flow", "end"]

END: Final = "(end)"
"""The name of the last node of every graph: it waits for all final steps and keeps the run's result."""


class Hole(msgspec.Struct, frozen=True, array_like=True):
    """A place in a step's arguments that the value of an edge fills."""

    path: tuple[str | int, ...]
    """From `"args"` or `"kwargs"` down."""
    position: int
    """Of the edge among the step's inputs."""


class Input(msgspec.Struct, frozen=True, array_like=True):
    """An edge, seen from its consumer."""

    producer: int
    policy: Policy = "fail"
    default: Any = None
    data: bool = True
    """False: order only; nothing of the producer's value travels."""
    fallback: int | None = None
    """The step that runs when the producer fails, and whose value goes down this edge in its place."""
    label: str = ""
    """The consumer's parameter it fills, for pictures and errors."""
    each: bool = False
    """The producer runs for each element, so the policy is for its elements; where it has none, as it did not start,
    a default helps nobody."""


class Output(msgspec.Struct, frozen=True, array_like=True):
    """An edge, seen from its producer: all that its end must know to hand its value on."""

    consumer: int
    position: int
    size: int
    """How many inputs the consumer has."""
    data: bool = True
    fallback: int | None = None
    """Where a failure goes in place of the consumer."""


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step, as it is stored while its run lasts."""

    name: str
    kind: Kind = "task"
    task: str = ""
    """The registered name of its task or flow."""
    each: bool = False
    """Once per element of its first argument."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    options: dict[str, Any] = {}
    holes: tuple[Hole, ...] = ()
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    undo: str | None = None
    """The task that takes back what it did, given its result."""
    of: int | None = None
    """Of a fallback: the step whose failure it stands in for."""
    is_result: bool = False
    """Its value is in the run's result."""


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """A whole flow: its steps in an order in which they could run, the end last."""

    name: str
    nodes: tuple[Node, ...]

    def __len__(self) -> int:
        """How many steps it has."""
        return len(self.nodes) - 1

    @property
    def steps(self) -> tuple[Node, ...]:
        """All but the end."""
        return self.nodes[:-1]

    def mermaid(self) -> str:
        """The graph as a Mermaid flowchart."""
        from celeriac.flow.drawing import mermaid

        return mermaid(self)

    def draw(self) -> str:
        """The graph as text for a terminal: one line per step."""
        from celeriac.flow.drawing import draw

        return draw(self)
