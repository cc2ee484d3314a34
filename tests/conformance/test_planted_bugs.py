"""The model test is worth its name: it finds each planted bug, and none in the sound broker."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, Phase, settings
from planted_bugs import PLANTED, PLANTED_IN_SCHEDULES

from celeriac.brokers.memory import MemoryBroker
from celeriac.model import new_task_id
from celeriac.results.memory import MemoryResultStore
from celeriac.testing.conformance import check_broker_model, check_schedule_model

FIXED = settings(
    max_examples=150,
    stateful_step_count=50,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate,),  # to find is enough; the shortest history is not wanted
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)


UNTIL_FOUND = settings(FIXED, max_examples=3000)
"""Ids differ from run to run, so the same choices do not make quite the same history. A search ends when it finds."""


def opener(kind):
    @contextmanager
    def open_store(clock):
        url = f"memory://{new_task_id()}"
        yield kind(url, clock=clock), MemoryResultStore(url, clock=clock)

    return open_store


@pytest.mark.parametrize("kind", PLANTED, ids=lambda kind: kind.__name__)
def test_a_planted_bug_is_found(kind):
    with pytest.raises(AssertionError) as found:
        check_broker_model(opener(kind), settings=UNTIL_FOUND)
    assert found.traceback[-1].path.name == "machine.py", "it is the model that objects, no accident of the bug"


@pytest.mark.parametrize("kind", PLANTED_IN_SCHEDULES, ids=lambda kind: kind.__name__)
def test_a_bug_planted_in_schedules_is_found(kind):
    with pytest.raises(AssertionError) as found:
        check_schedule_model(opener(kind), settings=UNTIL_FOUND)
    assert found.traceback[-1].path.name == "timetable.py", "it is the model that objects, no accident of the bug"


def test_the_sound_broker_passes():
    check_broker_model(opener(MemoryBroker), settings=FIXED)
    check_schedule_model(opener(MemoryBroker), settings=FIXED)
