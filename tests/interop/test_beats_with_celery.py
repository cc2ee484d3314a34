"""Our beat before Celery's workers, Celery's beat before ours; and one beat of each kind of which one is stopped."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from interop_fleet import Fleet, only_newest, only_redis

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(120), only_newest, only_redis]

SCHEDULE = {
    "add": {"task": "interop.add", "schedule": 1.0, "args": [1, 2], "options": {"queue": "theirs"}},
    "mark theirs": {"task": "interop.mark", "schedule": 1.0, "args": ["to theirs"], "options": {"queue": "theirs"}},
    "mark ours": {"task": "interop.mark", "schedule": 1.0, "args": ["to ours"], "options": {"queue": "ours"}},
}


def test_each_beat_serves_both_kinds_of_workers(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(theirs={"beat_schedule": SCHEDULE}, ours={"task_celery_queues": ["theirs"]})
    theirs = fleet.celery.worker("-Q", "theirs", name="theirs", ready=False)
    ours = fleet.celeriac.worker("-Q", "ours", name="ours")
    theirs.wait_for_log(" ready.")
    beat = fleet.celeriac.beat(beat_schedule=SCHEDULE)
    fleet.wait_lines("to ours", 3)
    fleet.wait_lines("to theirs", 3)
    theirs.wait_for_log("Task interop.add[")
    beat.signal(15)
    assert beat.wait() == 0
    before = {text: len(fleet.lines(text)) for text in ("to ours", "to theirs")}
    beat = fleet.celery.beat()
    fleet.wait_lines("to ours", before["to ours"] + 3)
    fleet.wait_lines("to theirs", before["to theirs"] + 3)
    beat.signal(15)
    beat.wait()
    for worker in (theirs, ours):
        worker.check()
