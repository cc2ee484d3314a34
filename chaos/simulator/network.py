"""The way to the servers, and what goes wrong on it: every call of every adapter passes here.

A call can meet its process's crash or stop before or after it took effect, be lost on its way there or on its way back,
be carried out long after its caller has given it up, be carried out twice, or take long. What is met is planned
(`Bomb`) or drawn while a `Trouble` lasts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from celeriac.errors import BrokerUnavailableError, EnqueueUnknownError
from chaos.simulator.loop import PROCESS, Crash, Proc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celeriac.model import Outgoing
    from chaos.simulator.world import World

POINTS: Final = (
    "open", "claim", "settle", "beat", "beat_own", "reap", "adopt", "abandon", "close", "cancelled",
    "publish", "arrive", "join", "put", "get", "members",
    "tick", "look", "marks", "hail",
)  # fmt: skip
"""Where processes wait for a server."""
KINDS: Final = (
    "crash-before", "crash-after", "stop-before", "stop-after", "drop-before", "drop-after", "late", "twice", "slow",
    "cut",
)  # fmt: skip
_TROUBLE: Final = ("drop-before", "drop-after", "late", "twice", "slow")
_PUBLISHES: Final = ("publish",)


class Bomb(NamedTuple):
    """What one call will meet."""

    number: int
    point: str
    kind: str
    skip: int
    """So many calls there pass first."""
    size: float
    """From 0 to 1: how long it takes, how much it takes along."""


class Network:
    """See the module. One per world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loop = world.loop
        self._random = world.luck("network").random
        self._bombs: dict[str, list[list[Any]]] = {}
        self.calls: Counter[str] = Counter()
        self.hits: Counter[tuple[str, str]] = Counter()
        """Faults that met a call, by (kind, point)."""
        self._rates: dict[Proc, tuple[float, float]] = {}
        self._cuts: dict[Proc, float] = {}
        self.is_calm = False

    def arm(self, bombs: Sequence[Bomb]) -> None:
        for bomb in bombs:
            self._bombs.setdefault(bomb.point, []).append([bomb.skip, bomb])

    def trouble(self, procs: Sequence[Proc], rate: float, until: float) -> None:
        """Have so many of the calls of these fail for a while."""
        self._rates.update(dict.fromkeys(procs, (rate, until)))

    def cut(self, procs: Sequence[Proc], until: float) -> None:
        """Let nothing of these through for a while."""
        self._cuts.update(dict.fromkeys(procs, until))

    def _fate(self, proc: Proc, point: str) -> str:
        self.calls[point] += 1
        if self.is_calm or proc.role == "server":
            return ""
        armed = self._bombs.get(point)
        if armed:
            for place, one in enumerate(armed):
                one[0] -= 1
                if one[0] < 0:
                    bomb: Bomb = one[1]
                    del armed[place]
                    self.hits[bomb.kind, point] += 1
                    return self._world.nemesis.explode(bomb, proc)
        now = self._loop.now
        if self._cuts and self._cuts.get(proc, 0.0) > now:
            self.hits["cut", point] += 1
            return "cut"
        if self._rates and proc in self._rates:
            rate, until = self._rates[proc]
            if until > now and self._random() < rate:
                kind = _TROUBLE[int(self._random() * len(_TROUBLE))]
                self.hits[kind, point] += 1
                return kind
        return ""

    def _most(self, kind: str) -> float:
        return 2.0 * self._random() if kind == "slow" else 0.6 * self._random()

    async def acall(
        self, point: str, effect: Callable[[], Any], sent: Sequence[Outgoing] = (), *, late: bool = True
    ) -> Any:
        """Carry out a call of a process, asynchronously.

        Args:
            point: Which of POINTS.
            effect: What it does on the server.
            sent: Messages it publishes.
            late: Whether it may be carried out after it was given up; else it comes too late.
        """
        proc = PROCESS.get()
        kind = self._fate(proc, point)
        proc.points[point] += 1
        try:
            if not kind:
                place = self._random()
                if place < 0.4:
                    await asyncio.sleep(0.02 * place)
                result = self._at_server(effect)
                if place > 0.7:
                    await asyncio.sleep(0.02 * (1.0 - place))
                return result
            await self.abegin(proc, kind)
            if kind == "drop-before" or (kind == "cut" and self._random() < 0.5):
                raise _lost(point, sent, is_known=True)
            if kind == "late" and late:
                self._later(effect)
                raise _lost(point, sent)
            result = self._at_server(effect)
            if kind == "twice":
                result = self._at_server(effect)
            await self.aend(proc, kind)
            if kind in ("drop-after", "late", "cut"):
                raise _lost(point, sent)
            return result
        finally:
            proc.points[point] -= 1

    async def abegin(self, proc: Proc, kind: str) -> None:
        """The way there, up to where the call takes effect."""
        if kind == "crash-before" or proc.is_dead:
            await self._loop.create_future()
        await asyncio.sleep(1.0 if kind == "cut" else 0.0 if kind == "stop-before" else self._most(kind))

    async def aend(self, proc: Proc, kind: str) -> None:
        """The way back."""
        if kind == "crash-after":
            self._world.nemesis.strike(proc, kind)
            await self._loop.create_future()
        if kind == "stop-after":
            self._world.nemesis.strike(proc, kind)
        await asyncio.sleep(self._most(kind))

    def claim_fate(self, proc: Proc) -> str:
        """As of `acall`, for a claim, which does its own waiting."""
        return self._fate(proc, "claim")

    def call(self, point: str, effect: Callable[[], Any], sent: Sequence[Outgoing] = ()) -> Any:
        """Carry out a call that blocks its caller."""
        proc, pause = PROCESS.get(), self._loop.pause
        if proc.is_dead or self._loop.is_closed():
            raise Crash
        kind = self._fate(proc, point)
        proc.points[point] += 1
        try:
            if not kind:
                if proc.role == "server":
                    return effect()
                place = self._random()
                if place < 0.4:
                    pause(0.02 * place)
                result = self._at_server(effect)
                if place > 0.7:
                    pause(0.02 * (1.0 - place))
                return result
            if kind == "crash-before":
                raise Crash
            pause(1.0 if kind == "cut" else 0.0 if kind == "stop-before" else self._most(kind))
            if kind == "drop-before" or (kind == "cut" and self._random() < 0.5):
                raise _lost(point, sent, is_known=True)
            if kind == "late":
                self._later(effect)
                raise _lost(point, sent)
            result = self._at_server(effect)
            if kind == "twice":
                result = self._at_server(effect)
            if kind in ("crash-after", "stop-after"):
                self._world.nemesis.strike(proc, kind)
            pause(self._most(kind))
            if kind in ("drop-after", "cut"):
                raise _lost(point, sent)
            return result
        finally:
            proc.points[point] -= 1

    def _at_server(self, effect: Callable[[], Any]) -> Any:
        return self._world.server.context.copy().run(effect)

    def _later(self, effect: Callable[[], Any]) -> None:
        """It is on its way still."""

        def arrive() -> None:
            try:
                effect()
            except Exception:
                pass

        self._world.server.context.copy().run(self._loop.call_later, 3.0 * self._random() ** 2, arrive)


def _lost(point: str, sent: Sequence[Outgoing], *, is_known: bool = False) -> Exception:
    if point in _PUBLISHES and not is_known:
        return EnqueueUnknownError("the reply was lost", task_ids=tuple(message.id for message in sent))
    return BrokerUnavailableError(f"{point} was lost {'on its way' if is_known else 'or its reply was'}")
