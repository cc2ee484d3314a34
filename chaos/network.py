"""Members that reach their server through proxies, beside others that do not, and how soon they are back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from chaos.fleet import POOLS
from chaos.history import Blame
from chaos.producer import BULK, Load
from chaos.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celeriac.testing import TcpProxy
    from chaos.fleet import Member
    from chaos.stage import Stage

GIVE_UP_S = 40.0
"""A member that does not consume again for so long is stuck, and the run breaks off."""


class Network:
    """Two workers and two producers: one of each behind a proxy, the others not.

    Workers and producers have a proxy each, so that each can be hurt by itself.

    Args:
        stage: Whose engine it is.
        per_second: How much each producer publishes.
        everyone: Put all of them behind the proxies.
        long_share: Of tasks that take seconds.
        bulk: Have a third producer publish many tasks at once, through the proxy.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        per_second: float = 60.0,
        everyone: bool = False,
        long_share: float = 0.01,
        bulk: bool = True,
    ) -> None:
        self._stage = stage
        self.near, self.workers = stage.engine.proxied(stage.url)
        """The workers' URL through their proxy, and that."""
        self.far, self.producers = stage.engine.proxied(stage.url)
        fleet = stage.fleet
        self.behind = [fleet.start_worker(url=self.near, pool=POOLS[1])]
        """Workers behind the proxy."""
        other = fleet.start_worker(url=self.near if everyone else stage.url, pool=POOLS[1])
        if everyone:
            self.behind.append(other)
        load = Load(per_second=per_second, long_share=long_share)
        self.sender = fleet.start_producer(load, url=self.far)
        fleet.start_producer(load, url=self.far if everyone else stage.url)
        if bulk:
            fleet.start_producer(BULK, url=self.far)
        self._everyone = everyone

    @property
    def proxies(self) -> tuple[TcpProxy, TcpProxy]:
        return self.workers, self.producers

    def heal(self) -> None:
        for proxy in self.proxies:
            proxy.heal()

    def each(self, what: Callable[[TcpProxy], object]) -> None:
        """Do it to both."""
        for proxy in self.proxies:
            what(proxy)

    def blame(self, *, cuts: bool) -> Blame:
        """Of a fault of these proxies: it may take leases from those behind them, or it may not."""
        if not cuts:
            return Blame()
        if self._everyone:
            return Blame(cuts=True)
        return Blame(pids=tuple(pid for one in self.behind for pid in one.pids), cuts=True, everyone=False)


def wait_works(stage: Stage, members: Sequence[Member] = (), *, since: float | None = None) -> float:
    """Wait until each of these workers has started something that was published after a moment.

    Args:
        stage: Its producers publish, or else this process does.
        members: All workers that run, unless given.
        since: On the monotonic clock; now, unless given.

    Returns:
        How long after that moment the last of them was back.
    """
    since = time.monotonic() if since is None else since
    missing = {one.name for one in members or stage.fleet.workers}
    fresh: set[str] = set()
    tail = Tail(stage.folder)
    back = since
    while missing:
        for event in sorted(tail.poll(), key=lambda each: each.t):
            name = event.p.partition(":")[0]
            if event.t < since:
                continue
            if event.f == "enqueue" and event.type == "invoke":
                fresh.add(event.id)
            elif event.f == "start" and name in missing and event.id in fresh:
                missing.discard(name)
                back = max(back, event.t)
        if missing and time.monotonic() - since > GIVE_UP_S:
            raise TimeoutError(f"{sorted(missing)} do not consume for {GIVE_UP_S:g} s\n{stage.fleet.logs()}")
        if missing:
            time.sleep(0.01)
    return back - since


def note_back(stage: Stage, number: str, members: Sequence[Member] = (), *, since: float | None = None) -> float:
    """As `wait_works`, and note it as what came after a fault."""
    took_s = wait_works(stage, members, since=since)
    stage.notes.note("back", id=number, at=round(took_s, 3))
    return took_s
