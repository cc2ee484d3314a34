"""What an entry says of its messages, with real workers that run them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from beat_crew import SECOND, pause

pytestmark = [pytest.mark.processes, pytest.mark.slow]

WORK = {"task": "work", "catch_up": "all"}


def starts(crew) -> list[str]:
    return [task_id for what, task_id, _, _ in crew.work() if what == "start"]


def last_on(crew, task_id: str) -> float:
    """When a task was last known to run."""
    return max(when for _, each, _, when in crew.work() if each == task_id)


def test_skip_while_the_last_one_runs(store_url, make_crew) -> None:
    crew = make_crew(store_url, {"e": {**WORK, "schedule": {"every": 1}, "overlap": "skip", "args": [2.3]}})
    crew.begin(drains=False)
    for _ in range(2):
        crew.start(ready=False)
    crew.wait(lambda: len(starts(crew)) >= 3, "three runs")
    crew.wait(lambda: len([1 for what, *_ in crew.work() if what == "end"]) >= 3, "their ends")
    mark = crew.marks()["e"]
    assert mark.skipped >= 4
    ran = starts(crew)
    assert len(ran) == len(set(ran))
    for first, second in pairwise(ran):
        began = min(when for what, each, _, when in crew.work() if each == second)
        assert last_on(crew, first) <= began, "two ran at once"
    instants = {at for _, _, at, _ in crew.work()}
    assert all((at - crew.origins["e"]) % SECOND == 0 for at in instants)


def test_cancel_previous_stops_the_one_that_runs(store_url, make_crew) -> None:
    crew = make_crew(store_url, {"e": {**WORK, "schedule": {"every": 2}, "overlap": "cancel_previous", "args": [60.0]}})
    crew.begin(drains=False)
    for _ in range(2):
        crew.start(ready=False)
    crew.wait(lambda: len(starts(crew)) >= 4, "four runs")
    ran = starts(crew)
    assert len(ran) == len(set(ran))
    for task_id, following in pairwise(ran):
        began = min(when for _, each, _, when in crew.work() if each == following)
        crew.wait(lambda began=began: max(when for *_, when in crew.work()) > began + 2.0, "two more seconds")
        late_s = last_on(crew, task_id) - began
        print(f"it ran for {late_s:.2f} s beside the next")
        assert late_s < 10.0
    assert not [1 for what, *_ in crew.work() if what == "end"]


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
