"""What an entry says of its messages, with real workers that run them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from beat_crew import SECOND, pause

pytestmark = [pytest.mark.processes, pytest.mark.slow]

ONE = pytest.mark.parametrize("store_url", ["redis"], indirect=True)
WORK = {"task": "work", "catch_up": "all"}


def starts(crew, seconds: float) -> list[str]:
    """The runs of one entry, told by its tasks' length."""
    return [task_id for what, task_id, _, _, length in crew.work() if what == "start" and length == seconds]


def times(crew, task_id: str) -> list[float]:
    """When a task was known to run, from its start on."""
    return [when for _, each, _, when, _ in crew.work() if each == task_id]


def test_overlap(store_url, make_crew) -> None:
    """One entry skips while its last task runs; another's next instant stops the one that runs."""
    crew = make_crew(
        store_url,
        {
            "skip": {**WORK, "schedule": {"every": 1}, "overlap": "skip", "args": [2.3]},
            "cancel": {**WORK, "schedule": {"every": 2}, "overlap": "cancel_previous", "args": [60.0]},
        },
    )
    crew.begin(drains=False)
    for _ in range(2):
        crew.start(ready=False)
    crew.wait(lambda: len(starts(crew, 2.3)) >= 3, "three runs")
    crew.wait(lambda: len(starts(crew, 60.0)) >= 3, "three runs of the long one")
    skipping, cancelling = starts(crew, 2.3), starts(crew, 60.0)
    assert crew.marks()["skip"].skipped >= 3
    for ran in (skipping, cancelling):
        assert len(ran) == len(set(ran))
    for first, second in pairwise(skipping):
        assert times(crew, first)[-1] <= times(crew, second)[0], "two ran at once"
    for first, second in pairwise(cancelling):
        began = times(crew, second)[0]
        crew.wait(lambda began=began: crew.work()[-1][3] > began + 2.0, "two more seconds")
        beside_s = times(crew, first)[-1] - began
        print(f"it ran for {beside_s:.2f} s beside the next")
        assert beside_s < 10.0
    assert not [1 for what, *_, length in crew.work() if what == "end" and length == 60.0]


@ONE
def test_what_is_too_late_is_skipped(store_url, make_crew) -> None:
    every = {"task": "tick", "schedule": {"every": 10}, "catch_up": "all"}
    crew = make_crew(store_url, {"late": {**every, "max_lateness": 45}, "any": every})
    crew.begin(late=105, any=105)
    crew.start()
    crew.wait_arrival("late", crew.origins["late"] + 95 * SECOND)
    crew.wait_arrival("any", crew.origins["any"] + 95 * SECOND)
    account = crew.account()
    there, missing = account["late"]
    assert len(there) in (4, 5), "the last 45 s"
    assert max(missing) < min(there)
    assert not account["any"][1]


@ONE
def test_jitter_holds_back(store_url, make_crew) -> None:
    crew = make_crew(store_url, {"e": {"task": "tick", "schedule": {"every": 0.5}, "catch_up": "all", "jitter": 2}})
    crew.begin()
    for _ in range(2):
        crew.start(ready=False)
    crew.wait_arrivals(8)
    pause(0.3)
    crew.check()
    delays = [(each.came - each.at) / SECOND for each in crew.arrivals()]
    assert min(delays) >= -0.01, "never before its instant"
    assert max(delays) - min(delays) > 0.3
