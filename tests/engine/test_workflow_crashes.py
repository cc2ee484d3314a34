"""A worker that dies between any two steps of a settlement: nothing is lost, and nothing follows twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from celeriac import Celeriac, chain, chord, group
from celeriac.engine.attempt import Attempt
from celeriac.engine.settle import Settler
from celeriac.model import Later, new_incarnation


class Died(BaseException):
    """The worker's process."""


class Mortal:
    """A store or consumer whose caller dies right before or right after its nth call of all."""

    def __init__(self, inner: Any, world: World) -> None:
        self._inner = inner
        self._world = world

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._inner, name)

        async def counted(*args: Any) -> Any:
            self._world.tick()
            found = await call(*args)
            self._world.tick()
            return found

        return counted


class World:
    """One worker after another over a broker and a result store, which are one engine or two."""

    def __init__(self, name: str, dies_at: int, fused: bool) -> None:
        backend = f"memory://{name}" if fused else f"memory://{name}-results"
        self.app = Celeriac("crashes", broker=f"memory://{name}", backend=backend)
        assert self.app.fused is fused
        self.dies_at = dies_at
        self.ticks = 0
        self.ran: Counter[str] = Counter()
        self.fails = False

        @self.app.task(name="note", bind=True)
        def note(self_: Any, *args: Any) -> list[Any]:
            self.ran[self_.request.id] += 1
            if self.fails and args == ("fail",):
                raise ValueError(1)
            return list(args)

        @self.app.task(name="swap", bind=True)
        def swap(self_: Any) -> None:
            self.ran[self_.request.id + "-swap"] += 1
            raise self_.replace(chain(note.si("a"), group(note.s("b"), note.s("c"))))

        self.note, self.swap = note, swap

    def tick(self) -> None:
        self.ticks += 1
        if self.ticks == self.dies_at:
            raise Died

    async def run(self) -> None:
        executor = self.app.executor("mortal", results=self.app.results, fused=self.app.fused)
        while True:
            incarnation = new_incarnation()
            consumer = await self.app.broker.open_consumer(["celery"], incarnation=incarnation, lease_s=1e9)
            settler = Settler(
                Mortal(self.app.results, self),  # type: ignore[arg-type]
                Mortal(self.app.broker, self),  # type: ignore[arg-type]
                fused=self.app.fused,
            )
            held: list[str] = []
            try:
                while found := await consumer.claim(limit=2, wait_s=0):
                    held = [delivery.id for delivery in found]
                    outcomes = []
                    for delivery in found:
                        attempt = executor.begin(delivery)
                        assert isinstance(attempt, Attempt)
                        outcomes.append(executor.run(attempt))
                    assert not any(isinstance(one, Later) for one in outcomes)
                    await settler.settle(Mortal(consumer, self), outcomes)  # type: ignore[arg-type]
            except Died:
                await self.app.broker.abandon(incarnation, running=held)
                continue
            await consumer.close()
            return


async def _lives(case: str, dies_at: int, *, fused: bool) -> tuple[int, Any, Counter[str]]:
    world = World(f"{case}-{dies_at}-{fused}", dies_at, fused)
    note = world.note
    header = [chain(note.si(1), note.s(2)), world.swap.si(), note.si("fail"), chord([note.si(3)], note.s(4))]
    world.fails = case == "fails"
    result = chain(chord(header, note.s("body").on_error(note.si("told"))), note.s("after")).apply_async()
    await world.run()
    meta = world.app.codec.decode_result(world.app._result_store().get([result.id])[result.id].payload)
    return world.ticks, meta, world.ran


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "apart"])
@pytest.mark.parametrize("case", ["succeeds", "fails"])
async def test_a_death_at_any_step(case: str, fused: bool) -> None:
    steps, undisturbed, ran = await _lives(case, 0, fused=fused)
    assert undisturbed.status == ("SUCCESS" if case == "succeeds" else "FAILURE")
    assert set(ran.values()) == {1}
    for dies_at in range(1, steps + 1):
        _, meta, again = await _lives(case, dies_at, fused=fused)
        assert (meta.status, type(meta.result)) == (undisturbed.status, type(undisturbed.result))
        if case == "succeeds":
            assert meta.result == undisturbed.result
        assert len(again) == len(ran), "as many different tasks have run"
        # the two that it held, and in two stores what follows one that keeps no result
        assert sum(again.values()) <= sum(ran.values()) + 2, (dies_at, again)
