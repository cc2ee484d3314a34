"""The application of a world. Its tasks write the history, as those of `chaos.application` do; one object serves all
processes of a world and all worlds of a process, since what is kept in it is only made once.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from celeriac import Celeriac
from chaos.simulator.broker import ModelBroker, ModelResults
from chaos.simulator.loop import CLOCK

if TYPE_CHECKING:
    from chaos.simulator.world import World

LEASE_S: Final = 2.0
REAP_S: Final = 0.5
ENTRIES: Final = {"every": 1.0, "other": 1.5}
"""Of the schedule: how often, in seconds."""
MOST_RETRIES: Final = 3
SETTINGS: Final[dict[str, Any]] = {
    "worker_lease": LEASE_S,
    "worker_reap_every": REAP_S,
    "worker_grace": 5.0,
    "task_publish_timeout": 5.0,
    "task_max_deliveries": 30,
    "result_expires": 86_400,
    "beat_schedule": {
        name: {"task": "ticked", "schedule": {"every": every_s}, "args": [name]} for name, every_s in ENTRIES.items()
    },
}


def micros_of(moment: datetime) -> int:
    """Since the epoch."""
    return (moment - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


class Model:
    """An application with its adapters.

    Args:
        fused: Results are the broker's affair; else a store of their own has them.
    """

    def __init__(self, *, fused: bool) -> None:
        self.broker = ModelBroker()
        self.results = ModelResults("memory://model" if fused else "memory://results")
        self.app = Celeriac("simulator", broker="memory://model", clock=CLOCK, **SETTINGS)
        self.app.__dict__["broker"] = self.broker
        self.app.__dict__["results"] = self.results
        self.app.__dict__["control_channel"] = self.app.__dict__["event_channel"] = None
        _define(self.app, self)

    @property
    def world(self) -> World:
        return self.broker.world

    @world.setter
    def world(self, world: World) -> None:
        self.broker.world = self.results.world = world


def _define(app: Celeriac, model: Model) -> None:
    def begin(self: Any) -> str:
        token = model.world.new_token()
        request = self.request
        model.world.note("start", id=request.id, n=request.retries or 0, token=token, what=self.name)
        model.world.began(request.id, token)
        return token

    def finish(self: Any, token: str) -> str:
        request = self.request
        model.world.note("end", id=request.id, n=request.retries or 0, token=token, what=self.name)
        return token

    @app.task(bind=True, name="work")
    def work(self: Any, seconds: float = 0.0) -> str:
        token = begin(self)
        if seconds:
            CLOCK.pause(seconds)
        return finish(self, token)

    @app.task(bind=True, name="awork")
    async def awork(self: Any, seconds: float = 0.0) -> str:
        token = begin(self)
        await asyncio.sleep(seconds)
        return finish(self, token)

    @app.task(bind=True, name="once", acks_late=False)
    async def once(self: Any, seconds: float = 0.0) -> str:
        """May not run twice, whatever happens."""
        token = begin(self)
        await asyncio.sleep(seconds)
        return finish(self, token)

    @app.task(bind=True, name="once_def", acks_late=False)
    def once_def(self: Any, seconds: float = 0.0) -> str:
        token = begin(self)
        if seconds:
            CLOCK.pause(seconds)
        return finish(self, token)

    @app.task(bind=True, name="retrying", max_retries=MOST_RETRIES, default_retry_delay=0.3)
    async def retrying(self: Any, failures: int = 1) -> str:
        token = begin(self)
        await asyncio.sleep(0.01)
        if (self.request.retries or 0) < failures:
            finish(self, token)
            raise self.retry()
        return finish(self, token)

    @app.task(bind=True, name="member")
    async def member(self: Any, flow: str, number: int, seconds: float, fails: bool = False) -> str:
        """Of a chord's header."""
        token = begin(self)
        await asyncio.sleep(seconds)
        finish(self, token)
        if fails:
            raise ValueError(f"{flow} {number}")
        return token

    @app.task(bind=True, name="step")
    async def step(self: Any, before: list[int], number: int) -> list[int]:
        token = begin(self)
        await asyncio.sleep(0.01)
        finish(self, token)
        return [*before, number]

    @app.task(bind=True, name="body")
    async def body(self: Any, values: list[str], flow: str) -> str:
        token = begin(self)
        model.world.note("body", id=flow, token=token, value=values)
        await asyncio.sleep(0.01)
        return finish(self, token)

    @app.task(bind=True, name="errback")
    def errback(self: Any, failed: str, flow: str) -> None:
        token = begin(self)
        model.world.note("errback", id=flow, token=token)
        finish(self, token)

    @app.task(bind=True, name="ticked")
    async def ticked(self: Any, entry: str) -> str:
        token = begin(self)
        at = micros_of(datetime.fromisoformat(self.request.headers["scheduled_at"]))
        model.world.note("tick", id=entry, at=at, token=token, value=self.request.id)
        await asyncio.sleep(0.01)
        return finish(self, token)
