"""Turns under a rate limit, and the clock, that the processes of a worker share."""

from __future__ import annotations

import itertools
import multiprocessing
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.worker.board import MOST_AWAY_S, PATIENCE_S, Board
from celeriac.worker.slots import SlotMap
from celeriac.worker.throttle import interval_of


@pytest.fixture
def board() -> Board:
    return SlotMap.create(slots=2, entries=2, cells=3).board()


@pytest.mark.parametrize(
    ("rate", "interval_s"),
    [("10/s", 0.1), ("10/m", 6.0), ("36/h", 100.0), ("10", 0.1), (4, 0.25), ("0", None), (0, None), (None, None)],
)
def test_rates(rate: object, interval_s: float | None) -> None:
    assert interval_of(rate) == pytest.approx(interval_s)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", ["10/x", "ten/s", "-1/s", "nan", "inf/s", "1e99", "", "/s", [], True])
def test_what_is_no_rate(rate: object) -> None:
    with pytest.raises(ValueError, match="is not a rate"):
        interval_of(rate)  # type: ignore[arg-type]


@given(
    interval_s=st.floats(0.001, 30.0),
    pauses=st.lists(st.floats(0.0, 10.0), min_size=1, max_size=80),
)
def test_no_two_turns_are_closer_than_the_interval(interval_s: float, pauses: list[float]) -> None:
    board = SlotMap.create(slots=1, entries=1, cells=1).board()
    now, turns = 100.0, []
    for pause_s in pauses:
        now += pause_s
        turn, is_mine = board.take_turn(0, interval_s, now)
        assert turn >= now
        if is_mine:
            assert turn - now <= PATIENCE_S
            turns.append(turn)
        else:
            assert turn > now, "who is sent away does not come back at once"
    assert all(after - before >= interval_s * (1 - 1e-9) for before, after in itertools.pairwise(turns))


def test_a_late_one_asks_for_the_very_next_turn(board: Board) -> None:
    assert board.take_turn(1, 1.0, 10.0) == (10.0, True)
    assert board.take_turn(1, 1.0, 10.7) == (11.0, True)
    turn, is_mine = board.take_turn(1, 1.0, 10.8)
    assert not is_mine
    assert 10.8 < turn <= 12.0 - PATIENCE_S / 2.0 + 1e-9, "back before its turn, so as to wait for it in the process"
    assert board.take_turn(2, 1.0, 10.8) == (10.8, True), "another task's turns are its own"


def test_a_long_line_comes_back_at_a_bounded_rate(board: Board) -> None:
    board.take_turn(0, 10.0, 0.0)
    moments = [board.take_turn(0, 10.0, 1.0)[0] for _ in range(1000)]
    assert moments == sorted(moments)
    assert moments[0] <= 1.0 + MOST_AWAY_S
    assert moments[-1] - moments[0] == pytest.approx(999 / 200.0)


def test_a_faster_rate_forgets_turns_of_a_slower_one(board: Board) -> None:
    board.take_turn(0, 3600.0, 0.0)
    assert not board.take_turn(0, 3600.0, 1.0)[1]
    assert not board.take_turn(0, 0.1, 2.0)[1]
    assert board.take_turn(0, 0.1, 2.2) == (pytest.approx(2.6), True)


def _take_many(slots: SlotMap, count: int, queue: multiprocessing.SimpleQueue[list[float]]) -> None:
    board = slots.board()
    queue.put([board.take_turn(0, 0.001, 0.0)[0] for _ in range(count)])
    os._exit(0)


@pytest.mark.processes
def test_processes_never_get_the_same_turn() -> None:
    slots = SlotMap.create(slots=1, entries=1, cells=1)
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.SimpleQueue[list[float]] = context.SimpleQueue()
    # few enough to stay within what a board looks ahead, or it would hand out turns of a slower rate anew
    processes = [context.Process(target=_take_many, args=(slots, 100, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    turns = sorted(turn for _ in processes for turn in queue.get())
    for process in processes:
        process.join(10.0)
    assert turns == pytest.approx([index * 0.001 for index in range(400)])


def test_the_clock_passes_what_others_have_seen(board: Board) -> None:
    slots = SlotMap.create(slots=1, entries=1)
    one, two = slots.board().clock, slots.board().clock
    assert [one.forward(), one.forward(), two.forward(), one.forward()] == [1, 2, 3, 4]
    assert two.adjust(100) == 101
    assert one.value == 101
    assert one.forward() == 102
    assert one.adjust(-5) == 103
    assert one.adjust(1 << 70) == 104, "a hostile peer does not end the count"
