"""A worker taken apart: claim, run and settle one message at a time, and look at every outcome."""

from __future__ import annotations

from typing import Any

from celeriac.app.application import Celeriac
from celeriac.engine.attempt import Attempt
from celeriac.engine.settle import Settler
from celeriac.model import Delivery, Outcome, new_incarnation


class ByHand:
    def __init__(self, app: Celeriac) -> None:
        self.app = app
        self.executor = app.executor("hand@test", results=app.results, fused=app.fused)
        self.settler = Settler(app.results, app.broker, fused=app.fused)
        self.consumer: Any = None

    async def claim(self, queue: str = "celery") -> Delivery:
        if self.consumer is None:
            self.consumer = await self.app.broker.open_consumer(
                [queue], incarnation=new_incarnation(), lease_s=1e9, name="hand@test"
            )
        (delivery,) = await self.consumer.claim(limit=1, wait_s=0)
        return delivery

    async def run(self, delivery: Delivery, *, stop_reason: Any = None) -> Outcome:
        attempt = self.executor.begin(delivery)
        if not isinstance(attempt, Attempt):
            return attempt
        attempt.stop_reason = stop_reason
        return await self.executor.arun(attempt) if attempt.is_async else self.executor.run(attempt)

    async def step(self) -> Any:
        """Claim, run and settle one; returns its outcome."""
        outcome = await self.run(await self.claim())
        await self.settler.settle(self.consumer, [outcome])
        return outcome

    async def lose(self, times: int = 1) -> None:
        """Claim one message and vanish, as a worker does that is killed while it runs."""
        for _ in range(times):
            incarnation = new_incarnation()
            consumer = await self.app.broker.open_consumer(["celery"], incarnation=incarnation, lease_s=1e9)
            (delivery,) = await consumer.claim(limit=1, wait_s=0)
            await self.app.broker.abandon(incarnation, running=[delivery.id])

    def meta(self, task_id: str) -> Any:
        stored = self.app.results.get([task_id]).get(task_id)
        return None if stored is None else self.app.codec.decode_result(stored.payload)
