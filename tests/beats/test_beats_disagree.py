"""Beats that do not know the same: one has looked since the store's clock was set, the other has not yet."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from celeriac import Celeriac
from celeriac.app.beats import make_beat
from celeriac.model import Headers


@pytest.fixture
def make_app(clock, request):
    """Applications of one store; what one sends is found by `take`."""
    apps = []

    def make(schedule) -> Celeriac:
        name = "".join(filter(str.isalnum, request.node.name))
        app = Celeriac("shop", broker=f"memory://{name}", clock=clock, beat_schedule=schedule)
        app.task(name="tidy", ignore_result=True)(lambda: None)
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.close()


def take(app) -> list[str]:
    """The nominal instants of what is in the queue, which is empty then, so that what is sent again is seen again."""
    heads = [msgspec.json.decode(each.headers, type=Headers) for each in app.broker.peek(limit=1000)]
    app.broker.purge(list(app.broker.depth()))
    return [head.headers["scheduled_at"] for head in heads]


@pytest.mark.parametrize("schedule", ["* * * * *", {"every": 60, "aligned": True}])
@pytest.mark.parametrize("policy", ["latest", "all"])
@pytest.mark.parametrize("off_s", [4 * 3600 + 20, 3600 + 20, -3600 - 20, -4 * 3600 - 20])
def test_who_has_not_heard_of_a_step_does_not_undo_what_another_did(make_app, clock, schedule, policy, off_s) -> None:
    spec = {"e": {"task": "tidy", "schedule": schedule, "catch_up": policy}}
    app = make_app(spec)
    first, second = make_beat(app), make_beat(make_app(spec))
    first.turn()
    found = []
    clock.advance(59.4)
    first.turn()
    clock.advance(0.45)
    second.turn()
    clock.step(off_s)
    clock.advance(0.1)
    for _ in range(3):
        first.turn()  # it looks, and sends what was missed
        found += take(app)
    clock.advance(0.06)
    for _ in range(20):  # by the other's clock a minute begins now, and where the mark stands is odd
        second.turn()
        found += take(app)
        clock.advance(0.05)
        first.turn()
        found += take(app)
    for _ in range(70):
        clock.advance(1.0)
        second.turn()
        first.turn()
        found += take(app)
    doubled = {at: count for at, count in Counter(found).items() if count > 1}
    assert not doubled
    waits = schedule == "* * * * *" and off_s == -3600 - 20  # for the wall clock to pass the mark
    assert len(found) >= (0 if waits else 1)
