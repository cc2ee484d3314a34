"""Results, successors, acknowledgement: in this order where they are not one step."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.engine.settle import Settler
from celeriac.errors import BrokerUnavailableError
from celeriac.model import Bury, Delivery, Done, Later, Outgoing, Release, StoredResult

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

    async def settle(self, outcomes: Any) -> Any:
        self._note("settle", outcomes)
        return ["ok"] * len(outcomes)


OUTCOMES = [
    Done(delivery=DELIVERY, result=RESULT, successors=(NEXT,)),
    Bury(delivery=DELIVERY, reason="bad", result=RESULT, successors=(NEXT,)),
    Later(delivery=DELIVERY, message=NEXT, result=RESULT),
    Release(delivery=DELIVERY, spent=True),
]


async def test_apart_it_goes_in_order() -> None:
    both: Any = Noted()
    assert await Settler(both, both, fused=False).settle(both, OUTCOMES) == ["ok"] * 4
    assert both.calls == [
        ("results", [RESULT] * 3),
        ("successors", [NEXT] * 2),
        (
            "settle",
            [
                Done(delivery=DELIVERY),
                Bury(delivery=DELIVERY, reason="bad"),
                Later(delivery=DELIVERY, message=NEXT),
                Release(delivery=DELIVERY, spent=True),
            ],
        ),
    ]


async def test_fused_it_is_one_call() -> None:
    both: Any = Noted()
    await Settler(both, both, fused=True).settle(both, OUTCOMES)
    assert both.calls == [("settle", OUTCOMES)]


async def test_without_results() -> None:
    both: Any = Noted()
    await Settler(None, both, fused=False).settle(both, OUTCOMES)
    assert [name for name, _ in both.calls] == ["successors", "settle"]


@pytest.mark.parametrize(
    ("fails", "done"), [("results", []), ("successors", ["results"]), ("settle", ["results", "successors"])]
)
async def test_what_fails_stops_what_comes_after_and_can_be_repeated(fails: str, done: list[str]) -> None:
    both: Any = Noted(fails)
    settler = Settler(both, both, fused=False)
    with pytest.raises(BrokerUnavailableError):
        await settler.settle(both, OUTCOMES)
    assert [name for name, _ in both.calls] == done
    both.fails = ""
    await settler.settle(both, OUTCOMES)
    assert [name for name, _ in both.calls] == [*done, "results", "successors", "settle"]
