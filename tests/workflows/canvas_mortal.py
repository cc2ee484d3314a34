"""The application for workers whose processes die, by SIGKILL, before or after any step of a settlement.

CANVAS_DEATHS tells how many may die at each step, and CANVAS_ODDS how likely it is fatal until then.
"""

from __future__ import annotations

import functools
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from canvas_app import app, write

from celeriac.brokers.redis.broker import RedisBroker
from celeriac.brokers.redis.consumer import RedisConsumer
from celeriac.brokers.sqlite.broker import SqliteBroker
from celeriac.brokers.sqlite.consumer import SqliteConsumer
from celeriac.model import Done, Settled
from celeriac.model.states import is_final
from celeriac.results.redis.store import RedisResultStore
from celeriac.results.sqlite.store import SqliteResultStore

__all__ = ["app"]

STEPS = {
    RedisBroker: ("apublish",),
    SqliteBroker: ("apublish",),
    RedisConsumer: ("settle",),
    SqliteConsumer: ("settle",),
    RedisResultStore: ("aput", "aopen_joins", "aarrive", "aclose_joins", "asave"),
    SqliteResultStore: ("aput", "aopen_joins", "aarrive", "aclose_joins", "asave"),
}
KEPT = {
    "aput": lambda results, _: [one.id for one in results if is_final(one.state)],
    "settle": lambda outcomes, answers: [
        one.delivery.id
        for one, answer in zip(outcomes, answers, strict=True)
        if isinstance(one, Done) and one.result is not None and answer is Settled.OK
    ],
}
"""Of which tasks it is known from then on how they ended."""
DEATHS = int(os.environ["CANVAS_DEATHS"])
ODDS = float(os.environ["CANVAS_ODDS"])


def fate(step: str) -> None:
    """Perhaps the end of this process. That it was one is in the ledger."""
    if random.SystemRandom().random() >= ODDS:
        return
    places = Path(os.environ["INTEROP_LEDGER"]).parent
    for number in range(DEATHS):
        try:
            (places / f"death {step} {number}").touch(exist_ok=False)
        except FileExistsError:
            continue
        write({"event": "death", "step": step, "pid": os.getpid()})
        os.kill(os.getpid(), signal.SIGKILL)


def mortal(owner: type, name: str) -> None:
    done: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(done)
    async def with_fate(*args: Any, **kwargs: Any) -> Any:
        fate(f"before {owner.__name__}.{name}")
        answer = await done(*args, **kwargs)
        if kept := list(KEPT[name](args[1], answer) if name in KEPT else ()):
            write({"event": "kept", "ids": kept, "pid": os.getpid()})
        fate(f"after {owner.__name__}.{name}")
        return answer

    setattr(owner, name, with_fate)


for _owner, _names in STEPS.items():
    for _name in _names:
        mortal(_owner, _name)
