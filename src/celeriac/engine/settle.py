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

from typing import TYPE_CHECKING, Any, Final

import msgspec

from celeriac.clock import SYSTEM_CLOCK
from celeriac.codec import epoch_from_iso
from celeriac.errors import ConfigError
from celeriac.model import Bury, Done, Later, Record, Release, Settled, Workflow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celeriac.clock import Clock
    from celeriac.interfaces import Broker, Consumer, ResultStore
    from celeriac.model import Outcome, Outgoing, StoredResult

TOMBSTONE: Final = "over"
"""The kind of the records that say of a task's id that it is over."""


class Settler:
    """Settles outcomes for one process; every settlement of a worker goes through one."""

    def __init__(
        self,
        results: ResultStore | None,
        broker: Broker,
        *,
        fused: bool,
        tombstones_s: float | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Wire it.

        Args:
            results: None where results are off.
            broker: Publishes what goes ahead of an acknowledgement.
            fused: It also writes results, in the transaction that acknowledges.
            tombstones_s: How long to remember that a task is over, so that its message is not run again; None: not.
            clock: For that.
        """
        self._results = results
        self._broker = broker
        self._fused = fused
        self._tombstones_s = None
        if tombstones_s is not None and results is not None and results.has_joins:
            self._tombstones_s = tombstones_s
        self._clock = clock

    async def settle(self, consumer: Consumer, outcomes: Sequence[Outcome], /) -> Sequence[Settled]:
        """As `Consumer.settle`; may be repeated with the same outcomes after an error."""
        if self._tombstones_s is None:
            return await consumer.settle(outcomes if self._fused else await self._store(outcomes))
        graves = self._graves(outcomes, self._tombstones_s)
        if self._fused:
            return await consumer.settle([_with(each, grave) for each, grave in zip(outcomes, graves, strict=True)])
        settled = await consumer.settle(await self._store(outcomes))
        # last: while one is missing, a redelivered message does all of the above again
        dug = [grave for grave, each in zip(graves, settled, strict=True) if grave is not None and each is Settled.OK]
        if dug and self._results is not None:
            await self._results.asave(dug)
        return settled

    def _graves(self, outcomes: Sequence[Outcome], kept_s: float) -> list[Record | None]:
        """A record for each task that is over, for good: of copies, others are not."""
        now = self._clock.time()
        return [
            Record(
                kind=TOMBSTONE,
                id=each.delivery.id,
                payload=b"1",
                expires_at=max(now, _eta(each.delivery.headers)) + kept_s,
            )
            if isinstance(each, Done) and not each.replaced and not each.delivery.is_copy
            else None
            for each in outcomes
        ]

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


class _Due(msgspec.Struct):
    eta: str | None = None


_decode_due = msgspec.json.Decoder(_Due).decode


def _eta(headers: bytes) -> float:
    """When it was to run, for one that somebody had run before: until then, its message is not too old."""
    if b'"eta"' not in headers:
        return 0.0
    due = _decode_due(headers).eta  # it has run, so they can be read
    return 0.0 if due is None else epoch_from_iso(due)


def _with(outcome: Outcome, grave: Record | None) -> Outcome:
    if grave is None or not isinstance(outcome, Done):
        return outcome
    workflow = outcome.workflow or Workflow()
    return msgspec.structs.replace(
        outcome, workflow=msgspec.structs.replace(workflow, records=(*workflow.records, grave))
    )
