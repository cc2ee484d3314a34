"""Settling with a result store that is not the broker: results first, then joins, then successors, then the
acknowledgement.

Where broker and result store are one engine, the adapter does all three in one transaction and this file only passes
on. Otherwise the order makes a crash between two steps harmless: the result is written once (a final state stays),
successors have ids that were fixed before, and a redelivery that finds the final result only repeats the last two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from celeriac.model import Bury, Done, Release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celeriac.interfaces import Broker, Consumer, ResultStore
    from celeriac.model import Outcome, Outgoing, Settled, StoredResult, Workflow


class Settler:
    """Settles outcomes for one process; every settlement of a worker goes through one."""

    def __init__(self, results: ResultStore | None, broker: Broker, *, fused: bool) -> None:
        self._results = results
        self._broker = broker
        self._fused = fused

    async def settle(self, consumer: Consumer, outcomes: Sequence[Outcome], /) -> Sequence[Settled]:
        """As `Consumer.settle`; may be repeated with the same outcomes after an error."""
        if self._fused:
            return await consumer.settle(outcomes)
        results: list[StoredResult] = []
        successors: list[Outgoing] = []
        workflows: list[Workflow] = []
        bare: list[Outcome] = []
        for outcome in outcomes:
            if isinstance(outcome, Release):
                bare.append(outcome)
                continue
            if outcome.result is not None:
                results.append(outcome.result)
            if isinstance(outcome, (Done, Bury)):
                successors.extend(outcome.successors)
                if outcome.workflow is not None:
                    results.extend(outcome.workflow.results)
                    workflows.append(outcome.workflow)
                bare.append(msgspec.structs.replace(outcome, result=None, successors=(), workflow=None))
            else:
                bare.append(msgspec.structs.replace(outcome, result=None))
        store = self._results
        if results and store is not None:
            await store.aput(results)
        if workflows and store is not None:
            successors += await self._enter(workflows, store)
        if successors:
            await self._broker.apublish(successors)
        if workflows and store is not None and (closed := [join for each in workflows for join in each.closed]):
            # Behind the successors: until they are published, a redelivered release must find its members. Before the
            # acknowledgement, or nobody would do it for a worker that died between the two.
            await store.aclose_joins(closed)
        return await consumer.settle(bare)

    async def _enter(self, workflows: Sequence[Workflow], store: ResultStore) -> list[Outgoing]:
        """Write records, open joins and let members arrive; the releases of joins that are complete."""
        if records := [record for each in workflows for record in each.records]:
            await store.asave(records)
        if joins := [join for each in workflows for join in each.joins]:
            await store.aopen_joins(joins)
        arrivals = [arrival for each in workflows for arrival in each.arrivals]
        if not arrivals:
            return []
        answers = await store.aarrive(arrivals)
        released = {
            one.release.id: one.release for one, is_complete in zip(arrivals, answers, strict=True) if is_complete
        }
        return list(released.values())
