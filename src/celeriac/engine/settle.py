"""Settling with a result store that is not the broker: results first, then successors, then the acknowledgement.

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
    from celeriac.model import Outcome, Outgoing, Settled, StoredResult


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
        bare: list[Outcome] = []
        for outcome in outcomes:
            if isinstance(outcome, Release):
                bare.append(outcome)
                continue
            if outcome.result is not None:
                results.append(outcome.result)
            if isinstance(outcome, (Done, Bury)):
                successors.extend(outcome.successors)
                bare.append(msgspec.structs.replace(outcome, result=None, successors=()))
            else:
                bare.append(msgspec.structs.replace(outcome, result=None))
        if results and self._results is not None:
            await self._results.aput(results)
        if successors:
            await self._broker.apublish(successors)
        return await consumer.settle(bare)
