"""Settling with a result store that is not the broker: results first, then joins, then successors and acknowledgement
together.

Where broker and result store are one engine, the adapter does all of it in one transaction and this file only passes
on. Otherwise the order makes a crash between two steps harmless: the result is written once (a final state stays),
what arrives at a join arrives once, and a redelivery that finds the final result makes the same successors, which have
ids that were fixed before.

Successors are not published ahead of the acknowledgement: one may have the id of the task that is settled, which ends
what replaced it, and while that is live the broker would drop it as a double. Those of a chord's release are, so that
its join can be closed between the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from celeriac.errors import ConfigError
from celeriac.model import Bury, Done, Later, Release

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        return await consumer.settle(outcomes if self._fused else await self._store(outcomes))

    async def settle_unheld(self, outcomes: Sequence[Outcome], /) -> None:
        """The same of messages that are in no queue any more (`Committer`), in the place of the dead process that had
        taken them out. May be repeated after an error.

        What is buried cannot become a dead letter: its result and whoever waits for it are told, its message is gone.
        """
        follow: list[Outgoing] = []
        for outcome in await self._store(outcomes):
            if isinstance(outcome, Later):
                follow.append(outcome.message)
            elif not isinstance(outcome, Release):
                follow.extend(outcome.successors)
        if follow:
            await self._broker.apublish(follow)

    async def _store(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Store results and carry out workflows; what is left for the broker to do."""
        results: list[StoredResult] = []
        workflows: dict[int, Workflow] = {}
        bare: list[Outcome] = []
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, Release):
                bare.append(outcome)
                continue
            if outcome.result is not None:
                results.append(outcome.result)
            if isinstance(outcome, (Done, Bury)) and outcome.workflow is not None:
                results.extend(outcome.workflow.results)
                workflows[number] = outcome.workflow
                outcome = msgspec.structs.replace(outcome, workflow=None)
            bare.append(msgspec.structs.replace(outcome, result=None))
        store = self._results
        if store is None and any(each.joins or each.arrivals or each.records for each in workflows.values()):
            raise ConfigError(
                "a chord, a flow or a saved group needs a result store, and results are disabled here: set "
                "result_backend to redis://… or sqlite:///…"
            )
        if results and store is not None:
            await store.aput(results)
        if workflows and store is not None:
            for number, releases in (await self._enter(workflows, store)).items():
                ended: Any = bare[number]
                bare[number] = msgspec.structs.replace(ended, successors=(*ended.successors, *releases))
            await self._close(workflows, bare, store)
        return bare

    async def _close(self, workflows: Mapping[int, Workflow], bare: list[Outcome], store: ResultStore) -> None:
        """Close the joins that are done with, between what follows them and the acknowledgement.

        Until the successors are published, a redelivered release must find its members. And behind the acknowledgement,
        nobody would close them for a worker that died between the two.
        """
        closing = [number for number, each in workflows.items() if each.closed]
        if not closing:
            return
        ahead: list[Outgoing] = []
        for number in closing:
            ended: Any = bare[number]
            ahead += ended.successors
            bare[number] = msgspec.structs.replace(ended, successors=())
        if ahead:
            await self._broker.apublish(ahead)
        await store.aclose_joins([join for number in closing for join in workflows[number].closed])

    async def _enter(self, workflows: Mapping[int, Workflow], store: ResultStore) -> dict[int, list[Outgoing]]:
        """Write records, open joins and let members arrive; the releases of joins that are complete, by outcome."""
        if records := [record for each in workflows.values() for record in each.records]:
            await store.asave(records)
        if joins := [join for each in workflows.values() for join in each.joins]:
            await store.aopen_joins(joins)
        arrivals = [(number, arrival) for number, each in workflows.items() for arrival in each.arrivals]
        if not arrivals:
            return {}
        answers = await store.aarrive([arrival for _, arrival in arrivals])
        released: dict[int, list[Outgoing]] = {}
        joins_released: set[str] = set()
        for (number, arrival), is_complete in zip(arrivals, answers, strict=True):
            # all of those that came with the last are told that it is complete, and not every broker drops doubles
            if is_complete and arrival.join not in joins_released:
                joins_released.add(arrival.join)
                released.setdefault(number, []).append(arrival.release)
        return released
