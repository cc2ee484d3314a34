"""From a graph to a run: the records it is kept in, and the one message that sets it going."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from celeriac.flow import ids
from celeriac.flow.records import RUN, STEP, Brief, Parent, RunRecord, encode
from celeriac.model import Join, Record

if TYPE_CHECKING:
    from celeriac.flow.ending import Ending
    from celeriac.flow.graph import Graph
    from celeriac.flow.host import Host
    from celeriac.model import Outgoing

BEGIN: Final = "celeriac.flow.begin"


class Starting(msgspec.Struct, frozen=True):
    """What is written before a run begins."""

    records: list[Record]
    join: Join
    """Closed when the run has begun, so that it begins once."""


def starting(
    host: Host,
    ending: Ending,
    run: str,
    graph: Graph,
    *,
    queue: str,
    parent: Parent | None = None,
    depth: int = 0,
    call: str = "",
) -> Starting:
    """Make the records of a run.

    Raises:
        EncodeError: Something in the graph has no wire form, or the graph is too large to be stored.
    """
    record = RunRecord(
        flow=graph.name,
        steps=tuple(Brief.of_node(node) for node in graph.nodes),
        created_at=host.clock.time(),
        queue=queue,
        parent=parent,
        depth=depth,
        call=call,
    )
    records = [host.record(RUN, run, encode(host.codec, record))]
    for step, node in enumerate(graph.nodes):
        records.append(host.record(STEP, ids.record_id(run, step), encode(host.codec, node)))
    return Starting(records, ending.join(ids.begin_id(run, 0), 1))


def begin_message(ending: Ending, queue: str, run: str, generation: int) -> Outgoing:
    """What sets a generation of a run going."""
    return ending.message(run, queue, BEGIN, generation, 0)
