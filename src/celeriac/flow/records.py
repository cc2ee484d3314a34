"""What a run keeps in the result store, and what travels down its edges.

Kinds of records: `flow`, one per run, its shape and generations; `flowstep`, one per step, all that it takes to run it,
and one per generation that was cancelled, so that both are read at once; `floweach`, how many elements a step runs
over, and which of them were kept from before; `flowend`, how a run ends that is being undone. All are written with the
codec, in the form of results, so they hold whatever arguments can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from celeriac.codec import ResultMeta
from celeriac.flow.graph import Graph, Input, Kind, Node, Output
from celeriac.model.readable import learn

if TYPE_CHECKING:
    from celeriac.codec import Codec

T = TypeVar("T")

RUN: Final = "flow"
STEP: Final = "flowstep"
EACH: Final = "floweach"
OUTCOME: Final = "flowend"


class Brief(msgspec.Struct, frozen=True, array_like=True):
    """A step in its run's record: enough to tell its state, and to draw it."""

    name: str
    kind: Kind
    task: str
    each: bool
    inputs: tuple[Input, ...]
    of: int | None = None
    undo: str | None = None
    is_result: bool = False

    @classmethod
    def of_node(cls, node: Node) -> Brief:
        return cls(
            name=node.name,
            kind=node.kind,
            task=node.task,
            each=node.each,
            inputs=node.inputs,
            of=node.of,
            undo=node.undo,
            is_result=node.is_result,
        )

    def node(self) -> Node:
        """The same as a node of a graph, for pictures."""
        return Node(
            name=self.name,
            kind=self.kind,
            task=self.task,
            each=self.each,
            inputs=self.inputs,
            of=self.of,
            undo=self.undo,
            is_result=self.is_result,
        )


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """The step of another run that this run is."""

    run: str
    step: int
    generation: int
    element: int | None
    outputs: tuple[Output, ...]


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run's shape and generations."""

    flow: str
    steps: tuple[Brief, ...]
    """The end is the last."""
    created_at: float
    queue: str
    """Of the messages that drive it."""
    generation: int = 0
    """How often it was resumed."""
    generations: dict[int, tuple[int, ...]] = {}
    """Of steps that were run again, by index: all generations they ran in, the last one last; of others, 0."""
    revived: tuple[int, ...] = ()
    """Of this generation: steps that are runs which were resumed, too; they keep their ids."""
    parent: Parent | None = None
    depth: int = 0
    """How many runs it is within."""
    call: str = ""
    """The arguments as a person reads them."""

    def graph(self) -> Graph:
        """The graph, for pictures."""
        return Graph(name=self.flow, nodes=tuple(brief.node() for brief in self.steps))

    def of_step(self, step: int) -> int:
        """The generation a step ran in last."""
        return self.generations.get(step, (0,))[-1]


class EachRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a step runs over, in one generation."""

    count: int
    kept: dict[int, int] = {}
    """Elements that succeeded in an earlier generation, and in which; also runs of that one which were resumed."""


class EndRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ends, once what it did has been undone."""

    state: str
    error: Any


class Arrived(msgspec.Struct, frozen=True):
    """What came down an edge, or back from one element."""

    state: str
    value: Any = None
    """Its value; what went wrong, as `encode_exception` made it; with `PARTIAL`, a `Partial` in plain form."""
    step: str = ""
    """Whose failure it was at first."""


class Partial(msgspec.Struct, frozen=True):
    """The value of a step that ran for each element, where some have failed."""

    values: list[Any]
    failed: list[int]
    error: Any
    """Of the first that failed."""


learn(Node, RunRecord, EachRecord, EndRecord, Partial)


PARTIAL: Final = "PARTIAL"
UPSTREAM_FAILED: Final = "UPSTREAM_FAILED"
SKIPPED: Final = "SKIPPED"
CANCELLED: Final = "CANCELLED"
UNDOING: Final = "UNDOING"
"""The state of a run whose steps are being undone."""


def encode(codec: Codec, value: Any) -> bytes:
    """Write a record."""
    return codec.encode_result(ResultMeta(task_id="flow", status="RECORD", result=value, children=None))


def decode(codec: Codec, raw: bytes, kind: type[T]) -> T:
    """Read a record."""
    return msgspec.convert(codec.decode_result(raw).result, kind, str_keys=True)


def encode_arrived(codec: Codec, task_id: str, arrived: Arrived) -> bytes:
    """Write what goes down an edge."""
    return codec.encode_member(task_id, arrived.state, [arrived.value, arrived.step])


def decode_arrived(codec: Codec, raw: bytes) -> Arrived:
    """Read what came down an edge."""
    _, state, (value, step) = codec.decode_member(raw)
    return Arrived(state, value, step)
