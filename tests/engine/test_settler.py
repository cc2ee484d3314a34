"""Results, arrivals, then successors with the acknowledgement: in this order where they are not one step."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.engine.settle import Settler
from celeriac.errors import BrokerUnavailableError
from celeriac.model import (
    Arrival,
    Bury,
    Delivery,
    Done,
    Later,
    Outgoing,
    Release,
    Settled,
    StoredResult,
    Workflow,
)

DELIVERY = Delivery(tag=1, id="a", queue="q", headers=b"{}", body=b"")
RESULT = StoredResult(id="a", state="SUCCESS", payload=b"{}")
NEXT = Outgoing(id="b", task="t", queue="q", headers=b"{}", body=b"")


class Noted:
    """Broker, result store and consumer in one; fails where it is told to."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.calls: list[tuple[str, Any]] = []

    def _note(self, name: str, values: Any) -> None:
        if name == self.fails:
            raise BrokerUnavailableError(name)
        self.calls.append((name, list(values)))

    async def aput(self, results: Any) -> None:
        self._note("results", results)

    async def apublish(self, messages: Any) -> None:
        self._note("successors", messages)

    async def aarrive(self, arrivals: Any) -> Any:
        self._note("arrivals", arrivals)
        return [arrival.position == 1 for arrival in arrivals]

    async def aclose_joins(self, joins: Any) -> None:
        self._note("closed", joins)

    async def settle(self, outcomes: Any) -> Any:
        self._note("settle", outcomes)
        return [Settled.OK] * len(outcomes)


FOLLOWS = Outgoing(id="r", task="t", queue="q", headers=b"{}", body=b"")


OUTCOMES = [
    Done(delivery=DELIVERY, result=RESULT, successors=(NEXT,)),
    Bury(delivery=DELIVERY, reason="bad", result=RESULT, successors=(NEXT,)),
    Later(delivery=DELIVERY, message=NEXT, result=RESULT),
    Release(delivery=DELIVERY, spent=True),
]


BARE = [
    Done(delivery=DELIVERY, successors=(NEXT,)),
    Bury(delivery=DELIVERY, reason="bad", successors=(NEXT,)),
    Later(delivery=DELIVERY, message=NEXT),
    Release(delivery=DELIVERY, spent=True),
]


async def test_apart_it_goes_in_order() -> None:
    both: Any = Noted()
    assert await Settler(both, both, fused=False).settle(both, OUTCOMES) == [Settled.OK] * 4
    assert both.calls == [("results", [RESULT] * 3), ("settle", BARE)]


def arrival(position: int) -> Arrival:
    return Arrival(join="j", member=f"m{position}", position=position, payload=b"", release=FOLLOWS)


async def test_what_arrives_releases_with_the_acknowledgement() -> None:
    both: Any = Noted()
    first = Done(delivery=DELIVERY, workflow=Workflow(arrivals=(arrival(0),)))
    last = Done(delivery=DELIVERY, successors=(NEXT,), workflow=Workflow(arrivals=(arrival(1),)))
    await Settler(both, both, fused=False).settle(both, [first, last])
    assert both.calls == [
        ("arrivals", [arrival(0), arrival(1)]),
        ("settle", [Done(delivery=DELIVERY), Done(delivery=DELIVERY, successors=(NEXT, FOLLOWS))]),
    ]


async def test_members_that_arrive_together_release_once() -> None:
    """All of them are told that their join is complete, and a broker may not drop doubles."""
    both: Any = Noted()
    outcomes = [Done(delivery=DELIVERY, workflow=Workflow(arrivals=(arrival(1),))) for _ in range(2)]
    await Settler(both, both, fused=False).settle(both, outcomes)
    assert both.calls[-1] == ("settle", [Done(delivery=DELIVERY, successors=(FOLLOWS,)), Done(delivery=DELIVERY)])


async def test_a_join_is_closed_between_what_follows_it_and_the_acknowledgement() -> None:
    both: Any = Noted()
    release = Done(delivery=DELIVERY, successors=(NEXT,), workflow=Workflow(closed=("j",)))
    await Settler(both, both, fused=False).settle(both, [release, Done(delivery=DELIVERY, successors=(FOLLOWS,))])
    assert both.calls == [
        ("successors", [NEXT]),
        ("closed", ["j"]),
        ("settle", [Done(delivery=DELIVERY), Done(delivery=DELIVERY, successors=(FOLLOWS,))]),
    ]


async def test_fused_it_is_one_call() -> None:
    both: Any = Noted()
    await Settler(both, both, fused=True).settle(both, OUTCOMES)
    assert both.calls == [("settle", OUTCOMES)]


async def test_without_results() -> None:
    both: Any = Noted()
    await Settler(None, both, fused=False).settle(both, OUTCOMES)
    assert both.calls == [("settle", BARE)]


@pytest.mark.parametrize(("fails", "done"), [("results", []), ("settle", ["results"])])
async def test_what_fails_stops_what_comes_after_and_can_be_repeated(fails: str, done: list[str]) -> None:
    both: Any = Noted(fails)
    settler = Settler(both, both, fused=False)
    with pytest.raises(BrokerUnavailableError):
        await settler.settle(both, OUTCOMES)
    assert [name for name, _ in both.calls] == done
    both.fails = ""
    await settler.settle(both, OUTCOMES)
    assert [name for name, _ in both.calls] == [*done, "results", "settle"]
