"""The model test of beats, and that it finds what it is there for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from beat_machine import check_beats

from celeriac.app.beats import BeatHost
from celeriac.brokers.memory.schedules import MemorySchedules
from celeriac.errors import BrokerUnavailableError
from celeriac.model import new_task_id
from celeriac.scheduler import Beat
from celeriac.scheduler import beat as beating
from celeriac.scheduler import plan as planning


@pytest.fixture(autouse=True)
def few_are_a_rush(monkeypatch):
    """So that messages that go out before they are due are among what is tried."""
    monkeypatch.setattr(beating, "_RUSHES", ((3_000_000, 4), (1_000_000, 2)))


def test_beats_keep_to_the_rules() -> None:
    check_beats(examples=80, steps=40)


# -- bugs on purpose


def no_compare_and_set(patch: pytest.MonkeyPatch) -> None:
    real = MemorySchedules._tick

    def tick(store: Any, tick: Any) -> Any:
        mark = store._table.marks.get(tick.name)
        return real(store, msgspec.structs.replace(tick, after=0 if mark is None else mark.at))

    patch.setattr(MemorySchedules, "_tick", tick)


def message_and_mark_in_two_steps(patch: pytest.MonkeyPatch) -> None:
    def tick(host: Any, ticks: Any) -> Any:
        host._app.broker.publish([tick.message for tick in ticks if tick.message is not None])
        return host.store.tick([msgspec.structs.replace(tick, message=None) for tick in ticks])

    patch.setattr(BeatHost, "tick", tick)


def sent_again_with_a_new_id_when_an_answer_was_lost(patch: pytest.MonkeyPatch) -> None:
    real = BeatHost.tick

    def tick(host: Any, ticks: Any) -> Any:
        try:
            return real(host, ticks)
        except BrokerUnavailableError:
            messages = [tick.message for tick in ticks if tick.message is not None]
            host._app.broker.publish([msgspec.structs.replace(each, id=new_task_id()) for each in messages])
            raise

    patch.setattr(BeatHost, "tick", tick)


def no_grace(patch: pytest.MonkeyPatch) -> None:
    def plan(entry: Any, mark: Any, now: int, *, grace: int) -> Any:
        return planning.plan(entry, mark, now, grace=0)

    patch.setattr(beating, "plan", plan)


def the_time_of_a_pause_was_missed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(beating, "_since", lambda entry, since: entry)


def forgotten_after_a_failure(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Beat, "_try", Beat._see_to)


def a_clock_that_went_back_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(planning, "AHEAD", 10 * 3600 * 1_000_000)


def early_and_not_held_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Beat, "_message", lambda beat, entry, at, now: beat._host.build(entry, at, beat._host.task_id(entry.name, at))
    )


def all_is_one(patch: pytest.MonkeyPatch) -> None:
    real = planning._steps
    patch.setattr(
        planning, "_steps", lambda entry, *more: real(msgspec.structs.replace(entry, catch_up="latest"), *more)
    )


def changes_are_not_seen(patch: pytest.MonkeyPatch) -> None:
    real = MemorySchedules.look

    def look(store: Any, revision: int = 0, /) -> Any:
        news = real(store, revision)
        return msgspec.structs.replace(news, rows=()) if revision else news

    patch.setattr(MemorySchedules, "look", look)


PLANTED = (
    no_compare_and_set,
    message_and_mark_in_two_steps,
    sent_again_with_a_new_id_when_an_answer_was_lost,
    no_grace,
    the_time_of_a_pause_was_missed,
    forgotten_after_a_failure,
    a_clock_that_went_back_is_waited_for,
    early_and_not_held_back,
    all_is_one,
    changes_are_not_seen,
)


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.__name__)
def test_the_model_finds(bug, monkeypatch) -> None:
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        check_beats(examples=3000, number=5, shrinks=False)
